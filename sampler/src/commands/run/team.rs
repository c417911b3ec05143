//! The processes that share the pictures of one command: helpers, one on each GPU or several on the CPU. Each is given
//! outputs to make as it asks for them. An error of one is an error of all.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use contracts::DeviceChoice;
use serde::Serialize;
use tch::{Cuda, Device};
use terminal::Usage;
use terminal::helpers::{Helper, signal_of};

use super::desk::Desk;
use super::order::Order;
use crate::commands::share::{Begin, Piece, Word};
use crate::inputs::Input;

/// How many GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    All,
    Count(u16),
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => match text.parse() {
                Ok(count) if (1..=1024).contains(&count) => Ok(Self::Count(count)),
                _ => Err("expected `all`, or a number from 1 to 1024".to_owned()),
            },
        }
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// The devices of the processes that make outputs, one each.
///
/// # Errors
/// Wrong use where there are fewer GPUs.
pub fn devices(gpus: Option<Gpus>, processes: Option<u16>) -> Result<Vec<Device>> {
    let seen = || usize::try_from(Cuda::device_count()).unwrap_or_default();
    if let Some(gpus) = gpus {
        let refused = |error| Usage::new(format!("--gpus {gpus}: {error}"));
        torch_ext::device_named("cuda").map_err(|error| refused(error.to_string()))?;
        let seen = seen();
        let count = match gpus {
            Gpus::All => seen,
            Gpus::Count(count) => usize::from(count),
        };
        if count > seen {
            return Err(
                refused(format!("{seen} GPUs to be seen here: give fewer, or `all`")).into()
            );
        }
        return Ok((0..count).map(Device::Cuda).collect());
    }
    let device = DeviceChoice::Auto.device()?;
    let count = usize::from(processes.unwrap_or(1));
    if count == 1 || device == Device::Cpu {
        return Ok(vec![device; count]);
    }
    let seen = seen();
    if count > seen {
        return Err(Usage::new(format!(
            "--processes {count}: each takes a GPU of its own, and {seen} GPUs are to be seen here: give fewer, or \
             hide them to compute on the CPU (CUDA_VISIBLE_DEVICES=)"
        ))
        .into());
    }
    Ok((0..count).map(Device::Cuda).collect())
}

/// Outputs that nobody makes yet.
struct Left<'a> {
    /// Pictures, and the first sample of each that is left.
    pictures: VecDeque<(&'a Input, u32)>,
    samples: u32,
    /// Processes that they are shared out to.
    processes: usize,
}

impl Left<'_> {
    /// Takes out at most `most` outputs, and no more than leaves as many for each of the others.
    fn take(&mut self, most: usize) -> Vec<Piece> {
        let begun: u64 = self.pictures.iter().map(|(_, first)| u64::from(*first)).sum();
        let left = self.pictures.len() as u64 * u64::from(self.samples) - begun;
        let mut wanted = left.div_ceil(self.processes as u64).min(most.max(1) as u64);
        let mut pieces = Vec::new();
        while wanted > 0
            && let Some((input, first)) = self.pictures.pop_front()
        {
            let count = u64::from(self.samples - first).min(wanted);
            let end = first + count as u32;
            wanted -= count;
            pieces.push(Piece { input: input.clone(), samples: first..end });
            if end < self.samples {
                self.pictures.push_front((input, end));
            }
        }
        pieces
    }
}

/// One of the processes.
struct Member {
    /// How errors name it.
    name: String,
    helper: Helper,
    /// It was told that nothing is left.
    dismissed: bool,
    /// Pass on what it prints and says.
    threads: Vec<JoinHandle<()>>,
}

/// What comes from a process.
enum Heard {
    Word(Box<Word>),
    /// It closed its standard output: it has ended.
    End,
}

/// Makes `samples` outputs of each picture, by a process on each device.
///
/// # Errors
/// The first of any process, which it names. All processes have ended afterwards.
pub fn make(
    order: &Order,
    inputs: &[Input],
    samples: u32,
    devices: &[Device],
    desk: &mut Desk,
) -> Result<()> {
    let pictures = inputs.iter().map(|input| (input, 0)).collect();
    let mut left = Left { pictures, samples, processes: devices.len() };
    let (sender, heard) = channel();
    let mut members = Vec::with_capacity(devices.len());
    for number in 0..devices.len() {
        members.push(Member::start(order, devices, number, sender.clone())?);
    }
    drop(sender);
    let mut work = || {
        let mut running = members.len();
        while running > 0 {
            let (number, heard) = heard.recv().context("the processes are gone")?;
            let member = members.get_mut(number).context("there is no such process")?;
            match heard {
                Heard::Word(word) => match *word {
                    Word::News(news) => desk.hear(number, news)?,
                    Word::Ready(batch) => {
                        let pieces = left.take(batch);
                        member.dismissed = pieces.is_empty();
                        member.say(&pieces)?;
                    }
                    Word::Failed { error, usage } => {
                        let said = format!("{}: {error}", member.name);
                        return Err(if usage { Usage::new(said).into() } else { anyhow!(said) });
                    }
                },
                Heard::End => {
                    let status = member.helper.wait()?;
                    if !(status.success() && member.dismissed) {
                        return Err(member.lost(status));
                    }
                    running -= 1;
                }
            }
        }
        Ok(())
    };
    let done = work();
    for member in members {
        // Ends those that still run; what they said comes before the error.
        drop(member.helper);
        for thread in member.threads {
            let _ = thread.join();
        }
    }
    done
}

impl Member {
    fn start(
        order: &Order,
        devices: &[Device],
        number: usize,
        sender: Sender<(usize, Heard)>,
    ) -> Result<Self> {
        let device = devices.get(number).copied().unwrap_or(Device::Cpu);
        let count = devices.len();
        let (name, device, sharing) = match device {
            Device::Cuda(index) => (format!("GPU {index}"), format!("cuda:{index}"), 1),
            _ => (format!("process {} of {count}", number + 1), "cpu".to_owned(), count),
        };
        let mut helper = Helper::start(|command| {
            // What is not wanted of its messages is left out here.
            command.args(["--verbose", "--log-format", "json", "share"]).stderr(Stdio::piped());
        })
        .with_context(|| format!("{name} could not be started"))?;
        let threads = (tch::get_num_threads() / i32::try_from(count)?).max(1);
        let mut passing = Vec::new();
        if let Some(output) = helper.take_output() {
            let name = name.clone();
            passing.push(std::thread::spawn(move || listen(output, &name, number, &sender)));
        }
        if let Some(messages) = helper.take_messages() {
            passing.push(std::thread::spawn(move || pass_on(messages)));
        }
        let mut member = Self { name, helper, dismissed: false, threads: passing };
        member.say(&Begin { order: order.clone(), device, threads, sharing })?;
        Ok(member)
    }

    /// Says something to it. One that has ended cannot hear it; why it has is found out from its end.
    fn say(&mut self, what: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(what)?;
        if let Some(input) = self.helper.input() {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
        Ok(())
    }

    /// The error that it ended before its work was done.
    fn lost(&self, status: ExitStatus) -> anyhow::Error {
        let (name, id) = (&self.name, self.helper.id());
        let how = match signal_of(status) {
            Some(signal) => format!("was killed by {signal}"),
            None => format!("ended with {status}"),
        };
        anyhow!(
            "{name} (process {id}) {how}; the outputs that are there are whole, and the same command with \
             --skip-existing makes the others"
        )
    }
}

/// Hears a process to its end.
fn listen(output: impl Read, name: &str, number: usize, sender: &Sender<(usize, Heard)>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(word) => {
                let _ = sender.send((number, Heard::Word(Box::new(word))));
            }
            // Of a library.
            Err(_) => tracing::info!("{name}: {line}"),
        }
    }
    let _ = sender.send((number, Heard::End));
}

/// Says the messages of a process as this one's.
fn pass_on(messages: impl Read) {
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let text = |key: &str| object.get(key).and_then(serde_json::Value::as_str);
        match (text("level"), text("message")) {
            (Some("ERROR"), Some(message)) => tracing::error!("{message}"),
            (Some("WARN"), Some(message)) => tracing::warn!("{message}"),
            (Some("INFO"), Some(message)) => {
                let note = object.get("note").and_then(serde_json::Value::as_bool);
                tracing::info!(note = note.unwrap_or(false), "{message}");
            }
            (Some(_), Some(message)) => tracing::debug!("{message}"),
            // Of a library.
            _ => tracing::info!("{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_shared_out_evenly_each_once() {
        let inputs: Vec<Input> = ["a", "b", "c"]
            .map(|key| Input { path: format!("{key}.png").into(), key: key.to_owned() })
            .into();
        let mut left = Left {
            pictures: inputs.iter().map(|input| (input, 0)).collect(),
            samples: 3,
            processes: 2,
        };
        let mut taken = Vec::new();
        while let pieces = left.take(64)
            && !pieces.is_empty()
        {
            let named = pieces.into_iter().map(|piece| (piece.input.key, piece.samples));
            taken.push(named.collect::<Vec<_>>());
        }
        let piece = |key: &str, samples| (key.to_owned(), samples);
        let wanted = [
            vec![piece("a", 0..3), piece("b", 0..2)],
            vec![piece("b", 2..3), piece("c", 0..1)],
            vec![piece("c", 1..2)],
            vec![piece("c", 2..3)],
        ];
        assert_eq!(taken, wanted);
        // No more than a batch.
        left.pictures = inputs.iter().map(|input| (input, 0)).collect();
        assert_eq!(left.take(2).len(), 1);
    }

    #[test]
    fn gpus_are_counted_or_all() {
        assert_eq!("all".parse(), Ok(Gpus::All));
        assert_eq!("8".parse(), Ok(Gpus::Count(8)));
        for text in ["", "0", "1025", "-1", "two", "0..1"] {
            assert!(text.parse::<Gpus>().unwrap_err().contains("`all`"), "{text}");
        }
    }
}
