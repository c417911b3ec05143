//! From exit status and log to one line that says why an attempt ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use registry::{BAD_CONFIGURATION, Ended, Outcome, STOPPED, Tail};

use super::log::shown;

/// Words by which programs and libraries say that memory ran out.
const OUT_OF_MEMORY: [&str; 4] =
    ["out of memory", "OutOfMemoryError", "bad_alloc", "cannot allocate memory"];

/// What the worker knows of the way to the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circumstances {
    /// The child was told to stop, for this reason.
    pub asked: Option<&'static str>,
    /// We killed it.
    pub killed: bool,
    /// The kernel ended some process meanwhile because memory ran out.
    pub memory_ran_out: bool,
}

/// Judges the end of a child.
pub(super) fn judge(status: ExitStatus, circumstances: Circumstances, log: Tail) -> Ended {
    let Circumstances { asked, killed, memory_ran_out } = circumstances;
    let outcome = match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Outcome::Succeeded,
        Some(STOPPED) => Outcome::Stopped,
        Some(BAD_CONFIGURATION) => Outcome::Failed,
        _ if asked.is_some() => Outcome::Stopped,
        _ => Outcome::Failed,
    };
    let reason = match outcome {
        Outcome::Succeeded => None,
        Outcome::Stopped if killed => {
            Some("did not stop when asked and was killed; goes on from its last checkpoint".into())
        }
        Outcome::Stopped => Some(asked.unwrap_or("stopped by itself at a checkpoint").into()),
        Outcome::Failed | Outcome::Lost => Some(reason(status, memory_ran_out, &log.text)),
    };
    let bad_configuration = status.code() == Some(i32::from(BAD_CONFIGURATION));
    Ended {
        exit_status: status.code(),
        signal: status.signal(),
        log: Some(log),
        again: !bad_configuration,
        by_itself: outcome == Outcome::Stopped && asked.is_none(),
        ..Ended::new(outcome, reason)
    }
}

/// Says of a rank how it ended, unless that already says which rank is at fault: `rank 3 on node7 was killed by …`.
pub(super) fn of_rank(which: &str, how: &str) -> String {
    match how {
        how if names_ranks(how) => how.to_owned(),
        how if how.starts_with("killed by ") => format!("{which} was {how}"),
        how => format!("{which}: {how}"),
    }
}

/// Whether a text begins with ranks and their host, as the trainer names those at fault.
fn names_ranks(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("rank") else { return false };
    let (ranks, host) = rest.split_once(" on ").unwrap_or_default();
    let ranks = ranks.strip_prefix('s').unwrap_or(ranks).replace(" to ", " ");
    let mut ranks = ranks.split_whitespace().peekable();
    !host.is_empty() && ranks.peek().is_some() && ranks.all(|rank| rank.parse::<u32>().is_ok())
}

fn reason(status: ExitStatus, memory_ran_out: bool, log: &str) -> String {
    let lines: Vec<_> = log.lines().map(|line| terminal::plain(shown(line))).collect();
    let error = lines
        .iter()
        .rev()
        .find_map(|line| line.trim().strip_prefix("error: "))
        .map(|error| error.chars().take(500).collect::<String>());
    let lower = log.to_lowercase();
    let memory = OUT_OF_MEMORY.iter().any(|words| lower.contains(&words.to_lowercase()));
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or("unknown signal", Signal::as_str);
            format!("killed by {name}")
        }
        (None, None) => "ended".to_owned(),
    };
    match (error, memory, status.signal()) {
        // The error names the rank at fault; the status is that of the host's first rank.
        (Some(error), _, None) if names_ranks(&error) => error,
        (Some(error), true, _) => format!("{how}, out of memory: {error}"),
        (Some(error), false, _) => format!("{how}: {error}"),
        (None, true, _) => format!("{how}, out of memory"),
        (None, false, Some(9)) if memory_ran_out => {
            format!("{how}, out of memory: the kernel ended a process for want of it meanwhile")
        }
        (None, false, Some(9)) => {
            format!("{how}, which nobody here sent: most likely out of memory")
        }
        (None, false, _) => match lines.iter().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => {
                format!("{how}, last line: {}", line.trim().chars().take(200).collect::<String>())
            }
            None => format!("{how}, its log is empty"),
        },
    }
}

/// How many processes the kernel has ended so far because memory ran out, here or on the whole host; it
/// counts, so that a difference is evidence. None where it does not say.
pub(super) fn out_of_memory_kills() -> Option<u64> {
    let count = |file: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    };
    let counts = ["/sys/fs/cgroup/memory.events", "/proc/vmstat"].map(count);
    counts.into_iter().flatten().reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn reasons_name_status_signal_memory_and_the_last_error() {
        let tail = |log: &str| Tail { text: log.to_owned(), bytes: 0 };
        let reason = |status, log: &str| judge(status, Circumstances::default(), tail(log)).reason;
        let cases = [
            (exit(0), "error: of old\n", None),
            (exit(1), "a\nerror: no disk\nerror: no room\nb", Some("exit status 1: no room")),
            (exit(1), "working\nlast words\n\n", Some("exit status 1, last line: last words")),
            (
                exit(1),
                "{\"level\":\"ERROR\",\"message\":\"no disk\",\"target\":\"terminal\"}\n",
                Some("exit status 1: no disk"),
            ),
            (exit(101), "", Some("exit status 101, its log is empty")),
            (
                exit(1),
                "error: CUDA out of memory. Tried",
                Some("exit status 1, out of memory: CUDA out of memory. Tried"),
            ),
            (ExitStatus::from_raw(6), "std::bad_alloc", Some("killed by SIGABRT, out of memory")),
            (
                ExitStatus::from_raw(9),
                "step 5",
                Some("killed by SIGKILL, which nobody here sent: most likely out of memory"),
            ),
            (ExitStatus::from_raw(11), "x", Some("killed by SIGSEGV, last line: x")),
            (
                exit(1),
                "error: rank 3 on b was killed by SIGKILL",
                Some("rank 3 on b was killed by SIGKILL"),
            ),
            (
                exit(1),
                "error: ranks 2 to 3 on b: out of memory",
                Some("ranks 2 to 3 on b: out of memory"),
            ),
            (exit(1), "error: rank 3: on", Some("exit status 1: rank 3: on")),
            (exit(1), "error: ranks on b", Some("exit status 1: ranks on b")),
        ];
        for (status, log, expected) in cases {
            assert_eq!(reason(status, log).as_deref(), expected, "{status} {log}");
        }
        let starved = Circumstances { memory_ran_out: true, ..Circumstances::default() };
        let reason = judge(ExitStatus::from_raw(9), starved, tail("step 5")).reason.unwrap();
        assert!(reason.starts_with("killed by SIGKILL, out of memory: the kernel"), "{reason}");
    }

    #[test]
    fn a_rank_is_named_once() {
        for (how, named) in [
            (
                "killed by SIGKILL, out of memory",
                "rank 2 on b was killed by SIGKILL, out of memory",
            ),
            ("exit status 1: no disk", "rank 2 on b: exit status 1: no disk"),
            ("rank 3 on b was killed by SIGKILL", "rank 3 on b was killed by SIGKILL"),
        ] {
            assert_eq!(of_rank("rank 2 on b", how), named);
        }
    }

    #[test]
    fn who_stops_though_nobody_asked_is_told_apart() {
        let by_itself = |status, asked| {
            judge(status, Circumstances { asked, ..Circumstances::default() }, Tail::default())
                .by_itself
        };
        assert!(by_itself(exit(75), None));
        assert!(!by_itself(exit(75), Some("stopped as asked")));
        assert!(!by_itself(exit(0), None) && !by_itself(exit(1), None));
    }

    #[test]
    fn what_was_asked_to_stop_has_not_failed_unless_its_configuration_is_bad() {
        let judge = |status, asked| {
            let ended =
                judge(status, Circumstances { asked, ..Circumstances::default() }, Tail::default());
            (ended.outcome, ended.again)
        };
        assert_eq!(judge(exit(75), None), (Outcome::Stopped, true));
        let asked = Some("stopped as asked");
        assert_eq!(judge(ExitStatus::from_raw(15), asked), (Outcome::Stopped, true));
        assert_eq!(judge(ExitStatus::from_raw(15), None), (Outcome::Failed, true));
        assert_eq!(judge(exit(2), asked), (Outcome::Failed, false));
        assert_eq!(judge(exit(0), asked), (Outcome::Succeeded, true));
    }
}
