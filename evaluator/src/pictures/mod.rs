//! Where the pictures of an evaluation come from: outputs of sampling jobs, datasets of photographs, and
//! folders, which is how other systems come in. [`Pairs`] brings outputs and references together by key.

mod folder;
mod pairs;
mod set;

pub use folder::Folder;
pub use pairs::{Counts, Decoded, NO_TASK, Pair, Pairs, Sizes};
pub use set::Set;
