//! The program `scheduler`: the private Postgres, the worker, and the lists and controls of jobs
//! and runs.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    bench, control, diff, doctor, gc, jobs, logs, marks, postgres, runs, show, submit, sweeps,
    worker, workers,
};

/// The queue and the registry of a laboratory's experiments.
///
/// Everything is in the Postgres that DATABASE_URL names, or else in a private one under
/// PALETTE_HOME that is started by whichever command needs it. Jobs and runs go by their name or the
/// beginning of their id. Where several have one name, commands that read take the newest and say so,
/// and commands that change something ask for the id.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: terminal::Messages,
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
    /// Queue an ingest or an evaluation (`trainer` and `sampler` have a `submit` of their own)
    Submit(submit::Arguments),
    /// Check what everything stands on, and say what is wrong and what to do
    Doctor(doctor::Arguments),
    /// List jobs, newest first
    Jobs(jobs::Arguments),
    /// List runs, newest first, with their latest metrics
    Runs(runs::ListArguments),
    /// Tell the whole story of a job or run
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
    /// End a job or a sweep for good; what runs at its next checkpoint
    Cancel(control::CancelArguments),
    /// Set a job aside; a running one at its next checkpoint
    Pause(control::Arguments),
    /// Queue a paused job again
    Resume(control::GoOnArguments),
    /// Give a failed or cancelled job new tries
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
    Archive(marks::Arguments),
    /// Show in lists again what was archived
    Unarchive(marks::Arguments),
    /// List the checkpoints of a run
    Checkpoints(runs::RunArguments),
    /// Print the metrics of a run, step by step
    Metrics(runs::MetricsArguments),
    /// Measure claims, latency and metrics on this server, in a database of their own
    Bench(bench::Arguments),
    /// Reclaim the space of what is not needed any more, by a policy
    Gc(gc::Arguments),
}

const JUDGE: terminal::Judge = terminal::judge![registry::Error, storage::Error, storage::NoPlace,];

fn main() -> ExitCode {
    let Arguments { command, messages } = Arguments::parse();
    terminal::run(messages, JUDGE, || {
        let done = match command {
            Command::Up => postgres::up(),
            Command::Down => postgres::down(),
            Command::Url => postgres::url(),
            Command::Worker(arguments) => return worker::run(arguments, messages),
            Command::Doctor(arguments) => doctor::run(arguments),
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
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Gc(arguments) => gc::run(arguments),
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}
