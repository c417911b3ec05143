//! `trainer`: submits experiments, runs them, says what they mean.

mod commands;
mod control;
mod experiment;
mod report;
mod train;
mod writer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains image-to-image diffusion models.
#[derive(Parser)]
#[command(name = "trainer", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Queue an experiment: a worker (`scheduler worker`) will train it.
    Submit(commands::submit::Submit),
    /// Train an experiment here and now, with the same records as a queued one.
    Run(commands::run::Run),
    /// Print what a configuration means: parameters, operations, attention, memory, images.
    Check(commands::check::Check),
    /// Work on the attempt that a worker handed over (workers call this).
    #[command(hide = true)]
    Attempt,
}

fn main() -> ExitCode {
    torch_ext::wait_passively();
    let arguments = Arguments::parse();
    terminal::run(|| match arguments.command {
        Command::Submit(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Attempt => commands::attempt::run(),
    })
}
