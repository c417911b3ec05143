//! Slurm: the script of a pilot, which is a job of Slurm whose workers take jobs of the queue; what Slurm says of a
//! partition; and what a worker learns from the allocation that it runs in.
//!
//! Slurm is asked through its own commands (`sbatch`, `scontrol`, `squeue`), found by `PATH`.

mod allocation;
mod partition;
mod pilot;
mod words;

use std::process::{Command, Stdio};

pub use self::allocation::{Allocation, MARGIN};
pub use self::partition::{Partition, Preemption};
pub use self::pilot::{Pilot, clock};
pub use self::words::{count_of_gpus, memory, option, path, pattern, word};

/// What a command of Slurm answered.
enum Answer {
    /// What it printed, without the line feed at its end.
    Said(String),
    /// It refused, in its own words.
    Refused(String),
    /// There is no such command here, or it cannot be started.
    Absent(std::io::Error),
}

/// Asks a command of Slurm.
fn ask(program: &str, arguments: &[&str]) -> Answer {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Err(error) => Answer::Absent(error),
        Ok(output) if output.status.success() => Answer::Said(text(&output.stdout)),
        Ok(output) => Answer::Refused(words_of(program, &output)),
    }
}

/// Why a command of Slurm failed: its last line, else its status.
fn words_of(program: &str, output: &std::process::Output) -> String {
    let said = [text(&output.stderr), text(&output.stdout)].join("\n");
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
    last.unwrap_or_else(|| format!("{program} ended with {}", output.status))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// What Slurm named a job that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Submitted {
    /// Its number.
    pub job: u64,
    /// The cluster, where Slurm has several.
    pub cluster: Option<String>,
}

/// Variables by which `sbatch` overrides lines of a script; a pilot is as its script says.
const OVERRIDES: [&str; 16] = [
    "SBATCH_ACCOUNT",
    "SBATCH_ARRAY_INX",
    "SBATCH_CPUS_PER_TASK",
    "SBATCH_GPUS",
    "SBATCH_GPUS_PER_NODE",
    "SBATCH_GPUS_PER_TASK",
    "SBATCH_JOB_NAME",
    "SBATCH_MEM_PER_NODE",
    "SBATCH_NO_REQUEUE",
    "SBATCH_OPEN_MODE",
    "SBATCH_OUTPUT",
    "SBATCH_PARTITION",
    "SBATCH_QOS",
    "SBATCH_REQUEUE",
    "SBATCH_SIGNAL",
    "SBATCH_TIMELIMIT",
];

/// Hands a script to `sbatch`.
///
/// # Errors
/// In words for people: `sbatch` is not here, or Slurm does not take the script.
pub fn submit(script: &str) -> Result<Submitted, String> {
    use std::io::Write;
    let mut command = Command::new("sbatch");
    for name in OVERRIDES {
        command.env_remove(name);
    }
    let streams = command.arg("--parsable").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = streams.stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no sbatch here: submit from a host of the cluster, or print the \
                                         script (without --submit) and take it there"
                .to_owned()
        }
        _ => format!("sbatch cannot be started: {error}"),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A sbatch that ends before it has read all says why itself.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("sbatch: {error}"))?;
    if !output.status.success() {
        return Err(format!("Slurm does not take the pilot: {}", words_of("sbatch", &output)));
    }
    submitted(&text(&output.stdout))
}

/// Reads `JOB` or `JOB;CLUSTER`, what `sbatch --parsable` prints.
fn submitted(said: &str) -> Result<Submitted, String> {
    let line = said.lines().last().unwrap_or_default();
    let (job, cluster) = match line.split_once(';') {
        Some((job, cluster)) => (job, Some(cluster.to_owned())),
        None => (line, None),
    };
    match job.trim().parse() {
        Ok(job) => Ok(Submitted { job, cluster }),
        Err(_) => Err(format!("sbatch said `{line}`, which names no job")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_submitted_job_is_read() {
        assert_eq!(submitted("42"), Ok(Submitted { job: 42, cluster: None }));
        assert_eq!(submitted("42;lab"), Ok(Submitted { job: 42, cluster: Some("lab".into()) }));
        assert_eq!(submitted("welcome\n7"), Ok(Submitted { job: 7, cluster: None }));
        assert!(submitted("").unwrap_err().contains("names no job"));
    }
}
