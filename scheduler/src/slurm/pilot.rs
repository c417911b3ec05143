//! The script of a pilot: a job of Slurm that takes jobs of the queue until none is left that it could do.

use std::fmt::Write;
use std::time::Duration;

use super::MARGIN;
use super::words::quoted;

/// What a pilot is to be. Its texts have passed [`word`](super::word) and the like, so that none becomes a line or a
/// word of its own.
#[derive(Clone, Debug)]
pub struct Pilot {
    /// What Slurm calls it.
    pub name: String,
    /// The partition, or several with commas.
    pub partition: String,
    /// Who pays.
    pub account: Option<String>,
    /// Quality of service.
    pub qos: Option<String>,
    /// How many pilots, as tasks of an array, and how many of them at once.
    pub array: Option<(u32, Option<u32>)>,
    /// Hosts of one pilot, each with a worker.
    pub nodes: u32,
    /// GPUs of each host.
    pub gpus: Option<String>,
    /// Cores of each host.
    pub cpus: Option<u32>,
    /// Memory of each host.
    pub memory: Option<String>,
    /// How long one start of it may take.
    pub time: Option<Duration>,
    /// What the jobs have for a checkpoint when it must end.
    pub grace: Duration,
    /// Where its output goes.
    pub output: Option<String>,
    /// Whether it is queued again when it must end with work left, and how often at most.
    pub requeue: Option<Option<u32>>,
    /// Further options of `sbatch`.
    pub options: Vec<String>,
    /// A file of shell that sets up its environment.
    pub environment: Option<String>,
    /// The program `scheduler`, as the hosts find it.
    pub program: String,
    /// The arguments of `scheduler worker`.
    pub worker: Vec<String>,
    /// The arguments of the command that printed it.
    pub command: Vec<String>,
}

impl Pilot {
    /// How long before the end of its time Slurm tells it so.
    fn lead(&self) -> Duration {
        self.grace + MARGIN
    }

    /// The script, for `sbatch`.
    pub fn script(&self) -> String {
        let mut script = String::from("#!/bin/bash\n");
        // Writing to a text cannot fail.
        let _ = self.write(&mut script);
        script
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let command: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        writeln!(to, "# Workers of the queue as a job of Slurm (docs/cluster.md), printed by")?;
        writeln!(to, "#   scheduler slurm {}", command.join(" "))?;
        for (name, value) in self.lines() {
            match value {
                Some(value) => writeln!(to, "#SBATCH --{name}={value}")?,
                None => writeln!(to, "#SBATCH --{name}")?,
            }
        }
        for option in &self.options {
            writeln!(to, "#SBATCH {option}")?;
        }
        writeln!(to)?;
        self.write_surroundings(to)?;
        self.write_work(to)?;
        if let Some(most) = self.requeue {
            write_requeue(to, most)?;
        }
        writeln!(to, "exit \"$status\"")
    }

    /// The options that it sets itself.
    fn lines(&self) -> Vec<(&'static str, Option<String>)> {
        let mut lines = vec![
            ("job-name", Some(self.name.clone())),
            ("partition", Some(self.partition.clone())),
        ];
        lines.extend(self.account.clone().map(|account| ("account", Some(account))));
        lines.extend(self.qos.clone().map(|qos| ("qos", Some(qos))));
        lines.extend(self.array.map(|(pilots, at_once)| {
            let at_once = at_once.map_or_else(String::new, |at_once| format!("%{at_once}"));
            ("array", Some(format!("1-{pilots}{at_once}")))
        }));
        lines.push(("nodes", Some(self.nodes.to_string())));
        lines.push(("ntasks-per-node", Some("1".to_owned())));
        lines.extend(self.cpus.map(|cpus| ("cpus-per-task", Some(cpus.to_string()))));
        lines.extend(self.gpus.clone().map(|gpus| ("gpus-per-node", Some(gpus))));
        lines.extend(self.memory.clone().map(|memory| ("mem", Some(memory))));
        lines.extend(self.time.map(|time| ("time", Some(clock(time)))));
        // To the workers, not to this script: without `B:`.
        lines.push(("signal", Some(format!("USR1@{}", self.lead().as_secs()))));
        lines.push((if self.requeue.is_some() { "requeue" } else { "no-requeue" }, None));
        lines.extend(self.output.as_ref().map(|output| ("output", Some(format!("\"{output}\"")))));
        // What it said before it was requeued stays.
        lines.push(("open-mode", Some("append".to_owned())));
        lines
    }

    fn write_surroundings(&self, to: &mut String) -> std::fmt::Result {
        if let Some(file) = &self.environment {
            writeln!(to, ". {} || exit 2", quoted(file))?;
        }
        to.write_str(
            "if [ -z \"${DATABASE_URL:-}\" ]; then\n    \
             echo \"pilot: DATABASE_URL is not set: the private database of one host is no place for a cluster\" >&2\n    \
             exit 2\n\
             fi\n",
        )?;
        if self.gpus.is_none() && !self.options.iter().any(|option| option.contains("gpu")) {
            writeln!(to, "# No GPU was asked for: those of the host are other people's.")?;
            writeln!(to, "export CUDA_VISIBLE_DEVICES=")?;
        }
        writeln!(to)
    }

    fn write_work(&self, to: &mut String) -> std::fmt::Result {
        let worker: Vec<String> = self.worker.iter().map(|word| quoted(word)).collect();
        let cpus = self.cpus.map_or_else(String::new, |cpus| format!(" --cpus-per-task={cpus}"));
        writeln!(
            to,
            "# Slurm's signals are meant for the workers. This script hears some of them too, and waits.\n\
             trap : TERM USR1\n\
             srun --export=ALL --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1{cpus} --kill-on-bad-exit=0 \\\n    \
             {program} worker {worker}\n\
             status=$?\n",
            nodes = self.nodes,
            program = quoted(&self.program),
            worker = worker.join(" "),
        )
    }
}

/// Status 75: the worker put its jobs back because it had to end. Nothing else leads to a requeue, so that a pilot that
/// cannot work ends as failed.
fn write_requeue(to: &mut String, most: Option<u32>) -> std::fmt::Result {
    to.write_str(
        r#"# 75: a worker had to end before its time, and work is left. It is done when this job runs again.
if [ "$status" -eq 75 ]; then
    # The number of one task of an array is that of the array.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
"#,
    )?;
    if let Some(most) = most {
        write!(
            to,
            r#"    if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {most} ]; then
        echo "pilot: work is left, but it was started again {most} times: it ends here" >&2
        exit 75
    fi
"#
        )?;
    }
    to.write_str(
        r#"    for pause in 0 5 15 30; do
        sleep "$pause"
        facts=$(scontrol show job -o "$job") && break
        facts=
    done
    case " $facts " in
    # Its own end, the warning before its time is over, or the time that a preempted job is given; preempted without it.
    *" JobState=RUNNING "* | *" PreemptTime="[0-9]*)
        echo "pilot: work is left: $job is queued again (start $((${SLURM_RESTART_COUNT:-0} + 2)))"
        scontrol requeue "$job" && exit 0
        echo "pilot: not requeued by this script; Slurm may have done so itself (squeue -j $job)" >&2
        ;;
    "  ")
        echo "pilot: work is left, and Slurm does not answer: submit another" >&2
        ;;
    *)
        echo "pilot: work is left, but $job was cancelled or is out of time: it ends here" >&2
        ;;
    esac
fi
"#,
    )
}

/// A time as Slurm writes it: `4:00:00`, `2-00:00:00`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match seconds / 86_400 {
        0 => clock,
        days => format!("{days}-{clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pilot() -> Pilot {
        Pilot {
            name: "palette".into(),
            partition: "gpu".into(),
            account: None,
            qos: None,
            array: None,
            nodes: 1,
            gpus: None,
            cpus: None,
            memory: None,
            time: None,
            grace: Duration::from_secs(120),
            output: None,
            requeue: Some(None),
            options: Vec::new(),
            environment: None,
            program: "/opt/palette/bin/scheduler".into(),
            worker: vec!["--slurm".into()],
            command: vec!["--partition".into(), "gpu".into()],
        }
    }

    fn is_shell(script: &str) {
        let status = std::process::Command::new("bash").args(["-n", "-c", script]).status();
        assert!(status.unwrap().success(), "{script}");
    }

    #[test]
    fn a_pilot_asks_for_what_it_was_told_and_nothing_else() {
        let all = Pilot {
            account: Some("vision".into()),
            qos: Some("low".into()),
            array: Some((8, Some(4))),
            nodes: 2,
            gpus: Some("a100:4".into()),
            cpus: Some(16),
            memory: Some("64G".into()),
            time: Some(Duration::from_secs(2 * 86_400)),
            output: Some("/logs of us/%A_%a.out".into()),
            requeue: Some(Some(20)),
            options: vec!["--constraint=nvlink".into()],
            environment: Some("/etc/lab's.env".into()),
            ..pilot()
        };
        let script = all.script();
        is_shell(&script);
        let lines: Vec<&str> =
            script.lines().filter_map(|line| line.strip_prefix("#SBATCH ")).collect();
        assert_eq!(
            lines,
            [
                "--job-name=palette",
                "--partition=gpu",
                "--account=vision",
                "--qos=low",
                "--array=1-8%4",
                "--nodes=2",
                "--ntasks-per-node=1",
                "--cpus-per-task=16",
                "--gpus-per-node=a100:4",
                "--mem=64G",
                "--time=2-00:00:00",
                "--signal=USR1@130",
                "--requeue",
                "--output=\"/logs of us/%A_%a.out\"",
                "--open-mode=append",
                "--constraint=nvlink",
            ]
        );
        assert!(script.contains("\n. '/etc/lab'\\''s.env' || exit 2\n"), "{script}");
        assert!(script.contains("-ge 20 ]"), "{script}");
        assert!(!script.contains("CUDA_VISIBLE_DEVICES"), "{script}");

        let least = pilot().script();
        is_shell(&least);
        assert!(least.contains("export CUDA_VISIBLE_DEVICES=\n"), "{least}");
        assert!(
            !least.contains("--time=") && !least.contains("RESTART_COUNT:-0}\" -ge"),
            "{least}"
        );
        let asked = Pilot { options: vec!["--gres=gpu:2".into()], ..pilot() }.script();
        assert!(!asked.contains("CUDA_VISIBLE_DEVICES"), "{asked}");
    }

    #[test]
    fn without_requeue_slurm_is_told_so_too() {
        let script = Pilot { requeue: None, ..pilot() }.script();
        is_shell(&script);
        assert!(script.contains("#SBATCH --no-requeue\n"), "{script}");
        assert!(!script.contains("scontrol"), "{script}");
    }

    #[test]
    fn words_of_the_worker_stay_words() {
        let worker = vec!["--label".into(), "a=$(touch x); 'b\" c".into()];
        let script = Pilot { worker, ..pilot() }.script();
        is_shell(&script);
        assert!(script.contains(r#"worker --label 'a=$(touch x); '\''b" c'"#), "{script}");
    }

    #[test]
    fn times_are_written_as_slurm_reads_them() {
        for text in ["04:00:00", "1-00:00:00", "00:01:30", "30-12:00:01"] {
            assert_eq!(clock(registry::walltime(text).unwrap()), text);
        }
    }
}
