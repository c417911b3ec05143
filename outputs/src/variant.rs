//! What an output restores: a task with the degradation that was undone.

use std::fmt;
use std::str::FromStr;

use pipeline::{Evaluation, Task};

use crate::OutputName;

/// The task of an output and its variant: two evaluations of one task, such as `jpeg:5` and `jpeg:20`, are two.
/// As text the evaluation, or the task alone where the variant is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// A task of which no evaluation is known: its masks were files, or an earlier version wrote the output.
    Task(Task),
    /// An evaluation.
    Evaluation(Evaluation),
}

impl Variant {
    /// The task.
    pub fn task(self) -> Task {
        match self {
            Self::Task(task) => task,
            Self::Evaluation(evaluation) => evaluation.task(),
        }
    }

    /// As part of a file's name: `jpeg-5`.
    pub fn file_name(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl From<Task> for Variant {
    /// A task without variants is its own evaluation.
    fn from(task: Task) -> Self {
        let default = Evaluation::default_for(task);
        if default.to_string() == task.name() {
            Self::Evaluation(default)
        } else {
            Self::Task(task)
        }
    }
}

impl From<Evaluation> for Variant {
    fn from(evaluation: Evaluation) -> Self {
        Self::Evaluation(evaluation)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => task.fmt(f),
            Self::Evaluation(evaluation) => evaluation.fmt(f),
        }
    }
}

impl FromStr for Variant {
    type Err = pipeline::Error;

    fn from_str(text: &str) -> Result<Self, pipeline::Error> {
        match text.parse::<Task>() {
            Ok(task) => Ok(task.into()),
            Err(_) => text.parse().map(Self::Evaluation),
        }
    }
}

/// Finds the variants of rows that an earlier version wrote, which name the task alone: the rows of a record
/// follow each other in the order of the job's evaluations, so that which one a row is of can be counted.
#[derive(Default)]
pub(crate) struct Variants {
    asked: Vec<Evaluation>,
    key: Option<String>,
    /// Tasks of the record's rows of sample 0.
    begun: Vec<Task>,
}

impl Variants {
    /// From the options of a manifest, where a sampling job without masks from files wrote them.
    pub(crate) fn of(options: &serde_json::Value) -> Self {
        let asked = &options["asked"];
        let evaluations = asked["masks"].is_null().then(|| asked["evaluations"].as_array());
        let evaluations = evaluations.flatten().into_iter().flatten();
        let asked = evaluations.filter_map(|one| one.as_str()?.parse().ok()).collect();
        Self { asked, ..Self::default() }
    }

    /// The name of the next row.
    pub(crate) fn resolve(&mut self, mut name: OutputName) -> OutputName {
        if self.key.as_deref() != Some(&name.key) {
            self.key = Some(name.key.clone());
            self.begun.clear();
        }
        let task = name.task.task();
        if name.sample == 0 {
            self.begun.push(task);
        }
        if let Variant::Task(_) = name.task {
            let before = self.begun.iter().filter(|one| **one == task).count();
            let mut own = self.asked.iter().filter(|one| one.task() == task);
            let found = before.checked_sub(1).and_then(|number| own.nth(number));
            name.task = found.map_or(name.task, |&evaluation| evaluation.into());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variant(text: &str) -> Variant {
        text.parse().unwrap()
    }

    #[test]
    fn evaluations_are_variants_and_a_name_alone_is_no_guess() {
        for text in ["jpeg:5", "jpeg:10:jpeg-encoder", "inpainting:center", "colorization", "jpeg"]
        {
            assert_eq!(variant(text).to_string(), text);
        }
        assert_eq!(variant("jpeg"), Variant::Task(Task::Jpeg));
        assert_ne!(variant("jpeg"), variant("jpeg:10"), "it may have been any");
        assert_eq!(variant("colorization"), Variant::from(Task::Colorization));
        assert_eq!(variant("jpeg:10:jpeg-encoder").file_name(), "jpeg-10-jpeg-encoder");
        assert!("jpeg:0".parse::<Variant>().is_err() && "../x".parse::<Variant>().is_err());
    }

    #[test]
    fn rows_of_before_are_counted_in_the_order_of_the_evaluations() {
        let options = json!({ "asked": {
            "evaluations": ["jpeg:5", "inpainting:center", "jpeg:20"],
        }});
        let rows = |key: &'static str| {
            ["jpeg", "inpainting", "jpeg"].into_iter().flat_map(move |task| {
                (0..2).map(move |sample| OutputName {
                    key: key.into(),
                    sample,
                    task: variant(task),
                })
            })
        };
        let resolved = |options: &serde_json::Value| -> Vec<String> {
            let mut variants = Variants::of(options);
            let names = rows("a").chain(rows("b")).map(|name| variants.resolve(name));
            names.map(|name| name.task.to_string()).collect()
        };
        let each =
            ["jpeg:5", "jpeg:5", "inpainting:center", "inpainting:center", "jpeg:20", "jpeg:20"];
        assert_eq!(resolved(&options), [each, each].concat());
        // Without what was asked, and with masks from files, the task is all that is known.
        let masks =
            json!({ "asked": { "evaluations": ["inpainting"], "masks": { "place": "m" } } });
        for options in [json!(null), json!({ "asked": 3 }), masks] {
            assert!(resolved(&options).iter().all(|name| !name.contains(':')));
        }
    }
}
