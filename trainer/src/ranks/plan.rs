//! What the leader says to the others once it knows it: the settled experiment, and what its data must be.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use contracts::Experiment;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::Place;

use super::Ranks;

/// A run that ranks train together.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    /// The experiment, settled.
    experiment: Value,
    /// Digests of the manifests of its datasets, by their places.
    expected: BTreeMap<Place, String>,
}

impl Plan {
    /// Tells the others.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn tell(experiment: &Experiment, ranks: Ranks) -> Result<()> {
        if ranks.count() == 1 {
            return Ok(());
        }
        let plan = Self {
            experiment: serde_json::to_value(experiment)?,
            expected: experiment.data.expected.clone(),
        };
        ranks.tell(&serde_json::to_vec(&plan)?)?;
        Ok(())
    }

    /// Hears the leader.
    ///
    /// # Errors
    /// When it is lost, or is another version of this program.
    pub fn hear(ranks: Ranks) -> Result<Experiment> {
        let told = ranks.tell(&[])?;
        let plan: Self = serde_json::from_slice(&told)
            .context("the first rank runs another version of this program")?;
        let mut experiment = Experiment::from_json(&plan.experiment)
            .context("the first rank runs another version of this program")?;
        experiment.data.expected = plan.expected;
        Ok(experiment)
    }
}
