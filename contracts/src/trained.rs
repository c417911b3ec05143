//! What is known of how weights were trained, from the experiment that their checkpoint carries.

use std::collections::BTreeMap;

use diffusion::Precision;
use pipeline::Task;
use serde::Deserialize;
use serde_json::Value;
use tch::Device;

use crate::Error;
use crate::experiment::PrecisionChoice;

/// How weights were trained, as far as that is known: imported weights carry other JSON than an
/// experiment, and an experiment of another version may have other keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trained {
    /// Weights of the tasks by their names.
    pub tasks: Option<BTreeMap<String, f64>>,
    /// Numbers that the network was computed in.
    pub precision: Option<PrecisionChoice>,
    /// Threads of libtorch on the CPU; none where they were not counted.
    pub threads: Option<usize>,
}

impl Trained {
    /// What the experiment of a checkpoint says.
    pub fn of(experiment: &Value) -> Self {
        let part = |table: &str, key: &str| experiment.get(table)?.get(key);
        Self {
            tasks: part("data", "tasks").and_then(|tasks| Deserialize::deserialize(tasks).ok()),
            precision: part("train", "precision")
                .and_then(|precision| Deserialize::deserialize(precision).ok()),
            threads: part("train", "threads")
                .and_then(|threads| usize::deserialize(threads).ok())
                .filter(|threads| *threads > 0),
        }
    }

    /// Refuses a task that the weights called `name` were not trained for, where that is known.
    ///
    /// # Errors
    /// Names the tasks that they were trained for.
    pub fn check_task(&self, name: &str, task: Task) -> Result<(), Error> {
        let Some(tasks) = &self.tasks else { return Ok(()) };
        let known: Vec<&str> = tasks
            .iter()
            .filter(|(_, share)| **share > 0.0)
            .map(|(task, _)| task.as_str())
            .collect();
        if known.contains(&task.name()) {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "{name} was trained for {}, not for {task}: choose another, or say --any-task",
            known.join(", ")
        )))
    }

    /// The numbers that a network is sampled in unless others are asked for: on a GPU those that it was
    /// trained in; on the CPU, where bf16 is not faster, fp32.
    pub fn sampling_precision(&self, device: Device) -> Precision {
        match self.precision {
            Some(precision) if device.is_cuda() && precision != PrecisionChoice::Auto => {
                precision.on(device)
            }
            _ => Precision::Fp32,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_that_was_not_trained_is_refused_where_that_is_known() {
        let experiment = json!({ "data": { "tasks": { "colorization": 2.0, "jpeg": 0.0 } } });
        let trained = Trained::of(&experiment);
        assert!(trained.check_task("it", Task::Colorization).is_ok());
        for task in [Task::Jpeg, Task::Inpainting] {
            let message = trained.check_task("it", task).unwrap_err().to_string();
            assert!(message.starts_with("it was trained for colorization, not for"), "{message}");
        }
        let imported = Trained::of(&json!({ "source": "imported" }));
        assert!(imported.check_task("it", Task::Jpeg).is_ok());
    }

    #[test]
    fn a_network_is_computed_as_it_was_trained_on_gpus_and_exactly_on_cpus() {
        let trained = |precision: &str, device| {
            Trained::of(&json!({ "train": { "precision": precision } })).sampling_precision(device)
        };
        assert_eq!(trained("bf16", Device::Cuda(0)), Precision::Bf16);
        assert_eq!(trained("tf32", Device::Cuda(0)), Precision::Tf32);
        assert_eq!(trained("bf16", Device::Cpu), Precision::Fp32);
        // Imported weights, and a run of which only its configuration is known.
        let imported = Trained::of(&json!({ "imported": "file" }));
        assert_eq!(imported.sampling_precision(Device::Cuda(0)), Precision::Fp32);
        assert_eq!(trained("auto", Device::Cuda(0)), Precision::Fp32);
    }
}
