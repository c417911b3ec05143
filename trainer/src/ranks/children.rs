//! The other ranks of this host: helpers that the leader starts, in its own process group.

use std::io::{Read, Write};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use terminal::Usage;
use terminal::helpers::{self, Helper};

use super::LostRank;
use super::outside::Outside;

/// How long a rank that is done, or has lost the others, may take to end.
pub const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a rank says when it fails, as a line of JSON on its standard output.
#[derive(Serialize, Deserialize)]
struct LastWords {
    error: String,
    /// The others are at fault, or gone.
    lost_others: bool,
    /// Trying again would not help.
    usage: bool,
}

/// The ranks that this process started.
pub struct Children {
    children: Vec<Running>,
    limit: Duration,
}

struct Running {
    rank: usize,
    helper: Helper,
    /// Reads what it says.
    words: Option<JoinHandle<String>>,
}

impl Children {
    /// Starts the other ranks of the host of `first`, which is this process. Call it from a thread that lives as long
    /// as the process: the kernel's promise to kill them follows the thread.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start(first: &Outside, device: &str, limit: Duration) -> Result<Self> {
        let here = first.here.unwrap_or(1);
        let mut started = Self { children: Vec::with_capacity(here), limit };
        for local in 1..here {
            let rank = first.rank + local;
            let mut helper = Helper::start(|command| {
                command
                    .arg("rank")
                    .arg(device)
                    .env("RANK", rank.to_string())
                    .env("WORLD_SIZE", first.size.to_string())
                    .env("LOCAL_RANK", local.to_string())
                    .env("LOCAL_WORLD_SIZE", here.to_string())
                    .env("MASTER_ADDR", &first.host)
                    .env("MASTER_PORT", first.port.to_string())
                    .env_remove("TORCHELASTIC_USE_AGENT_STORE");
            })
            .with_context(|| format!("rank {rank} could not be started"))?;
            let words = helper.take_output().map(|mut output| {
                std::thread::spawn(move || {
                    let mut words = String::new();
                    let _ = output.read_to_string(&mut words);
                    words
                })
            });
            started.children.push(Running { rank, helper, words });
        }
        Ok(started)
    }

    /// Whether all still run.
    ///
    /// # Errors
    /// When one has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.children.iter_mut().find_map(|child| child.has_ended().then_some(child.rank)) {
            Some(rank) => Err(anyhow!("rank {rank} ended").context(LostRank)),
            None => Ok(()),
        }
    }

    /// The error of the leader as it is or, where that is that another rank was lost, what became of that one. All
    /// ranks have ended afterwards.
    pub fn blamed(mut self, error: anyhow::Error) -> anyhow::Error {
        if error.downcast_ref::<LostRank>().is_none() {
            return error;
        }
        let deadline = Instant::now() + LAST_WORDS;
        // The others end by themselves, as they have lost a rank too; but not one that is stopped.
        let over = |running: &mut Running| running.has_ended() || is_stopped(running.helper.id());
        while Instant::now() < deadline && !self.children.iter_mut().all(over) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let host = registry::host();
        let mut causes = Vec::new();
        for running in &mut self.children {
            if let Some(cause) = running.cause(&host, self.limit) {
                causes.push(cause);
            }
        }
        // Its own fault first; what is merely silent last.
        causes.sort_by_key(|(weight, _)| *weight);
        match causes.into_iter().next() {
            Some((_, cause)) => cause,
            None => error,
        }
    }

    /// Waits until the ranks, which have done all steps, have ended.
    pub fn finish(mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline && !self.children.iter_mut().all(Running::has_ended) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Running {
    fn has_ended(&mut self) -> bool {
        self.helper.ended().is_some()
    }

    /// Why this rank is lost, if it is; the less the number, the surer it is the first cause.
    fn cause(&mut self, host: &str, limit: Duration) -> Option<(u8, anyhow::Error)> {
        let (rank, id) = (self.rank, self.helper.id());
        let which = format!("rank {rank} on {host}");
        let Some(status) = self.helper.ended() else {
            let seconds = limit.as_secs_f64();
            return Some(match is_stopped(id) {
                true => (
                    1,
                    anyhow!(
                        "{which} was stopped (process {id}), and nothing moved for {seconds} s"
                    ),
                ),
                false => (4, anyhow!("{which} (process {id}) stood still for {seconds} s")),
            });
        };
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        let words = words.lines().last().and_then(|line| serde_json::from_str(line).ok());
        match (helpers::signal_of(status), words) {
            (Some(signal), _) => Some((0, anyhow!("{which} was killed by {signal}"))),
            (None, Some(LastWords { error, lost_others: false, usage })) => {
                let text = format!("{which}: {error}");
                let error = if usage { Usage::new(text).into() } else { anyhow!(text) };
                Some((2, error))
            }
            (None, Some(LastWords { lost_others: true, .. })) => None,
            (None, None) if status.success() => None,
            (None, None) => Some((3, anyhow!("{which} ended with {status}"))),
        }
    }
}

/// Whether a process is stopped, by SIGSTOP or a debugger.
fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// Makes this process, a rank that the leader started, end with the leader, and leaves the signals that ask for
/// an end to it.
///
/// # Errors
/// When the system does not allow it.
pub fn end_with_leader() -> Result<()> {
    helpers::end_with_parent()?;
    std::thread::Builder::new().name("leader".to_owned()).spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    })?;
    Ok(())
}

/// Says to the leader why this rank fails.
pub fn say_last_words(error: &anyhow::Error) {
    let words = LastWords {
        error: format!("{error:#}"),
        lost_others: error.downcast_ref::<LostRank>().is_some(),
        usage: error.downcast_ref::<Usage>().is_some(),
    };
    let line = serde_json::to_string(&words).unwrap_or_default();
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}");
}
