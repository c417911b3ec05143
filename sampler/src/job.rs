//! What a sampling job is about: the payload that `sampler submit` queues and an attempt reads.

use anyhow::{Result, bail};
use diffusion::{Precision, SamplingConfig};
use pipeline::Task;
use pipeline::degrade::Evaluation;
use pipeline::masks::MaskOptions;
use serde::{Deserialize, Serialize};
use storage::Place;
use terminal::Usage;

/// A sampling job over a dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingJob {
    /// `RUN@best`, `RUN@latest` or `RUN@STEP`: whose weights, unless there is a `checkpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A checkpoint that is no run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<GivenCheckpoint>,
    /// The dataset whose images are degraded and restored.
    pub dataset: Place,
    /// sha256 of its manifest when the job was queued.
    pub dataset_digest: String,
    /// How each image is degraded; every one of them is applied to every image.
    pub evaluations: Vec<Evaluation>,
    /// Masks that take the place of those that the evaluations draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<GivenMasks>,
    /// So many images, spread evenly over the dataset.
    pub count: u64,
    /// Outputs for each input.
    pub samples: u32,
    /// Seed of masks and noise.
    pub seed: u64,
    /// The reverse process.
    pub sampling: SamplingConfig,
    /// Images that go through the network at once; found by the memory where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Numbers that the network is computed in; found by its training and the device where it is left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Also where the network was not trained for one of the tasks.
    #[serde(default)]
    pub any_task: bool,
    /// Images of the dataset in a chunk; each chunk becomes one shard.
    pub chunk: u64,
    /// Where the outputs go.
    pub out: Place,
    /// Also write every output as a PNG file.
    pub png: bool,
}

/// A checkpoint by its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenCheckpoint {
    /// Where it is.
    pub uri: Place,
    /// Its digest when the job was queued.
    pub digest: String,
}

impl SamplingJob {
    /// Outputs for each image of the dataset.
    pub fn outputs_each(&self) -> u64 {
        self.evaluations.len() as u64 * u64::from(self.samples)
    }

    /// Refuses tasks that the network has not seen in its training, where its experiment, `name`,
    /// says what it has seen.
    ///
    /// # Errors
    /// Names the experiment and its tasks.
    pub fn check_tasks(&self, name: &str, experiment: &serde_json::Value) -> Result<()> {
        if self.any_task {
            return Ok(());
        }
        self.evaluations.iter().try_for_each(|one| check_task(name, experiment, one.task()))
    }
}

/// Refuses a task that a network has not seen in its training, where its experiment says what it has
/// seen.
///
/// # Errors
/// Names the experiment and its tasks.
pub fn check_task(name: &str, experiment: &serde_json::Value, task: Task) -> Result<()> {
    let trained = experiment.pointer("/data/tasks").and_then(|tasks| tasks.as_object());
    let Some(trained) = trained else { return Ok(()) };
    let share = |task: &str| trained.get(task).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    if share(task.name()) > 0.0 {
        return Ok(());
    }
    let known: Vec<&str> =
        trained.keys().map(String::as_str).filter(|&task| share(task) > 0.0).collect();
    bail!(Usage::new(format!(
        "{name} was trained for {}, not for {task}: choose another, or say --any-task",
        known.join(", ")
    )))
}

/// Masks from files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenMasks {
    /// `PATH` or `PATH#KEY`, as [`pipeline::masks::MaskSet::open`] takes it.
    pub place: String,
    /// How the files are read.
    pub options: MaskOptions,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_that_was_not_trained_is_refused_where_that_is_known() {
        let experiment = json!({ "data": { "tasks": { "colorization": 2.0, "jpeg": 0.0 } } });
        assert!(check_task("it", &experiment, Task::Colorization).is_ok());
        for task in [Task::Jpeg, Task::Inpainting] {
            let message = check_task("it", &experiment, task).unwrap_err().to_string();
            assert!(message.starts_with("it was trained for colorization, not for"), "{message}");
        }
        assert!(check_task("it", &json!({ "source": "imported" }), Task::Jpeg).is_ok());
    }
}
