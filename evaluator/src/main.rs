//! `evaluator`: scores outputs against their references and prints the tables.

mod commands;
mod scores;
mod study;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Scores outputs against their references.
#[derive(Parser)]
#[command(name = "evaluator", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Score an output dataset and keep the scores with its run.
    Run(commands::run::Run),
    /// Print what was scored of a run, before and after training.
    Table(commands::table::Table),
    /// Ask people which of two pictures is from a camera.
    Study(commands::study::Study),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    terminal::run(|| match arguments.command {
        Command::Run(command) => command.run(),
        Command::Table(command) => command.run(),
        Command::Study(command) => command.run(),
    })
}
