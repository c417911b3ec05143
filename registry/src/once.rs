//! What is said once in a process, however often it is found.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// True the first time that this text is to be said.
pub(crate) fn first(text: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.insert(text.to_owned())
}
