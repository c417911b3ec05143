//! What all programs share at the terminal: the command line, exit status, the one-line error, messages,
//! progress, tables, colours, units and helper processes. A package without a program does not depend on it, nor does the
//! library of `pipeline` use it (the tests of `workspace-checks` see to both): libraries say what they have to say through `tracing`,
//! and return errors of their own.
//!
//! Exit status: 0 done, 1 failed, 2 wrong use (a bad argument or configuration). Which of their errors are
//! wrong use the libraries say themselves ([`judge`]); what a program finds itself is a [`Usage`].

mod bounded;
mod fault;
mod files;
pub mod helpers;
mod lines;
mod messages;
mod panics;
mod program;
mod progress;
mod screen;
mod shorten;
mod stderr;
mod style;
mod table;
mod units;
mod visible;

use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

pub use fault::{Fault, Judge, Usage, hinted, is_usage};
pub use lines::Lines;
pub use messages::{FORMAT_VARIABLE, Format, Messages, pass_on, plain};
pub use program::{Build, Checked, check, command, parse, short_revision};
pub use progress::Progress;
pub use screen::{Screen, width};
pub use style::states;
pub use table::Table;
pub use units::{bytes, duration, moment};
pub use visible::{Visible, visible};

/// Raises the limit of open files, sets up the messages of a program, runs its body and turns the result
/// (nothing, or an exit status of its own) into an exit status; an error is a message of one line, causes joined
/// by colons, and `judge` says of those of libraries which are wrong use.
pub fn run<T: Termination>(
    messages: Messages,
    judge: Judge,
    body: impl FnOnce() -> anyhow::Result<T>,
) -> ExitCode {
    let _drained = stderr::Drained;
    let files = files::raise_limit();
    if let Err(error) = messages.set_up() {
        say_error(&error);
        return ExitCode::from(2);
    }
    match files.and_then(|()| body()) {
        Ok(status) => status.report(),
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", one_line(&error));
            if fault::is_usage(&error, judge) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// An error before there are messages.
fn say_error(error: &dyn std::fmt::Display) {
    stderr::write(
        bounded::line(&format!(
            "error: {}\n",
            secrets::text(&visible::visible_line(&error.to_string()))
        ))
        .as_bytes(),
    );
}

/// An error and its causes, joined by colons; a cause that its effect has told already is left out.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // What follows is libtorch's C++ stack.
        let cause = cause.split("Exception raised from").next().unwrap_or_default().trim_end();
        if line.is_empty() {
            cause.clone_into(&mut line);
        } else if !line.contains(cause) {
            line = format!("{line}: {cause}");
        }
    }
    bounded::cut(&visible(&line.replace('\n', " "))).into_owned()
}

/// A reader that went away (`… | head`) is no failure of ours.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// What failed where stdout cannot be written.
pub(crate) const STDOUT: &str = "cannot write to stdout";

/// Prints a value as indented JSON on stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print_plain(&visible::visible_json(&serde_json::to_string_pretty(value)?))
}

/// True once stdout is the file that an option names.
static STDOUT_TAKEN: AtomicBool = AtomicBool::new(false);

/// Leaves stdout to the file that an option names, as in `--out /dev/stdout`: what this process prints from now
/// on goes to stderr.
pub fn leave_stdout() {
    STDOUT_TAKEN.store(true, Ordering::Relaxed);
}

/// Prints text and a line feed on stdout, its colours where that is a terminal, control characters from outside
/// as [`visible`] shows them, and no secret that stands in it; unlike `println!`, a closed pipe is an error and not a
/// panic.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_plain(&visible::visible_styled(text))
}

fn print_plain(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    progress::beside_bars(|| {
        // What was said before it stands before it.
        stderr::drain();
        if STDOUT_TAKEN.load(Ordering::Relaxed) {
            stderr::write(format!("{}\n", secrets::text(text)).as_bytes());
            return Ok(());
        }
        let mut out = anstream::stdout().lock();
        writeln!(out, "{}", secrets::text(text)).and_then(|()| out.flush()).context(STDOUT)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::bounded::LONGEST;
    use super::*;

    #[test]
    fn an_error_is_one_line_and_says_nothing_twice() {
        let error = anyhow!("connection refused").context("cannot reach it: connection refused");
        assert_eq!(one_line(&error), "cannot reach it: connection refused");
        let error = anyhow!("first\nsecond").context("outer");
        assert_eq!(one_line(&error), "outer: first second");
        let long = one_line(&anyhow::anyhow!("{}", "ä".repeat(LONGEST + 1)));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with("ä…"));
        // As it is printed, not as it came.
        let long = one_line(&anyhow::anyhow!("{}", "\u{1b}".repeat(LONGEST)));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }
}
