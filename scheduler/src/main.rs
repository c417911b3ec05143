//! The program `scheduler`: the private Postgres, the worker, and the lists and controls of jobs
//! and runs.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    bench, control, diff, doctor, export, gc, jobs, logs, marks, postgres, room, runs, show, slurm,
    submit, sweeps, worker, workers,
};

/// The queue and the registry of a laboratory's experiments.
///
/// Everything is in the Postgres that DATABASE_URL names, or else in a private one under
/// PALETTE_HOME that is started by whichever command needs it. Jobs and runs go by their name or the
/// beginning of their id. Where several have one name, commands that read take the newest and say so,
/// and commands that change something ask for the id.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  scheduler worker
  scheduler jobs --watch
  scheduler show palette"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: terminal::Messages,
}

#[derive(Subcommand)]
enum Command {
    /// Start the private Postgres and say how to reach it; with DATABASE_URL, bring its tables up to date
    #[command(after_help = "\
Examples:
  scheduler up")]
    Up,
    /// Stop the private Postgres under PALETTE_HOME, whatever DATABASE_URL names
    #[command(after_help = "\
Examples:
  scheduler down")]
    Down,
    /// Print the URL of the database
    #[command(after_help = "\
Examples:
  scheduler url")]
    Url,
    /// Claim jobs and run each in its own process
    Worker(worker::Arguments),
    /// Print or submit a script by which workers run as a job of Slurm and are requeued while work is left
    Slurm(slurm::Arguments),
    /// Queue an ingest or an evaluation (`trainer`, `sampler` and `evaluator` have a `submit` too)
    Submit(submit::Arguments),
    /// Check database, storage, GPUs and programs; say what is wrong and what to do
    Doctor(doctor::Arguments),
    /// List jobs, newest first
    Jobs(jobs::Arguments),
    /// List runs, newest first, with their latest metrics
    Runs(runs::ListArguments),
    /// Show everything about a job or run
    Show(show::Arguments),
    /// Compare two runs: configuration, facts, results
    Diff(diff::Arguments),
    /// List the workers and what they do
    Workers(workers::Arguments),
    /// Print the log of a job's newest attempt
    Logs(logs::Arguments),
    /// List sweeps, newest first
    Sweeps(sweeps::ListArguments),
    /// Show the runs of a sweep side by side, or change how many may run at once
    Sweep(sweeps::Arguments),
    /// Cancel a job or a sweep; what runs stops at its next checkpoint
    Cancel(control::CancelArguments),
    /// Pause a job; a running one stops at its next checkpoint
    #[command(after_help = "\
Examples:
  scheduler pause palette")]
    Pause(control::Arguments),
    /// Queue a paused job again
    #[command(after_help = "\
Examples:
  scheduler resume palette")]
    Resume(control::GoOnArguments),
    /// Queue a failed or cancelled job again, with new attempts
    #[command(after_help = "\
Examples:
  scheduler retry palette
  scheduler retry palette --from 2000")]
    Retry(control::GoOnArguments),
    /// Change the priority of jobs that have not ended
    Priority(control::PriorityArguments),
    /// Call a job, run or sweep by another name
    Rename(marks::RenameArguments),
    /// Add words to find a job, run or sweep by, or take some away
    Tag(marks::TagArguments),
    /// Keep a text with a job, run or sweep; `show` prints it
    Note(marks::NoteArguments),
    /// Let lists leave out what has ended; nothing is lost
    #[command(after_help = "\
Examples:
  scheduler archive 1a2b3c4d")]
    Archive(marks::Arguments),
    /// Show in lists again what was archived
    #[command(after_help = "\
Examples:
  scheduler unarchive 1a2b3c4d")]
    Unarchive(marks::Arguments),
    /// List the checkpoints of a run
    Checkpoints(runs::RunArguments),
    /// Print the metrics of a run, step by step
    Metrics(runs::MetricsArguments),
    /// Serve the control room: runs, curves, pictures and the queue in a browser
    Room(room::Arguments),
    /// Write the metrics of runs as files of TensorBoard, CSV or Parquet
    Export(export::Arguments),
    /// Measure claims, latency and metrics on this server, in a temporary database
    Bench(bench::Arguments),
    /// Delete what is no longer needed, by a policy
    Gc(gc::Arguments),
}

const JUDGE: terminal::Judge = terminal::judge![registry::Error, storage::Error, storage::NoPlace,];

/// What this program was built from.
const BUILD: terminal::Build = terminal::Build { revision: revision::revision!(), libtorch: None };

fn main() -> ExitCode {
    home::private::shut_out_options();
    let Arguments { command, messages } = terminal::parse(BUILD);
    terminal::run(messages, JUDGE, || {
        let done = match command {
            Command::Up => postgres::up(),
            Command::Down => postgres::down(),
            Command::Url => postgres::url(),
            Command::Worker(arguments) => return worker::run(arguments, messages),
            Command::Slurm(arguments) => slurm::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments, BUILD.revision),
            Command::Jobs(arguments) => jobs::list(&arguments),
            Command::Runs(arguments) => runs::list(&arguments),
            Command::Show(arguments) => show::run(&arguments),
            Command::Diff(arguments) => diff::run(&arguments),
            Command::Workers(arguments) => workers::list(&arguments),
            Command::Logs(arguments) => logs::run(&arguments),
            Command::Submit(arguments) => submit::run(arguments),
            Command::Sweeps(arguments) => sweeps::list(&arguments),
            Command::Sweep(arguments) => sweeps::show(&arguments),
            Command::Cancel(arguments) => control::cancel(&arguments),
            Command::Priority(arguments) => control::priority(&arguments),
            Command::Pause(arguments) => control::run(control::Wish::Pause, &arguments),
            Command::Resume(arguments) => control::resume(&arguments),
            Command::Retry(arguments) => control::retry(&arguments),
            Command::Rename(arguments) => marks::rename(&arguments),
            Command::Tag(arguments) => marks::tag(&arguments),
            Command::Note(arguments) => marks::note(&arguments),
            Command::Archive(arguments) => marks::archive(&arguments),
            Command::Unarchive(arguments) => marks::unarchive(&arguments),
            Command::Checkpoints(arguments) => runs::checkpoints(&arguments),
            Command::Metrics(arguments) => runs::metrics(&arguments),
            Command::Room(arguments) => room::run(arguments),
            Command::Export(arguments) => export::run(arguments),
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Gc(arguments) => gc::run(arguments),
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_every_command_ends_with_examples_that_are_true() {
        testkit::examples::check(&terminal::command::<Arguments>(BUILD));
    }

    #[test]
    fn no_command_shows_a_secret() {
        testkit::canary::check(&terminal::command::<Arguments>(BUILD));
    }
}
