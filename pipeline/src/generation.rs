//! Which stream of samples a configuration stands for, where versions of this crate differ.

use crate::{DataConfig, Error, Result, Task};

/// The generation of the stream of samples: what was begun on that of another is not continued on this one.
/// 0 until checkpoints recorded it; since 1 mixtures of datasets interleave, brushes of free-form masks have
/// their whole width, and JPEG at quality 9 has libjpeg's table.
pub const GENERATION: u32 = 1;

/// Whether pairs of this task differ between generations.
pub fn is_changed(task: Task) -> bool {
    matches!(task, Task::Inpainting | Task::Jpeg)
}

/// Refuses to continue a run on another stream than that which it began on. Streams of a single dataset without
/// inpainting and JPEG are the same in all generations.
///
/// # Errors
/// Names both generations and the way out.
pub fn check_generation(config: &DataConfig, begun: u32) -> Result<()> {
    let mut used = config.tasks.iter().filter(|(_, share)| **share > 0.0).map(|(task, _)| *task);
    let changed = config.datasets.len() > 1 || used.any(is_changed);
    if begun == GENERATION || !changed {
        return Ok(());
    }
    let allowed = format!(
        "{GENERATION} to resume exactly (this version draws other samples for mixtures, free-form masks and \
         JPEG); start a new run from the weights with train.init"
    );
    Err(Error::config("generation of the stream of samples", begun, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_refused() {
        let config = |datasets: usize, tasks: &[Task]| DataConfig {
            datasets: vec![
                crate::DatasetRef { uri: "/data".parse().unwrap(), weight: 1.0 };
                datasets
            ],
            tasks: tasks.iter().map(|&task| (task, 1.0)).collect(),
            ..DataConfig::default()
        };
        let colors = [Task::Colorization, Task::Uncropping];
        assert!(check_generation(&config(1, &colors), 0).is_ok());
        assert!(check_generation(&config(2, &Task::ALL), GENERATION).is_ok());
        for (datasets, tasks) in [(2, &colors[..]), (1, &[Task::Jpeg]), (1, &[Task::Inpainting])] {
            let error = check_generation(&config(datasets, tasks), 0).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("is 0, allowed: 1"), "{error}");
        }
    }
}
