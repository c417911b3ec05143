//! What the leader says to the others once it knows it: a run that they train together, with the settled
//! experiment and what its data must be, or what is measured.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use contracts::Experiment;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::Place;

use super::Ranks;

/// What ranks do together.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Train a run.
    Train(Told),
    /// Measure training steps (`trainer bench`).
    Steps(Told, Measurement),
    /// Measure collectives (`trainer collectives`).
    Collectives(Sizes),
    /// Nothing more.
    End,
}

/// An experiment on its way to the others.
#[derive(Serialize, Deserialize)]
pub struct Told {
    /// The experiment, settled.
    experiment: Value,
    /// Digests of the manifests of its datasets, by their places.
    expected: BTreeMap<Place, String>,
}

/// How training steps are measured.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Measurement {
    /// Images come from the datasets of the experiment, not from memory.
    pub loader: bool,
    /// Steps before measuring begins.
    pub warmup: u64,
    /// How long to measure.
    pub seconds: f64,
    /// The state is kept at the end.
    pub keep: bool,
}

/// How collectives are measured.
#[derive(Clone, Serialize, Deserialize)]
pub struct Sizes {
    /// Sizes in units of 10⁶ bytes.
    pub megabytes: Vec<u64>,
    /// How long to measure each.
    pub seconds: f64,
}

impl Plan {
    /// Tells the others to train a run.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn tell(experiment: &Experiment, ranks: Ranks) -> Result<()> {
        Self::Train(Told::of(experiment)?).say(ranks)
    }

    /// Tells the others.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn say(&self, ranks: Ranks) -> Result<()> {
        if ranks.count() > 1 {
            ranks.tell(&serde_json::to_vec(self)?)?;
        }
        Ok(())
    }

    /// Hears the leader.
    ///
    /// # Errors
    /// When it is lost, or is another version of this program.
    pub fn hear(ranks: Ranks) -> Result<Self> {
        serde_json::from_slice(&ranks.tell(&[])?).context(OTHER_VERSION)
    }
}

const OTHER_VERSION: &str = "the first rank runs another version of this program";

impl Told {
    /// This experiment.
    ///
    /// # Errors
    /// When it is no JSON, which does not happen.
    pub fn of(experiment: &Experiment) -> Result<Self> {
        let value = serde_json::to_value(experiment)?;
        Ok(Self { experiment: value, expected: experiment.data.expected.clone() })
    }

    /// The experiment as the leader has it.
    ///
    /// # Errors
    /// When the leader is another version of this program.
    pub fn experiment(self) -> Result<Experiment> {
        let mut experiment = Experiment::from_json(&self.experiment).context(OTHER_VERSION)?;
        experiment.data.expected = self.expected;
        Ok(experiment)
    }
}
