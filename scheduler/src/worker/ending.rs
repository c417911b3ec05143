//! From exit status and log to one line that says why an attempt ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use crate::claim::Ended;
use crate::{BAD_CONFIGURATION, Outcome, STOPPED};

/// What is kept of a log in the database.
const TAIL_LINES: usize = 40;
const TAIL_BYTES: usize = 8 * 1024;

/// Words by which programs and libraries say that memory ran out.
const OUT_OF_MEMORY: [&str; 4] =
    ["out of memory", "OutOfMemoryError", "bad_alloc", "cannot allocate memory"];

/// Judges the end of a child. `asked`: it was told to stop. `killed`: we killed it.
pub(super) fn judge(status: ExitStatus, asked: bool, killed: bool, log: &str) -> Ended {
    let outcome = match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Outcome::Succeeded,
        Some(STOPPED) => Outcome::Stopped,
        Some(BAD_CONFIGURATION) => Outcome::Failed,
        _ if asked => Outcome::Stopped,
        _ => Outcome::Failed,
    };
    let reason = match outcome {
        Outcome::Succeeded => None,
        Outcome::Stopped if killed => {
            Some("did not stop when asked and was killed; goes on from its last checkpoint".into())
        }
        Outcome::Stopped => Some("stopped as asked".into()),
        Outcome::Failed | Outcome::Lost => Some(reason(status, log)),
    };
    let bad_configuration = status.code() == Some(i32::from(BAD_CONFIGURATION));
    Ended {
        exit_status: status.code(),
        signal: status.signal(),
        log_tail: Some(log.to_owned()),
        again: !bad_configuration,
        ..Ended::new(outcome, reason)
    }
}

fn reason(status: ExitStatus, log: &str) -> String {
    let error = log
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("error: ").map(str::to_owned))
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
        (Some(error), true, _) => format!("{how}, out of memory: {error}"),
        (Some(error), false, _) => format!("{how}: {error}"),
        (None, true, _) => format!("{how}, out of memory"),
        (None, false, Some(9)) => {
            format!("{how}, which nobody here sent: most likely out of memory")
        }
        (None, false, _) => match log.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => {
                format!("{how}, last line: {}", line.trim().chars().take(200).collect::<String>())
            }
            None => format!("{how}, its log is empty"),
        },
    }
}

/// The last lines of a log, as text that Postgres takes; of a line that was drawn over itself
/// (progress bars) the last.
pub(super) fn tail(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |file| file.len());
    let mut bytes = Vec::new();
    let from = length.saturating_sub(8 * TAIL_BYTES as u64);
    if file.seek(SeekFrom::Start(from)).is_err()
        || file.take(8 * TAIL_BYTES as u64).read_to_end(&mut bytes).is_err()
    {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes).replace('\0', "");
    let mut kept: Vec<&str> = Vec::new();
    let mut size = 0;
    for line in text.lines().rev() {
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').next().unwrap_or(line);
        size += line.len() + 1;
        if kept.len() == TAIL_LINES || (size > TAIL_BYTES && !kept.is_empty()) {
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn reasons_name_status_signal_memory_and_the_last_error() {
        let reason = |status, log| judge(status, false, false, log).reason;
        let cases = [
            (exit(0), "error: of old\n", None),
            (exit(1), "a\nerror: no disk\nerror: no room\nb", Some("exit status 1: no room")),
            (exit(1), "working\nlast words\n\n", Some("exit status 1, last line: last words")),
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
        ];
        for (status, log, expected) in cases {
            assert_eq!(reason(status, log).as_deref(), expected, "{status} {log}");
        }
    }

    #[test]
    fn what_was_asked_to_stop_has_not_failed_unless_its_configuration_is_bad() {
        let judge = |status, asked| {
            let ended = judge(status, asked, false, "");
            (ended.outcome, ended.again)
        };
        assert_eq!(judge(exit(75), false), (Outcome::Stopped, true));
        assert_eq!(judge(ExitStatus::from_raw(15), true), (Outcome::Stopped, true));
        assert_eq!(judge(ExitStatus::from_raw(15), false), (Outcome::Failed, true));
        assert_eq!(judge(exit(2), true), (Outcome::Failed, false));
        assert_eq!(judge(exit(0), true), (Outcome::Succeeded, true));
    }

    #[test]
    fn tails_are_short_and_plain() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: String = (0..5000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(file.path(), format!("{lines}10%\r20%\r30%\nzero \0 byte \u{fffd}\n"))
            .unwrap();
        let tail = tail(file.path());
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 4999\n30%\nzero  byte \u{fffd}"), "{tail}");
        assert_eq!(super::tail(Path::new("/nowhere")), "");
    }
}
