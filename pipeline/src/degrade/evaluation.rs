//! Evaluations as text: the task's name, and after a colon which of its forms. The name alone means
//! what the paper reports first.

use std::fmt;
use std::str::FromStr;

use super::registry::FORMS;
use super::{Evaluation, Task};
use crate::{Error, Result};

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (task, form) = (self.task(), self.form());
        if form.is_empty() {
            return f.pad(task.name());
        }
        f.pad(&format!("{task}:{form}"))
    }
}

impl FromStr for Evaluation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_once(':') {
            None => text.parse().ok().map(Self::default_for),
            Some((task, form)) => {
                task.parse::<Task>().ok().and_then(|task| Self::of_form(task, form))
            }
        };
        parsed.ok_or_else(|| {
            let allowed = format!("a task's name for its first, or {}", FORMS.join(", "));
            Error::config("evaluation degradation", format!("`{text}`"), allowed)
        })
    }
}

impl TryFrom<String> for Evaluation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Evaluation> for String {
    fn from(evaluation: Evaluation) -> Self {
        evaluation.to_string()
    }
}
