//! One row of one part of a table under a profile.

use std::path::PathBuf;

use pipeline::degrade::Evaluation;

use super::{Extractors, Profile, TablePart, TableRow};

/// What is to be done for a row.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is scored.
    pub work: Work,
    /// The images.
    pub set: String,
    /// What FID and KID compare with.
    pub distribution: Option<String>,
    /// Task and degradation.
    pub task: Evaluation,
    /// Outputs of each image.
    pub samples: u32,
    /// Under which the scores are kept: all that they depend on.
    pub label: String,
    /// Where every output's own scores go.
    pub details: PathBuf,
}

/// What is scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The outputs of a run, which a sampling job makes.
    Run {
        /// The run.
        run: String,
        /// Where its outputs are or go.
        outputs: PathBuf,
    },
    /// What another system made.
    Outputs(String),
    /// The photographs themselves.
    Reference,
}

/// Why there is no request for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// It is the paper's alone.
    Paper,
    /// The profile does not have what it needs.
    Profile(String),
}

impl std::fmt::Display for Lacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Paper => f.write_str("the paper's numbers only"),
            Self::Profile(text) => f.write_str(text),
        }
    }
}

impl Request {
    /// That of a row.
    ///
    /// # Errors
    /// Where the profile does not have what the row needs.
    pub fn of(
        part: &TablePart,
        row: &TableRow,
        profile: &Profile,
        extractors: &Extractors,
    ) -> Result<Self, Lacks> {
        let lacks = |what: &str, name: &str| {
            Lacks::Profile(format!("the profile says no place for the {what} `{name}`"))
        };
        let set = |name: &String| profile.sets.get(name).cloned().ok_or_else(|| lacks("set", name));
        let task = part.task.to_string().replace(':', "-");
        let folder = profile.out.join(&part.set).join(&task);
        // What is sampled hangs on how; photographs do not even hang on the task.
        let sampled = format!("{} {} {:?}", part.task, part.samples, profile.sampler);
        let (work, who, how) = match row {
            TableRow { run: Some(name), .. } => {
                let run = profile.runs.get(name).cloned().ok_or_else(|| lacks("run", name))?;
                let who = match part.samples {
                    1 => name.clone(),
                    samples => format!("{name}-x{samples}"),
                };
                // Another process or checkpoint is another folder.
                let digest = storage::atomic::sha256(format!("{run} {sampled}").as_bytes());
                let who = format!("{who}-{}", digest.get(..6).unwrap_or_default());
                let outputs = folder.join(&who);
                (Work::Run { run, outputs }, format!("{task}/{who}"), sampled)
            }
            TableRow { outputs: Some(name), .. } => {
                let outputs = profile.outputs.get(name).cloned();
                let outputs = outputs.ok_or_else(|| lacks("outputs", name))?;
                (Work::Outputs(outputs), format!("{task}/{name}"), String::new())
            }
            TableRow { reference: true, .. } => {
                (Work::Reference, "photographs".to_owned(), String::new())
            }
            _ => return Err(Lacks::Paper),
        };
        let place = set(&part.set)?;
        let distribution = part.distribution.as_ref().map(set).transpose()?;
        if let Some(missing) = extractors.missing.first() {
            let text = format!("the extractor {} is missing", missing.display());
            return Err(Lacks::Profile(text));
        }
        let through: Vec<String> = extractors
            .configs
            .iter()
            .map(|one| format!("{} {} {:?}", one.sha256, one.rule(), one.scores))
            .collect();
        let depends = format!(
            "1\n{place}\n{distribution:?}\n{work:?}\n{how}\n{}\n{}\n{}\n{through:?}",
            profile.size, profile.splits, profile.kid_subset
        );
        let digest = storage::atomic::sha256(depends.as_bytes());
        let label = format!("{}/{who}#{}", part.set, digest.get(..12).unwrap_or_default());
        let details = profile.out.join("scores").join(label.replace(['/', '#'], "-") + ".csv");
        let (task, samples) = (part.task, part.samples);
        Ok(Self { work, set: place, distribution, task, samples, label, details })
    }

    /// Arguments of `evaluator run`.
    pub fn scoring(&self, profile: &Profile) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        match &self.work {
            Work::Run { outputs, .. } => add("--outputs", outputs.display().to_string()),
            Work::Outputs(_) | Work::Reference => {
                let outputs = match &self.work {
                    Work::Outputs(outputs) => outputs,
                    _ => &self.set,
                };
                add("--outputs", outputs.clone());
                add("--reference", self.set.clone());
                add("--size", profile.size.to_string());
            }
        }
        if let Some(distribution) = &self.distribution {
            add("--distribution", distribution.clone());
        }
        for extractor in &profile.extractors {
            add("--extractor", extractor.display().to_string());
        }
        add("--splits", profile.splits.to_string());
        add("--kid-subset", profile.kid_subset.to_string());
        add("--details", self.details.display().to_string());
        add("--label", self.label.clone());
        arguments
    }
}
