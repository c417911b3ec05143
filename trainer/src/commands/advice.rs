//! What is said of an experiment whose values do not fit its length, where it is submitted or run.

use std::collections::BTreeSet;

use contracts::Experiment;
use contracts::experiment::Advice;

/// What was found so far; of many experiments each thing is said once.
#[derive(Default)]
pub struct Found(BTreeSet<Advice>);

impl Found {
    /// Looks at one more experiment.
    pub fn add(&mut self, experiment: &Experiment) {
        self.0.extend(experiment.advice());
    }

    /// Warns, a line each. Nothing is changed, and nothing stops.
    pub fn say(&self) {
        for advice in &self.0 {
            tracing::warn!("{advice}");
        }
    }
}

/// Warns of what does not fit an experiment.
pub fn say(experiment: &Experiment) {
    let mut found = Found::default();
    found.add(experiment);
    found.say();
}
