//! The program `scheduler`: the private Postgres, the worker, and the lists and controls of jobs
//! and runs.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{control, jobs, logs, postgres, runs, show, worker};

/// The queue and the registry of a laboratory's experiments.
///
/// Everything is in the Postgres that DATABASE_URL names, or else in a private one under
/// PALETTE_HOME that is started by whichever command needs it. Jobs and runs go by the beginning of
/// their id or by their name (the newest of it).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the private Postgres and say how to reach it
    Up,
    /// Stop the private Postgres
    Down,
    /// Print the URL of the database
    Url,
    /// Claim jobs and do them, each in a process of its own
    Worker(worker::Arguments),
    /// List jobs, newest first
    Jobs(jobs::Arguments),
    /// List runs, newest first, with their latest metrics
    Runs(runs::ListArguments),
    /// Tell the whole story of a job or run
    Show(show::Arguments),
    /// Print the log of a job's newest attempt
    Logs(logs::Arguments),
    /// End a job for good; a running one at its next checkpoint
    Cancel(control::Arguments),
    /// Set a job aside; a running one at its next checkpoint
    Pause(control::Arguments),
    /// Queue a paused job again
    Resume(control::Arguments),
    /// Give a failed or cancelled job new tries
    Retry(control::Arguments),
    /// List the checkpoints of a run
    Checkpoints(runs::RunArguments),
    /// Print the metrics of a run, step by step
    Metrics(runs::MetricsArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    terminal::run(|| match arguments.command {
        Command::Up => postgres::up(),
        Command::Down => postgres::down(),
        Command::Url => postgres::url(),
        Command::Worker(arguments) => worker::run(arguments),
        Command::Jobs(arguments) => jobs::list(&arguments),
        Command::Runs(arguments) => runs::list(arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Cancel(arguments) => control::run(control::Wish::Cancel, &arguments),
        Command::Pause(arguments) => control::run(control::Wish::Pause, &arguments),
        Command::Resume(arguments) => control::run(control::Wish::Resume, &arguments),
        Command::Retry(arguments) => control::run(control::Wish::Retry, &arguments),
        Command::Checkpoints(arguments) => runs::checkpoints(&arguments),
        Command::Metrics(arguments) => runs::metrics(&arguments),
    })
}
