//! The command line of a program: what its developers declare, with what all programs have: a version that
//! says what it was built from, shell completions, manual pages.

mod check;
mod completions;
mod manual;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::style;
use crate::visible::visible_line;

pub use check::{Checked, check};

/// What a program was built from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Build {
    /// The commit, with `-dirty` behind it where files differed.
    pub revision: Option<&'static str>,
    /// The version of libtorch, where the program uses it.
    pub libtorch: Option<&'static str>,
}

impl Build {
    /// ` (bbe9eaa, libtorch 2.11.0)`, or as much of it as is known.
    fn text(self) -> String {
        let revision = self.revision.map(short_revision);
        let libtorch = self.libtorch.map(|version| format!("libtorch {version}"));
        let known: Vec<String> = revision.into_iter().chain(libtorch).collect();
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }
}

/// As people write a revision: the first seven digits, and `-dirty` where it has that.
pub fn short_revision(revision: &str) -> String {
    let (commit, rest) = revision.split_at(revision.find('-').unwrap_or(revision.len()));
    commit.chars().take(7).chain(rest.chars()).collect()
}

// What every program can do besides its own commands. No doc comment: it would be the help of the program.
#[derive(Subcommand)]
enum Common {
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// The folder that they are written to, such as ~/.local/share/man/man1
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Say whether the program takes these arguments, and do nothing (`scheduler submit` calls this)
    #[command(hide = true)]
    CheckArguments {
        /// The arguments, after `--`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

impl Common {
    fn run(&self, command: &Command) -> anyhow::Result<()> {
        match self {
            Self::Completions { shell } => {
                crate::print(completions::script(command, *shell).trim_end())
            }
            Self::Man { out } => {
                let pages = manual::write(command, out)?;
                let (name, out) = (command.get_name(), out.display());
                crate::print(&format!("{pages} pages in {out}; to read one: man -l {out}/{name}.1"))
            }
            Self::CheckArguments { arguments } => crate::print(&check::answer(command, arguments)),
        }
    }
}

/// The command line of a program, complete.
pub fn command<P: CommandFactory>(build: Build) -> Command {
    let own = P::command();
    let (name, version) = (own.get_name().to_owned(), own.get_version().unwrap_or_default());
    // Lives as long as the program, and there is one.
    let version: &str = format!("{version}{}", build.text()).leak();
    let example = |command: &str| format!("Examples:\n  {name} {command}");
    Common::augment_subcommands(own)
        .version(version)
        .styles(style::HELP)
        .mut_subcommand("completions", |command| command.after_help(example("completions bash")))
        .mut_subcommand("man", |command| command.after_help(example("man --out man1")))
}

/// A file beyond the limit of a process (`ulimit -f`) is an error of the write, as a full disk is, not the end of the
/// program.
#[allow(unsafe_code)]
fn ignore_file_limit() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no code of ours runs in a signal that is ignored.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Parses the arguments of this process, as clap does: prints help, the version, or what is wrong, and ends.
/// So do the commands that are the same in all programs.
pub fn parse<P: Parser>(build: Build) -> P {
    style::heed_environment();
    ignore_file_limit();
    let plain = command::<P>(build);
    let mut command = with_headings(plain.clone());
    let matches = match command.try_get_matches_from_mut(std::env::args_os()) {
        Ok(matches) => matches,
        Err(answer) => end(answer_with(shown(answer, &mut with_headings(plain.clone())))),
    };
    if let Ok(common) = Common::from_arg_matches(&matches) {
        end(common.run(&plain).map(|()| 0));
    }
    match P::from_arg_matches(&matches) {
        Ok(program) => program,
        Err(answer) => end(answer_with(shown(answer.format(&mut command), &mut command))),
    }
}

/// Prints clap's answer, help or what is wrong, and gives the status that it means.
fn answer_with(answer: clap::Error) -> anyhow::Result<i32> {
    let status = answer.exit_code();
    if answer.use_stderr() {
        crate::stderr::write(without_secrets(answer).as_bytes());
    } else {
        answer.print().context(crate::STDOUT)?;
    }
    Ok(status)
}

/// Ends the process with this status, or with an error.
fn end(answer: anyhow::Result<i32>) -> ! {
    let status = match answer {
        Ok(status) => status,
        Err(error) if crate::broken_pipe(&error) => 0,
        Err(error) => {
            crate::say_error(&crate::one_line(&error));
            if error.is::<crate::Usage>() { 2 } else { 1 }
        }
    };
    crate::stderr::drain();
    std::process::exit(status)
}

/// An error of the command line. It repeats arguments, and these may be addresses with a password.
fn without_secrets(mut error: clap::Error) -> String {
    let given: Vec<(ContextKind, ContextValue)> =
        error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in given {
        if let (
            ContextKind::InvalidValue | ContextKind::InvalidArg | ContextKind::InvalidSubcommand,
            ContextValue::String(text),
        ) = (kind, value)
        {
            error.insert(kind, ContextValue::String(secrets::database(&text)));
        }
    }
    secrets::text(&error.render().ansi().to_string()).into_owned()
}

/// The error as it is for the same arguments with their control characters written out, so that none of them
/// reaches the terminal. Where those would be right so, what the error quotes is written out alone.
fn shown(mut error: clap::Error, command: &mut Command) -> clap::Error {
    use clap::error::ContextValue::{String as One, Strings as Several};
    let text =
        |argument: std::ffi::OsString| visible_line(&argument.to_string_lossy()).into_owned();
    if !error.use_stderr() {
        return error;
    }
    let arguments = std::env::args_os().map(text);
    if let Err(same) = command.try_get_matches_from_mut(arguments) {
        return same;
    }
    let quoted: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in quoted {
        let value = match value {
            One(text) => One(visible_line(&text).into_owned()),
            Several(texts) => {
                Several(texts.iter().map(|text| visible_line(text).into_owned()).collect())
            }
            other => other,
        };
        error.insert(kind, value);
    }
    error
}

/// With the heading of each command's examples styled as clap styles its own.
fn with_headings(command: Command) -> Command {
    let help = command.get_after_help().map(|help| {
        help.to_string().replacen("Examples:", &style::paint("Examples:", style::HEADING), 1)
    });
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    command.mut_subcommands(with_headings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program
    #[derive(Parser)]
    #[command(name = "demo", version, after_help = "Examples:\n  demo work --fast")]
    pub struct Demo {
        #[command(subcommand)]
        command: Own,
    }

    #[derive(Subcommand)]
    enum Own {
        /// Do it
        #[command(after_help = "Examples:\n  demo work\n  demo work --fast")]
        Work {
            /// Do it faster
            #[arg(long)]
            fast: bool,
        },
        /// Only for other programs
        #[command(hide = true)]
        Secret,
    }

    #[test]
    fn the_version_says_what_is_known() {
        let version = |revision, libtorch| {
            let mut command = command::<Demo>(Build { revision, libtorch });
            let error = command.try_get_matches_from_mut(["demo", "--version"]).unwrap_err();
            error.to_string().trim_end().to_owned()
        };
        let own = format!("demo {}", env!("CARGO_PKG_VERSION"));
        let commit = Some("bbe9eaa15d7d5d77f7c9bb8e0d4bb1a1f9b0c1de");
        assert_eq!(version(commit, Some("2.11.0")), format!("{own} (bbe9eaa, libtorch 2.11.0)"));
        assert_eq!(version(Some("bbe9eaa15d7d-dirty"), None), format!("{own} (bbe9eaa-dirty)"));
        assert_eq!(version(None, None), own);
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for arguments in [
            &["work", "--out", "https://me:s3cret@h/x?sig=s3cret"][..],
            &["work", "--out=postgres:me:s3cret@h/x"],
            &["work", "me:s3cret@h/x"],
            &["postgres://me:s3cret@h/x"],
            &["work", "host=h password=s3 s3cret"],
            &["completions", "PASSWORD=s3cret"],
        ] {
            let mut command = command::<Demo>(Build::default());
            let arguments = ["demo"].iter().chain(arguments);
            let said = without_secrets(command.try_get_matches_from_mut(arguments).unwrap_err());
            assert!(said.contains("error:") && !said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn help_ends_with_examples_and_its_headings_are_styled_for_terminals_only() {
        let mut command = with_headings(command::<Demo>(Build::default()));
        let error = command.try_get_matches_from_mut(["demo", "work", "--help"]).unwrap_err();
        let help = error.render();
        assert!(
            help.to_string().ends_with("\nExamples:\n  demo work\n  demo work --fast\n"),
            "{help}"
        );
        let root = command.try_get_matches_from_mut(["demo", "--help"]).unwrap_err().to_string();
        assert!(root.starts_with("A program\n"), "{root}");
        let styled = help.ansi().to_string();
        for heading in ["Usage:", "Options:", "Examples:"] {
            assert!(styled.contains(&format!("\x1b[1m{heading}\x1b[0m")), "{styled:?}");
        }
    }
}
