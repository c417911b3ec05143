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
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Samples from trained image-to-image diffusion models.
#[derive(Parser)]
#[command(
    name = "sampler",
    version,
    about,
    after_help = "\
Examples:
  sampler run --checkpoint palette@best --input photo.jpg --task colorization
  sampler submit --run palette --dataset data/val --task colorization --out outputs/palette"
)]
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
    /// Restore, on this machine, the pictures that people try in the control room.
    Serve(commands::serve::Serve),
    /// Measure how many images a second a reverse process makes.
    Bench(commands::bench::Bench),
    /// Work on the attempt that a worker handed over (workers call this).
    #[command(hide = true)]
    Attempt,
    /// Make the outputs that a `sampler run` of several processes hands over (it calls this).
    #[command(hide = true)]
    Share,
}

const JUDGE: terminal::Judge = terminal::judge![
    contracts::Error,
    ::outputs::Error,
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
            Command::Run(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Bench(command) => command.run().map(|()| ExitCode::SUCCESS),
            Command::Serve(command) => command.run(),
            Command::Attempt => commands::attempt::run(),
            Command::Share => commands::share::run(),
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
