//! `pipeline`: photographs in, datasets and pictures out.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "pipeline", version, about = "Photographs from archives to shards and batches")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: terminal::Messages,
}

#[derive(Subcommand)]
enum Command {
    /// Read archives or folders and write a dataset
    Ingest(commands::ingest::Args),
    /// Show what a dataset holds
    Inspect(commands::inspect::Args),
    /// Make some images of a dataset a dataset of their own; no image is copied
    Cut(commands::cut::Args),
    /// Compare every shard and every image with its digest
    Verify(commands::verify::Args),
    /// Draw source, mask and target of a configuration side by side
    Preview(commands::preview::Args),
    /// Store the masks of an evaluation beside a dataset
    Masks(commands::masks::Args),
    /// Draw procedural landscapes
    Scenes(commands::scenes::Args),
    /// Measure the loader
    Bench(commands::bench::Args),
}

const JUDGE: terminal::Judge = terminal::judge![pipeline::Error, storage::Error, storage::NoPlace,];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    terminal::run(arguments.messages, JUDGE, || match arguments.command {
        Command::Ingest(args) => commands::ingest::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Cut(args) => commands::cut::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Preview(args) => commands::preview::run(args),
        Command::Masks(args) => commands::masks::run(args),
        Command::Scenes(args) => commands::scenes::run(args),
        Command::Bench(args) => commands::bench::run(args),
    })
}
