//! One row of one part of a table under a profile.

use std::path::PathBuf;

use anyhow::{Context, Result};
use contracts::EvaluationRequest;
use contracts::evaluation::PictureSet;
use pipeline::degrade::Evaluation;
use terminal::Usage;

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
            .map(|one| {
                let network = (one.input, &one.features, &one.logits, &one.maps);
                format!("{} {} {network:?} {:?}", one.sha256, one.rule(), one.scores)
            })
            .collect();
        let depends = format!(
            "2\n{place}\n{distribution:?}\n{work:?}\n{how}\n{}\n{}\n{}\n{through:?}",
            profile.size, profile.splits, profile.kid_subset
        );
        let digest = storage::atomic::sha256(depends.as_bytes());
        let label = format!("{}/{who}#{}", part.set, digest.get(..12).unwrap_or_default());
        let details = profile.out.join("scores").join(label.replace(['/', '#'], "-") + ".csv");
        let (task, samples) = (part.task, part.samples);
        Ok(Self { work, set: place, distribution, task, samples, label, details })
    }

    /// What the scoring job is asked for.
    ///
    /// # Errors
    /// For a place of the profile that is no address, and where there is no working directory.
    pub fn scoring(&self, profile: &Profile) -> Result<EvaluationRequest> {
        let set = |text: &str| -> Result<PictureSet> {
            text.parse().map_err(|error| Usage::new(format!("the profile: {error}")).into())
        };
        let absolute =
            |file: &PathBuf| std::path::absolute(file).with_context(|| file.display().to_string());
        let (outputs, reference, size) = match &self.work {
            // Sampled at the size of the network, beside their references.
            Work::Run { outputs, .. } => (set(&outputs.display().to_string())?, None, None),
            Work::Outputs(outputs) => (set(outputs)?, Some(set(&self.set)?), Some(profile.size)),
            Work::Reference => (set(&self.set)?, Some(set(&self.set)?), Some(profile.size)),
        };
        Ok(EvaluationRequest {
            outputs,
            reference,
            distribution: self.distribution.as_deref().map(set).transpose()?,
            extractors: profile.extractors.iter().map(absolute).collect::<Result<_>>()?,
            size,
            splits: profile.splits,
            kid_subset: profile.kid_subset,
            structure: true,
            details: Some(absolute(&self.details)?),
            label: Some(self.label.clone()),
        })
    }
}
