//! Where the pictures of an evaluation come from: outputs of sampling jobs, datasets of photographs, and
//! folders, which is how other systems come in. [`Plan`] brings outputs and references together by key.

mod folder;
mod plan;
mod set;

pub use folder::Folder;
pub use plan::{Counts, NO_TASK, Pair, Plan, Sizes};
pub use set::{Set, address};
