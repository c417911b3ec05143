//! One attempt from its child's start to its entry in the database.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::child::Running;
use super::{Gpu, Report, Shared, ending};
use crate::claim::Ended;
use crate::fence::Fence;
use crate::{ATTEMPT_VARIABLE, Claimed, Error, JobState, Outcome, Result};

/// What the worker tells the task of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Ask the child for a checkpoint; kill it after the grace.
    Stop,
    /// Kill the child at once and write nothing: the job is another's.
    Kill,
}

/// The end of an attempt.
pub(super) struct Attended {
    pub fence: Fence,
    /// The state of the job now; none when it is another's.
    pub state: Option<JobState>,
}

pub(super) async fn attend(
    shared: Arc<Shared>,
    claimed: Claimed,
    gpus: Vec<Gpu>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> Attended {
    let began = Instant::now();
    let (job, fence) = (&claimed.job, claimed.fence);
    let folder = shared.home.attempt(&job.short, job.attempt);
    let log = folder.join("log");
    let mut ended = match start(&shared, &claimed, &gpus, &folder, &log).await {
        Ok(child) => {
            (shared.report)(Report::Started {
                job: job.short.clone(),
                name: job.name.clone(),
                kind: job.kind,
                attempt: job.attempt,
                log: log.clone(),
            });
            let _ = shared.database.set_log_path(fence, &log.to_string_lossy()).await;
            watch(&shared, &job.short, child, &log, &mut orders).await
        }
        Err(error) => Some(Ended::new(Outcome::Failed, Some(error.to_string()))),
    };
    let state = match &mut ended {
        None => None,
        Some(ended) => enter(&shared, fence, ended, &mut orders).await,
    };
    match (state, ended) {
        (Some((state, wait)), Some(ended)) => {
            (shared.report)(Report::Ended {
                job: job.short.clone(),
                name: job.name.clone(),
                state,
                reason: ended.reason,
                took: Some(began.elapsed()),
                wait,
            });
            Attended { fence, state: Some(state) }
        }
        _ => {
            (shared.report)(Report::Note(format!(
                "{} {}: attempt {} was given to another worker; dropped",
                job.short, job.name, job.attempt
            )));
            Attended { fence, state: None }
        }
    }
}

async fn start(
    shared: &Shared,
    claimed: &Claimed,
    gpus: &[Gpu],
    folder: &Path,
    log: &Path,
) -> Result<Running> {
    let job = &claimed.job;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let out = File::options().create(true).append(true).open(log).map_err(Error::io(log))?;
    let program = shared.options.programs.join(job.kind.program());
    let mut command = Command::new(&program);
    command
        .arg("attempt")
        .current_dir(folder)
        .env(ATTEMPT_VARIABLE, format!("{}:{}", job.id, job.attempt))
        .env("DATABASE_URL", shared.database.url())
        .env("PALETTE_HOME", shared.home.path())
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(Error::io(log))?)
        .stderr(out);
    if !gpus.is_empty() {
        let names: Vec<&str> = gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        command.env("CUDA_VISIBLE_DEVICES", names.join(","));
    }
    shared.spawner.spawn(command).await.map_err(Error::io(&program))
}

/// Waits for the child's end, passing on orders and its output; none when the job is another's.
async fn watch(
    shared: &Shared,
    short: &str,
    mut child: Running,
    log: &Path,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<Ended> {
    const FOLLOW_EVERY: Duration = Duration::from_millis(200);
    let mut follower = shared.options.follow.then(|| Follower::new(log));
    let mut asked: Option<Instant> = None;
    let (mut killed, mut anothers) = (false, false);
    loop {
        let grace = asked.filter(|_| !killed).map(|asked| asked + shared.options.grace);
        tokio::select! {
            () = child.ended() => break,
            Some(order) = orders.recv() => match order {
                Order::Stop if asked.is_none() => {
                    asked = Some(Instant::now());
                    child.ask();
                }
                Order::Stop => {}
                Order::Kill => {
                    anothers = true;
                    child.kill();
                }
            },
            () = at(grace) => {
                killed = true;
                child.kill();
            }
            () = tokio::time::sleep(FOLLOW_EVERY), if follower.is_some() => {
                if let Some(follower) = &mut follower {
                    follower.pass_on(shared, short, false);
                }
            }
        }
    }
    let status = child.reap();
    if let Some(follower) = &mut follower {
        follower.pass_on(shared, short, true);
    }
    if anothers {
        return None;
    }
    Some(match status {
        Ok(status) => ending::judge(status, asked.is_some(), killed, &ending::tail(log)),
        Err(error) => Ended::new(Outcome::Failed, Some(format!("its end was missed: {error}"))),
    })
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Writes the end into the database, waiting out an outage; none when the job is another's.
async fn enter(
    shared: &Shared,
    fence: Fence,
    ended: &Ended,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<(JobState, Duration)> {
    loop {
        match shared.database.finish(fence, ended, &shared.options.lease).await {
            Ok(after) => return Some((after.state, after.wait)),
            Err(error) if error.is_outage() => {}
            Err(error) => {
                if !error.is_stale() {
                    (shared.report)(Report::Note(format!("cannot end an attempt: {error}")));
                }
                return None;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            Some(Order::Kill) = orders.recv() => return None,
        }
    }
}

/// Reads a log as it grows.
struct Follower {
    file: Option<File>,
    read: u64,
    rest: Vec<u8>,
}

impl Follower {
    fn new(log: &Path) -> Self {
        Self { file: File::open(log).ok(), read: 0, rest: Vec::new() }
    }

    /// Reports the lines that are new; at the end also one without a line end.
    fn pass_on(&mut self, shared: &Shared, short: &str, end: bool) {
        const AT_ONCE: u64 = 1 << 20;
        let Some(file) = &mut self.file else { return };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        let mut fresh = Vec::new();
        if let Ok(count) = file.take(AT_ONCE).read_to_end(&mut fresh) {
            self.read += count as u64;
        }
        self.rest.append(&mut fresh);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(shared, short, &line[..end]);
        }
        if (end && !self.rest.is_empty()) || self.rest.len() as u64 > AT_ONCE {
            let line = std::mem::take(&mut self.rest);
            self.line(shared, short, &line);
        }
    }

    fn line(&self, shared: &Shared, short: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        (shared.report)(Report::Line { job: short.to_owned(), line: text.to_owned() });
    }
}
