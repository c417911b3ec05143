//! `evaluator study`: human studies, from outputs to fool rates. One command a file.

mod create;
mod files;
mod invite;
mod list;
mod results;
mod serve;

use clap::{Args, Subcommand};

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator study create colorization --system Palette=outputs/palette
  evaluator study results colorization")]
pub struct StudyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a study of the outputs of some systems and their photographs.
    Create(create::Create),
    /// Make links for raters.
    Invite(invite::Invite),
    /// Serve the rating page until told to stop.
    Serve(serve::Serve),
    /// List the studies.
    List(list::List),
    /// Print how often outputs were taken for photographs.
    Results(results::Results),
}

impl StudyArgs {
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Create(command) => command.run(),
            Command::Invite(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Results(command) => command.run(),
        }
    }
}

/// A time that a pair can be shown for.
fn seconds(text: &str) -> Result<f64, String> {
    match text.trim().parse() {
        Ok(value) if (0.1..=60.0).contains(&value) => Ok(value),
        _ => Err("seconds of 0.1 to 60".into()),
    }
}

/// Times as they are written in a table: `3 s, 5 s`.
fn times(seconds: &[f64]) -> String {
    seconds.iter().map(|value| format!("{value} s")).collect::<Vec<_>>().join(", ")
}
