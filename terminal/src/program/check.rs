//! Whether a program takes a command line: asked of the program itself, by one that will have it started later.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use anstream::adapter::strip_str;
use clap::Command;

use super::without_secrets;
use crate::visible::visible_line;

/// The hidden command of all programs that answers.
const COMMAND: &str = "check-arguments";

/// The answer for arguments that can be taken.
const TAKEN: &str = "taken";

/// Before the reason, for those that cannot.
const REFUSED: &str = "refused: ";

/// Characters of a reason, at most: an answer fits a pipe.
const LONGEST: usize = 2000;

/// How long a program may take for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a program says of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It takes them.
    Taken,
    /// It refuses them, for this reason, one line.
    Refused(String),
    /// It did not answer: it is of an earlier version, or does not start.
    Unknown(String),
}

/// Asks a program whether it takes these arguments. It parses them and does nothing.
pub fn check(program: &Path, arguments: &[String]) -> Checked {
    match ask(program, arguments) {
        Ok(answer) => read(&answer),
        Err(error) => Checked::Unknown(error.to_string()),
    }
}

fn ask(program: &Path, arguments: &[String]) -> std::io::Result<String> {
    let mut child = Process::new(program)
        .args([COMMAND, "--"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdout = child.stdout.take();
    // The answer is short and fits the pipe: the program ends before it is read.
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::other("it gives no answer"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut answer = String::new();
    if let Some(stdout) = &mut stdout {
        std::io::Read::read_to_string(stdout, &mut answer)?;
    }
    Ok(answer)
}

fn read(answer: &str) -> Checked {
    let answer = answer.trim_end();
    match answer.strip_prefix(REFUSED) {
        Some(reason) => Checked::Refused(reason.to_owned()),
        None if answer == TAKEN => Checked::Taken,
        None => Checked::Unknown("it does not check arguments, as earlier versions".to_owned()),
    }
}

/// What this program says of arguments: one line, which [`read`] reads.
pub(super) fn answer(command: &Command, arguments: &[OsString]) -> String {
    let name = OsString::from(command.get_name());
    let all = std::iter::once(&name).chain(arguments);
    match command.clone().try_get_matches_from(all) {
        Ok(_) => TAKEN.to_owned(),
        Err(error) if !error.use_stderr() => format!("{REFUSED}they print help and do no work"),
        Err(error) => {
            let said = strip_str(&without_secrets(error)).to_string();
            let lines: Vec<&str> = said.lines().map(str::trim).collect();
            // The first paragraph: what is wrong. Usage and tips follow.
            let first = lines.split(|line| line.is_empty()).next().unwrap_or_default().join(" ");
            let reason = first.strip_prefix("error: ").unwrap_or(&first);
            let short: String = reason.chars().take(LONGEST).collect();
            format!("{REFUSED}{}", visible_line(&short))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::tests::Demo;
    use crate::{Build, command};

    #[test]
    fn what_a_program_takes_and_what_not_is_said_in_one_line() {
        let demo = command::<Demo>(Build::default());
        let asked = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let said = answer(&demo, &arguments);
            assert_eq!(said.lines().count(), 1, "{said}");
            read(&(said + "\n"))
        };
        assert_eq!(asked(&["work", "--fast"]), Checked::Taken);
        for (arguments, says) in [
            (&["work", "--slow"][..], "unexpected argument '--slow' found"),
            (&["nonsense"], "unrecognized subcommand 'nonsense'"),
            (&["work", "--help"], "they print help"),
        ] {
            let Checked::Refused(reason) = asked(arguments) else { panic!("{arguments:?}") };
            assert!(reason.contains(says) && !reason.contains('\x1b'), "{reason}");
        }
        let Checked::Refused(reason) = asked(&["work", "https://me:s3cret@h/x"]) else { panic!() };
        assert!(!reason.contains("s3cret"), "{reason}");
    }

    #[test]
    fn no_answer_is_no_refusal() {
        for program in ["/nowhere/at/all", "/bin/false", "/bin/echo"] {
            let checked = check(Path::new(program), &["work".to_owned()]);
            assert!(matches!(checked, Checked::Unknown(_)), "{program}: {checked:?}");
        }
    }
}
