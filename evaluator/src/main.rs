//! `evaluator`: scores outputs against their references and prints the tables.

mod classifier;
mod commands;
mod extractor;
#[cfg(test)]
mod golden;
mod pictures;
mod scores;
mod scoring;

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
    /// Score outputs, a job's or any other system's, and keep the scores.
    Run(Box<commands::run::Run>),
    /// Train a small classifier on a dataset, to score pictures of its classes through.
    Classifier(commands::classifier::Classifier),
    /// Print what was scored of a run, before and after training.
    Table(commands::table::Table),
}

fn main() -> ExitCode {
    torch_ext::wait_briefly();
    torch_ext::keep_memory();
    let arguments = Arguments::parse();
    terminal::run(|| match arguments.command {
        Command::Run(command) => command.run(),
        Command::Classifier(command) => command.run(),
        Command::Table(command) => command.run(),
    })
}
