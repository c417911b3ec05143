//! What a worker learns from the allocation that it runs in (`scheduler worker --slurm`).

use std::time::{Duration, SystemTime};

use super::{Answer, ask};

/// What is kept free at the end of an allocation, for what comes after the last job: storing its end, Slurm's clock.
pub const MARGIN: Duration = Duration::from_secs(10);

/// What Slurm has given to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its job, as Slurm's commands take it: `12`, or `12_3` for a task of an array.
    pub job: String,
    /// Labels that say where it is, so that jobs can ask for them: `partition`, `node`, `slurm-job`.
    pub labels: Vec<(String, String)>,
    /// When it ends, in seconds since 1970, where this version of Slurm says so in the environment.
    ends_at: Option<u64>,
}

impl Allocation {
    /// Reads the variables that Slurm sets for what it starts.
    ///
    /// # Errors
    /// Where this process was not started by Slurm.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|text| !text.is_empty());
        let raw = variable("SLURM_JOB_ID")
            .ok_or("SLURM_JOB_ID is not set: only what a job of Slurm starts has an allocation")?;
        // The number of one task of an array is that of the array, whose tasks Slurm's commands would then take all.
        let job = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
            (Some(array), Some(task)) => format!("{array}_{task}"),
            _ => raw,
        };
        let mut labels = vec![("slurm-job".to_owned(), job.clone())];
        for (label, name) in [("partition", "SLURM_JOB_PARTITION"), ("node", "SLURMD_NODENAME")] {
            labels.extend(variable(name).map(|value| (label.to_owned(), value)));
        }
        let ends_at = variable("SLURM_JOB_END_TIME").and_then(|seconds| seconds.parse().ok());
        Ok(Self { job, labels, ends_at })
    }

    /// How long it goes on; nothing where it has no limit.
    ///
    /// # Errors
    /// Where neither the environment nor Slurm says so.
    pub fn time_left(&self) -> Result<Option<Duration>, String> {
        if let Some(end) = self.ends_at {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            return Ok(Some(Duration::from_secs(end).saturating_sub(now)));
        }
        match ask("squeue", &["-h", "-j", &self.job, "-o", "%L"]) {
            Answer::Said(text) => time_left(&text),
            Answer::Refused(words) => Err(words),
            Answer::Absent(error) => Err(format!("squeue: {error}")),
        }
    }
}

/// Reads the time left as `squeue -o %L` prints it.
fn time_left(text: &str) -> Result<Option<Duration>, String> {
    match text.trim() {
        "UNLIMITED" => Ok(None),
        left => registry::walltime(left)
            .map(Some)
            .map_err(|_| format!("squeue says `{left}`, which is no time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_an_array_is_not_taken_for_the_array() {
        let set = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            }
        };
        let alone = Allocation::read(set(&[("SLURM_JOB_ID", "12"), ("SLURM_ARRAY_JOB_ID", "")]));
        assert_eq!(alone.unwrap().job, "12");
        let task = Allocation::read(set(&[
            ("SLURM_JOB_ID", "12"),
            ("SLURM_ARRAY_JOB_ID", "12"),
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_JOB_PARTITION", "gpu"),
            ("SLURMD_NODENAME", "n7"),
        ]))
        .unwrap();
        assert_eq!(task.job, "12_3");
        let labels: Vec<String> =
            task.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["slurm-job=12_3", "partition=gpu", "node=n7"]);
        assert!(Allocation::read(|_| None).unwrap_err().contains("SLURM_JOB_ID is not set"));
    }

    #[test]
    fn the_time_left_is_read_as_squeue_prints_it() {
        assert_eq!(time_left("UNLIMITED\n"), Ok(None));
        assert_eq!(time_left("1-02:00:00"), Ok(Some(Duration::from_secs(93_600))));
        assert_eq!(time_left("0:45"), Ok(Some(Duration::from_secs(45))));
        for text in ["", "INVALID", "NOT_SET", "1:00\n2:00"] {
            assert!(time_left(text).unwrap_err().contains("no time"), "{text}");
        }
    }
}
