//! Whether the programs of jobs start on this host. One without its libraries, or built for another processor, fails
//! every job that it is given, and no job is at fault.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use registry::Ended;

/// How a shell or a linker ends that could not run a program.
const CANNOT: [i32; 2] = [126, 127];

/// Programs that ended as one does that cannot start, until they are found to start.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspects(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Suspects {
    pub fn add(&self, program: &Path) {
        self.lock().insert(program.to_owned());
    }

    /// Says of one that it does not start; clears the others.
    pub fn failing(&self, patience: Duration) -> Option<String> {
        let suspects = self.lock().clone();
        suspects.into_iter().find_map(|program| match fault(&program, patience) {
            Some(fault) => Some(format!("{} does not start: {fault}", program.display())),
            None => {
                self.lock().remove(&program);
                None
            }
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an attempt ended as it does where its program cannot start: by the status of a shell or a linker that
/// could not run it, or by a signal of the processor.
pub(super) fn may_not_have_started(ended: &Ended) -> bool {
    const SIGNALS: [Signal; 6] = [
        Signal::SIGILL,
        Signal::SIGBUS,
        Signal::SIGSEGV,
        Signal::SIGABRT,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ];
    ended.exit_status.is_some_and(|status| CANNOT.contains(&status))
        || ended.signal.is_some_and(|signal| SIGNALS.iter().any(|known| *known as i32 == signal))
}

/// What keeps a program from saying its version.
fn fault(program: &Path, patience: Duration) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if program.exists() => {
            return Some(format!("{error}; is it built for this host, its interpreter there?"));
        }
        Err(error) => return Some(error.to_string()),
    };
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            answer => {
                let _ = child.kill();
                let _ = child.wait();
                return Some(match answer {
                    Err(error) => error.to_string(),
                    _ => format!("no answer within {}", terminal::duration(patience)),
                });
            }
        }
    };
    // With any other status it has started, and has something against the question.
    if status.code().is_some_and(|code| !CANNOT.contains(&code)) {
        return None;
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    let said = terminal::plain(said.lines().next().unwrap_or_default()).into_owned();
    let how = how(status);
    Some(if said.trim().is_empty() { how } else { format!("{how}: {}", said.trim()) })
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(Ok(signal))) => format!("killed by {}", signal.as_str()),
        _ => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use registry::Outcome;

    use super::*;

    #[test]
    fn a_program_that_does_not_start_is_told_until_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("trainer");
        let suspects = Suspects::default();
        assert_eq!(suspects.failing(Duration::from_secs(60)), None, "nobody is suspected");
        suspects.add(&program);
        for (text, says) in [
            ("#!/bin/sh\necho no libtorch.so >&2; exit 127", "exit status 127: no libtorch.so"),
            ("#!/bin/sh\nkill -ILL $$", "killed by SIGILL"),
            ("#!/nowhere/sh", "its interpreter"),
        ] {
            std::fs::write(&program, text).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            let said = suspects.failing(Duration::from_secs(60)).unwrap();
            assert!(said.contains("does not start") && said.contains(says), "{said}");
        }
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000").unwrap();
        assert!(suspects.failing(Duration::from_millis(50)).unwrap().contains("no answer"));
        std::fs::write(&program, "#!/bin/sh\nexit 2").unwrap();
        assert_eq!(suspects.failing(Duration::from_secs(60)), None);
        std::fs::remove_file(&program).unwrap();
        assert_eq!(suspects.failing(Duration::from_secs(60)), None, "it is suspected no more");
    }

    #[test]
    fn only_some_ends_raise_the_suspicion() {
        let ended = |exit_status, signal| Ended {
            exit_status,
            signal,
            ..Ended::new(Outcome::Failed, None)
        };
        for (status, signal) in [(Some(127), None), (Some(126), None), (None, Some(4))] {
            assert!(may_not_have_started(&ended(status, signal)));
        }
        for (status, signal) in [(Some(1), None), (Some(2), None), (None, Some(9)), (None, None)] {
            assert!(!may_not_have_started(&ended(status, signal)));
        }
    }
}
