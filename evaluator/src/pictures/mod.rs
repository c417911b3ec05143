//! Where the pictures of an evaluation come from: outputs of sampling jobs, datasets of photographs, and
//! folders, which is how other systems come in. [`Pairs`] brings outputs and references together by key.

mod folder;
mod pairs;
mod set;

pub use folder::Folder;
pub use pairs::{Counts, Decoded, NO_TASK, Pair, Pairs, Sizes};
pub use set::Set;

/// Whether outputs that are told to be of `of` are those of `task`: all whose task is not known are, and those
/// of an earlier version, which kept the task without its degradation.
pub fn is_of_task(of: Option<&str>, task: &str) -> bool {
    let bare = task.split(':').next();
    of.is_none_or(|of| of == task || of == NO_TASK || Some(of) == bare)
}
