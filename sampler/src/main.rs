//! `sampler`: batch sampling jobs over datasets, single pictures.

mod batches;
mod canvas;
mod commands;
mod design;
mod extend;
mod given;
mod inputs;
mod network;
mod outputs;
mod pairs;
mod recording;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Samples from trained image-to-image diffusion models.
#[derive(Parser)]
#[command(name = "sampler", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: terminal::Messages,
}

#[derive(Subcommand)]
enum Command {
    /// Queue a job that samples a dataset with the weights of a run.
    Submit(Box<commands::submit::Submit>),
    /// Restore pictures here and now with the weights of a checkpoint folder.
    Run(commands::run::RunArgs),
    /// Measure images a second of a reverse process.
    Bench(commands::bench::Bench),
    /// Work on the attempt that a worker handed over (workers call this).
    #[command(hide = true)]
    Attempt,
}

const JUDGE: terminal::Judge = terminal::judge![
    contracts::Error,
    ::outputs::Error,
    pipeline::Error,
    registry::Error,
    storage::Error,
    storage::NoPlace,
];

fn main() -> ExitCode {
    torch_ext::wait_briefly();
    torch_ext::keep_memory();
    let arguments = Arguments::parse();
    terminal::run(arguments.messages, JUDGE, || match arguments.command {
        Command::Submit(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Run(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Bench(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Attempt => commands::attempt::run(),
    })
}
