//! `trainer`: submits experiments, runs them, says what they mean.

mod commands;
mod control;
mod data;
mod init;
mod metrics;
mod pictures;
mod place;
mod ranks;
mod shortage;
mod step;
mod train;
mod train_state;
mod validation;
mod watch;
mod writer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains image-to-image diffusion models.
#[derive(Parser)]
#[command(
    name = "trainer",
    version,
    about,
    after_help = "\
Examples:
  trainer check configs/small/colorization.toml
  trainer submit configs/small/colorization.toml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: terminal::Messages,
}

#[derive(Subcommand)]
enum Command {
    /// Queue an experiment: a worker (`scheduler worker`) will train it.
    Submit(commands::submit::Submit),
    /// Train an experiment here and now, with the same records as a queued one.
    Run(commands::run::RunArgs),
    /// Let runs make more steps: they go on from where they ended.
    Extend(commands::extend::Extend),
    /// Print what a configuration means: parameters, operations, attention, memory, images.
    Check(commands::check::Check),
    /// Bring in weights of ADM or of the PyTorch Palette, as a checkpoint to start or sample from.
    Import(commands::import::Import),
    /// Write the weights of a checkpoint as one safetensors file.
    Export(commands::export::Export),
    /// Compare a network's numbers with those of a reference implementation.
    Verify(commands::verify::Verify),
    /// Measure training steps of a configuration: on images of random bytes, or with `--dataset` on what
    /// the loader gives.
    Bench(commands::bench::Bench),
    /// Measure how fast several ranks add up numbers, give them to each other and exchange them.
    Collectives(commands::collectives::Collectives),
    /// Work on the attempt that a worker handed over (workers call this).
    #[command(hide = true)]
    Attempt,
    /// Train as one of several ranks (the first of them calls this).
    #[command(hide = true)]
    Rank(commands::rank::Rank),
}

const JUDGE: terminal::Judge = terminal::judge![
    contracts::Error,
    pipeline::Error,
    registry::Error,
    storage::Error,
    storage::NoPlace,
];

/// The commit that this program was built from, if it is known.
const REVISION: Option<&str> = revision::revision!();

fn main() -> ExitCode {
    let confined = storage::roots::confine();
    home::private::shut_out_options();
    torch_ext::wait_briefly();
    torch_ext::keep_memory();
    let arguments: Arguments = terminal::parse(build());
    terminal::run(arguments.messages, JUDGE, || {
        confined?;
        let done = match arguments.command {
            Command::Submit(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Run(command) => command.run(),
            Command::Extend(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Check(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Import(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Export(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Verify(command) => command.run(),
            Command::Bench(command) => command.run(),
            Command::Collectives(command) => command.run(),
            Command::Attempt => commands::attempt::run(),
            Command::Rank(command) => command.run(),
        };
        terminal::hinted(done, storage::roots::hint)
    })
}

fn build() -> terminal::Build {
    terminal::Build { revision: REVISION, libtorch: Some(torch_ext::version()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_every_command_ends_with_examples_that_are_true() {
        testkit::examples::check(&terminal::command::<Arguments>(build()));
    }

    #[test]
    fn no_command_shows_a_secret() {
        testkit::canary::check(&terminal::command::<Arguments>(build()));
    }
}
