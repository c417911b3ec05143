//! What Slurm says of a partition, where it can be asked.

use std::time::Duration;

use super::{Answer, ask};

/// What a pilot wants to know of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The longest that a job may take; none where there is no limit.
    pub longest: Option<Duration>,
    /// How its jobs make room for others.
    pub preemption: Preemption,
}

/// How jobs of a partition make room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// They never do, or are only suspended.
    Off,
    /// They are asked to end, and killed this long after (and `KillWait` of Slurm's configuration, usually 30 seconds).
    After(Duration),
}

impl Partition {
    /// Asks Slurm; nothing where there is no Slurm, or where it does not answer as it is known here.
    ///
    /// # Errors
    /// In Slurm's words: there is no such partition.
    pub fn ask(name: &str) -> Result<Option<Self>, String> {
        match ask("scontrol", &["show", "partition", "-o", name]) {
            Answer::Said(text) => Ok(Self::read(&text)),
            Answer::Refused(words) if words.ends_with("not found") => Err(words),
            Answer::Refused(words) => {
                tracing::warn!("partition {name} cannot be asked about: {words}");
                Ok(None)
            }
            Answer::Absent(_) => Ok(None),
        }
    }

    /// Reads the line that `scontrol show partition -o` prints.
    fn read(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut words = text.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let longest = match field("MaxTime")? {
            "UNLIMITED" | "INFINITE" => None,
            time => Some(registry::walltime(time).ok()?),
        };
        let grace = field("GraceTime").and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        let preemption = match field("PreemptMode").unwrap_or("OFF") {
            mode if mode.contains("REQUEUE") || mode.contains("CANCEL") => {
                Preemption::After(Duration::from_secs(grace))
            }
            _ => Preemption::Off,
        };
        Some(Self { longest, preemption })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_as_scontrol_prints_it() {
        let read = |rest: &str| Partition::read(&format!("PartitionName=gpu AllowQos=ALL {rest}"));
        assert_eq!(
            read("GraceTime=90 MaxTime=1-00:00:00 PreemptMode=REQUEUE State=UP"),
            Some(Partition {
                longest: Some(Duration::from_secs(86_400)),
                preemption: Preemption::After(Duration::from_secs(90)),
            })
        );
        assert_eq!(
            read("GraceTime=0 MaxTime=UNLIMITED PreemptMode=OFF"),
            Some(Partition { longest: None, preemption: Preemption::Off })
        );
        assert_eq!(
            read("MaxTime=2:00:00 PreemptMode=GANG,SUSPEND").map(|partition| partition.preemption),
            Some(Preemption::Off)
        );
        assert_eq!(read("State=UP"), None);
    }
}
