//! `evaluator`: scores outputs against their references and prints the tables. The program is [`main`]; beside it
//! stands what reads the files that it is given ([`files`]), for those who check these readers.

mod cells;
mod classifier;
mod commands;
mod extractor;
pub mod files;
#[cfg(test)]
mod golden;
mod pictures;
mod protocol;
mod report;
mod scores;
mod scoring;
mod study;

use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};

/// Scores outputs against their references.
#[derive(Parser)]
#[command(
    name = "evaluator",
    version,
    about,
    after_help = "\
Examples:
  evaluator run --outputs outputs/palette
  evaluator table --run palette"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: terminal::Messages,
}

#[derive(Subcommand)]
enum Command {
    /// Score outputs, a job's or any other system's, and keep the scores.
    Run(Box<commands::run::RunArgs>),
    /// Queue what tables of the paper need: sampling where outputs are missing, then scoring.
    Submit(commands::submit::Submit),
    /// Write tables, histograms and sheets into one HTML file.
    Report(commands::report::ReportArgs),
    /// Train a small classifier on a dataset, to score pictures of its classes through.
    Classifier(commands::classifier::Classifier),
    /// Print tables of the paper with what was found here, or what was scored of a run.
    Table(commands::table::TableArgs),
    /// Run a human study: which of two pictures is from a camera?
    Study(commands::study::StudyArgs),
    /// Work on the attempt that a worker handed over (workers call this).
    #[command(hide = true)]
    Attempt,
    /// Load the extractor of a configuration on trial (scoring calls this).
    #[command(hide = true)]
    TryExtractor { config: std::path::PathBuf },
}

const JUDGE: terminal::Judge = terminal::judge![
    contracts::Error,
    outputs::Error,
    pipeline::Error,
    registry::Error,
    storage::Error,
    storage::NoPlace,
];

/// The commit that the program was built from, if it is known.
static REVISION: OnceLock<&str> = OnceLock::new();

/// The program, built from the commit `revision` where that is known.
pub fn main(revision: Option<&'static str>) -> ExitCode {
    let confined = storage::roots::confine();
    if let Some(revision) = revision {
        let _ = REVISION.set(revision);
    }
    home::private::shut_out_options();
    torch_ext::wait_briefly();
    torch_ext::keep_memory();
    let arguments: Arguments = terminal::parse(build(revision));
    terminal::run(arguments.messages, JUDGE, || {
        confined?;
        let done = match arguments.command {
            Command::Attempt => commands::attempt::run(),
            Command::TryExtractor { config } => done(extractor::trial::load(&config)),
            Command::Run(command) => done(command.run()),
            Command::Submit(command) => done(command.run()),
            Command::Report(command) => done(command.run()),
            Command::Classifier(command) => done(command.run()),
            Command::Table(command) => done(command.run()),
            Command::Study(command) => done(command.run()),
        };
        terminal::hinted(done, storage::roots::hint)
    })
}

fn done(ended: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    ended.map(|()| ExitCode::SUCCESS)
}

fn build(revision: Option<&'static str>) -> terminal::Build {
    terminal::Build { revision, libtorch: Some(torch_ext::version()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_every_command_ends_with_examples_that_are_true() {
        testkit::examples::check(&terminal::command::<Arguments>(build(None)));
    }

    #[test]
    fn no_command_shows_a_secret() {
        testkit::canary::check(&terminal::command::<Arguments>(build(None)));
    }
}
