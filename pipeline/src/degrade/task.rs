//! Tasks as text: the name of the degradation that is to be undone.

use std::fmt;
use std::str::FromStr;

use super::Task;
use crate::Error;

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|task| task.name() == text)
            .ok_or_else(|| Error::config("task", format!("`{text}`"), Self::names()))
    }
}

impl Task {
    /// The names of all tasks in a sentence: `colorization, …, jpeg or superresolution`.
    pub(crate) fn names() -> String {
        let names: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
        match names.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}
