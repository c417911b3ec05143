//! `pipeline`: photographs in, datasets and pictures out.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "pipeline",
    version,
    about = "Photographs from archives to shards and batches",
    after_help = "\
Examples:
  pipeline ingest photographs --out data/train
  pipeline preview configs/small/colorization.toml --dataset data/train --out preview.png"
)]
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
    /// Make a dataset of some images of another; no image is copied
    Cut(commands::cut::Args),
    /// Compare every shard and every image with its digest
    Verify(commands::verify::Args),
    /// Draw source, mask and target of a configuration side by side
    Preview(commands::preview::Args),
    /// Store the masks of an evaluation beside a dataset
    Masks(commands::masks::Args),
    /// Draw procedural landscapes
    Scenes(commands::scenes::Args),
    /// Measure the loader, or ingest
    Bench(commands::bench::Args),
}

const JUDGE: terminal::Judge = terminal::judge![pipeline::Error, storage::Error, storage::NoPlace,];

/// What this program was built from.
const BUILD: terminal::Build = terminal::Build { revision: revision::revision!(), libtorch: None };

fn main() -> ExitCode {
    let confined = storage::roots::confine();
    let arguments: Arguments = terminal::parse(BUILD);
    terminal::run(arguments.messages, JUDGE, || {
        confined?;
        let done = match arguments.command {
            Command::Ingest(args) => commands::ingest::run(args),
            Command::Inspect(args) => commands::inspect::run(args),
            Command::Cut(args) => commands::cut::run(args),
            Command::Verify(args) => commands::verify::run(args),
            Command::Preview(args) => commands::preview::run(args),
            Command::Masks(args) => commands::masks::run(args),
            Command::Scenes(args) => commands::scenes::run(args),
            Command::Bench(args) => commands::bench::run(args),
        };
        terminal::hinted(done, storage::roots::hint)
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
