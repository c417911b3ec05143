//! `sampler share`: a process that `sampler run --gpus` started. It makes the outputs that it is given, and says on
//! its standard output what becomes of them.

use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use terminal::helpers;

use super::run::desk::News;
use super::run::order::Order;
use super::run::work::Work;
use crate::inputs::Input;

/// The first line that it reads.
#[derive(Serialize, Deserialize)]
pub struct Begin {
    pub order: Order,
    /// As `torch_ext::device_named` takes it.
    pub device: String,
    /// Threads of libtorch.
    pub threads: i32,
    /// Processes that share the device's memory.
    pub sharing: usize,
}

/// Outputs of a picture. Every further line that is read is a list of them; with an empty one it ends.
#[derive(Serialize, Deserialize)]
pub struct Piece {
    pub input: Input,
    /// By their numbers, from 0.
    pub samples: Range<u32>,
}

/// A line that it prints.
#[derive(Serialize, Deserialize)]
pub enum Word {
    /// It waits for work: the largest number of outputs that it takes at once.
    Ready(usize),
    News(News),
    /// It ends because of this error.
    Failed {
        error: String,
        /// It is wrong use.
        usage: bool,
    },
}

pub fn run() -> Result<ExitCode> {
    helpers::end_with_parent()?;
    let Err(error) = work(&listen()?) else { return Ok(ExitCode::SUCCESS) };
    let Err(error) = terminal::hinted::<()>(Err(error), storage::roots::hint) else {
        return Ok(ExitCode::FAILURE);
    };
    let usage = terminal::is_usage(&error, crate::JUDGE);
    say(&Word::Failed { error: terminal::one_line(&error), usage })?;
    Ok(ExitCode::FAILURE)
}

fn work(lines: &Receiver<String>) -> Result<()> {
    let begin: Begin = serde_json::from_str(&lines.recv()?).context("what is to be done")?;
    let Begin { order, device, threads, sharing } = begin;
    tch::set_num_threads(threads);
    let reader = order.reader(order.holes.open()?);
    let network = order.network(torch_ext::device_named(&device)?, sharing)?;
    let mut tell = |news| say(&Word::News(news));
    let mut work = Work::new(&order, &reader, &network, &mut tell);
    loop {
        say(&Word::Ready(network.batch()))?;
        let pieces: Vec<Piece> = serde_json::from_str(&lines.recv()?).context("which outputs")?;
        if pieces.is_empty() {
            return Ok(());
        }
        for Piece { input, samples } in pieces {
            work.take(&input, samples)?;
        }
        work.go()?;
    }
}

/// The lines of standard input. With their end, which is that of the process that writes them, this one ends.
fn listen() -> Result<Receiver<String>> {
    let (sender, lines) = channel();
    std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(1);
    })?;
    Ok(lines)
}

fn say(word: &Word) -> Result<()> {
    let line = serde_json::to_string(word)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).context("cannot write to stdout")
}
