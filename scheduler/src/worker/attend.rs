//! One attempt from its child's start to its entry in the database.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::{
    ATTEMPT_VARIABLE, Claimed, CommandLine, Ended, Error, Fence, Gpu, JobState, Outcome, Result,
    within,
};
use tokio::sync::mpsc;

use super::child::Running;
use super::ending::{Circumstances, judge, out_of_memory_kills};
use super::log::{self, Follower};
use super::{Shared, WorkerEvent, at};

/// What the worker tells the task of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Ask the child for a checkpoint, for this reason; kill it after the grace.
    Stop(&'static str),
    /// Kill the child at once and write nothing: the job is another's.
    Kill,
}

/// The end of an attempt.
pub(super) struct Attended {
    pub fence: Fence,
    /// The state of the job now; none when it is another's.
    pub state: Option<JobState>,
    /// It did not end by itself or as it was asked to.
    pub failed: bool,
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
    let gpus = gpus.iter().map(|gpu| gpu.uuid.as_str()).collect::<Vec<_>>().join(",");
    let kills = out_of_memory_kills();
    let mut ended = match start(&shared, &claimed, &gpus, &folder, &log).await {
        Ok(child) => {
            (shared.report)(WorkerEvent::Started {
                job: job.short.clone(),
                name: job.name.clone(),
                kind: job.kind,
                attempt: job.attempt,
                gpus: (!gpus.is_empty()).then(|| gpus.clone()),
                log: log.clone(),
            });
            let path = log.to_string_lossy();
            let noted = shared.database.note_start(fence, &path, &gpus);
            let _ = within(shared.options.lease.length, noted).await;
            tokio::select! {
                ended = watch(&shared, &job.short, child, &log, kills, &mut orders) => ended,
                () = log::send(&shared, fence, &log) => None,
            }
        }
        Err(error) => Some(Ended::new(Outcome::Failed, Some(error.to_string()))),
    };
    let state = match &mut ended {
        None => None,
        Some(ended) => enter(&shared, fence, ended, &mut orders).await,
    };
    match (state, ended) {
        (Some((state, wait)), Some(ended)) => {
            (shared.report)(WorkerEvent::Ended {
                job: job.short.clone(),
                name: job.name.clone(),
                state,
                reason: ended.reason,
                took: Some(began.elapsed()),
                wait,
            });
            let failed = ended.outcome == Outcome::Failed;
            Attended { fence, state: Some(state), failed }
        }
        _ => {
            (shared.report)(WorkerEvent::Dropped {
                job: job.short.clone(),
                name: job.name.clone(),
                attempt: job.attempt,
            });
            Attended { fence, state: None, failed: true }
        }
    }
}

async fn start(
    shared: &Shared,
    claimed: &Claimed,
    gpus: &str,
    folder: &Path,
    log: &Path,
) -> Result<Running> {
    let job = &claimed.job;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let out = File::options().create(true).append(true).open(log).map_err(Error::io(log))?;
    let program = shared.options.programs.join(job.kind.program());
    let mut command = Command::new(&program);
    match CommandLine::of(job)? {
        None => command.arg("attempt").current_dir(folder),
        Some(line) => command.args(line.arguments).current_dir(line.folder),
    };
    command
        .env(ATTEMPT_VARIABLE, format!("{}:{}", job.id, job.attempt))
        .env("DATABASE_URL", shared.database.url())
        .env("PALETTE_HOME", shared.home.path())
        .env(terminal::FORMAT_VARIABLE, shared.options.format.name())
        // Empty hides every GPU: a job that was given none must not use one that another has.
        .env("CUDA_VISIBLE_DEVICES", gpus)
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(Error::io(log))?)
        .stderr(out);
    shared.spawner.spawn(command).await.map_err(Error::io(&program))
}

/// Waits for the child's end, passing on orders and its output; none when the job is another's.
async fn watch(
    shared: &Shared,
    short: &str,
    mut child: Running,
    log: &Path,
    kills_before: Option<u64>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<Ended> {
    const FOLLOW_EVERY: Duration = Duration::from_millis(200);
    let mut follower = shared.options.follow.then(|| Follower::new(log));
    let mut asked: Option<(Instant, &'static str)> = None;
    let (mut killed, mut anothers) = (false, false);
    loop {
        let grace = asked.filter(|_| !killed).map(|(asked, _)| asked + shared.options.grace);
        tokio::select! {
            () = child.ended() => break,
            Some(order) = orders.recv() => match order {
                Order::Stop(why) if asked.is_none() => {
                    asked = Some((Instant::now(), why));
                    child.ask();
                }
                Order::Stop(_) => {}
                Order::Kill => {
                    anothers = true;
                    child.kill();
                }
            },
            () = at(grace.map(Into::into)) => {
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
        Ok(status) => {
            let circumstances = Circumstances {
                asked: asked.map(|(_, why)| why),
                killed,
                memory_ran_out: kills_before.is_some() && out_of_memory_kills() > kills_before,
            };
            judge(status, circumstances, log::tail(log))
        }
        Err(error) => Ended::new(Outcome::Failed, Some(format!("its end was missed: {error}"))),
    })
}

/// Writes the end into the database, waiting out an outage; none when the job is another's.
async fn enter(
    shared: &Shared,
    fence: Fence,
    ended: &Ended,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<(JobState, Duration)> {
    loop {
        let lease = &shared.options.lease;
        match within(lease.length, shared.database.finish(fence, ended, lease)).await {
            Ok(after) => return Some((after.state, after.wait)),
            Err(error) if error.is_outage() => {}
            Err(error) => {
                if !error.is_stale() {
                    (shared.report)(WorkerEvent::Note(format!("cannot end an attempt: {error}")));
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
