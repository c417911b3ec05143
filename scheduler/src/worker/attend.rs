//! One attempt from its child's start to its entry in the database.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::{
    Claimed, Ended, Error, Fence, Gpu, Job, JobKind, JobState, LEFT_TO_OTHERS, Outcome,
    TOO_FEW_HOSTS, Taken, within,
};
use tokio::sync::{mpsc, watch};

use super::child::Running;
use super::ending::{Circumstances, judge, of_rank, out_of_memory_kills};
use super::gang::{Assembled, assemble, ranks};
use super::log::{self, Follower};
use super::programs::may_not_have_started;
use super::start::{NotStarted, start, take};
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
    /// Its child was started.
    pub started: bool,
    /// What ails this worker, where that became known by it.
    pub ails: Option<String>,
    /// A GPU that it was to have and another worker's attempt has.
    pub taken: Option<Taken>,
    /// Other hosts may do the job, this one cannot.
    pub left: bool,
    /// It was given up because fewer hosts came than the job needs.
    pub too_few: bool,
}

pub(super) async fn attend(
    shared: Arc<Shared>,
    claimed: Claimed,
    gpus: Vec<Gpu>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> Attended {
    let began = Instant::now();
    let (job, fence) = (&claimed.job, claimed.fence);
    let log = shared.home.attempt(&job.short, job.attempt).join("log");
    let gpus: Vec<String> = gpus.into_iter().map(|gpu| gpu.uuid).collect();
    let kills = out_of_memory_kills();
    let (mut started, mut ails, mut taken, mut left) = (false, None, None, false);
    let mut several = match ranks(job, gpus.len()) {
        1 => None,
        // Of a range the trainer takes as many as its batch allows.
        _ if !gpus.is_empty() && job.gpus < job.gpus_most => None,
        here => Some((here, here)),
    };
    let child = 'start: {
        let gang = if job.hosts_most > 1 {
            // Others must not take its GPUs while it waits for hosts.
            if let Err(not_started) = take(&shared, &claimed, &gpus).await {
                break 'start Ok(Err(not_started));
            }
            match assemble(&shared, &claimed, gpus.len(), &mut orders).await {
                Assembled::Complete(world, here) => {
                    several = Some((world, here));
                    several
                }
                Assembled::Ended(ended) => break 'start Err(Some(ended)),
                Assembled::Anothers => break 'start Err(None),
            }
        } else {
            None
        };
        Ok(start(&shared, &claimed, &gpus, &log, gang).await)
    };
    let mut ended = match child {
        Err(ended) => ended,
        Ok(Ok(child)) => {
            started = true;
            let gpus = gpus.join(",");
            (shared.report)(WorkerEvent::Started {
                job: job.short.clone(),
                name: job.name.clone(),
                kind: job.kind,
                attempt: job.attempt,
                ranks: several,
                gpus: (!gpus.is_empty()).then(|| gpus.clone()),
                log: log.clone(),
            });
            let path = log.to_string_lossy();
            let (ends, mut end) = End::new();
            let watched = async {
                let _ends = ends;
                follow(&shared, job, child, &log, kills, &mut orders).await
            };
            let told = async {
                note_start(&shared, fence, &path, &gpus, &mut end).await;
                log::send(&shared, fence, &log, &mut end).await;
            };
            tokio::join!(watched, told).0
        }
        Ok(Err(NotStarted::Anothers)) => None,
        Ok(Err(NotStarted::Job(error))) => {
            Some(Ended { again: false, ..Ended::new(Outcome::Failed, Some(error.to_string())) })
        }
        Ok(Err(NotStarted::Worker(why))) => {
            let reason = format!("its worker could not start it: {why}");
            ails = Some(why);
            Some(Ended::new(Outcome::Stopped, Some(reason)))
        }
        Ok(Err(NotStarted::Elsewhere(why))) => {
            left = goes_elsewhere(&shared, job).await;
            Some(match left {
                true => Ended::new(Outcome::Stopped, Some(format!("{LEFT_TO_OTHERS}{why}"))),
                false => Ended::new(Outcome::Failed, Some(why)),
            })
        }
        Ok(Err(NotStarted::Taken(gpu))) => {
            let reason = format!("its worker could not give it {}: {gpu}", gpu.uuid);
            taken = Some(gpu);
            Some(Ended::new(Outcome::Stopped, Some(reason)))
        }
    };
    if let Some(ended) = &mut ended
        && ended.outcome == Outcome::Failed
        && ended.again
    {
        if may_not_have_started(ended) {
            shared.host.suspect(&shared.options.programs.join(job.kind.program()));
        }
        ails = shared.host.ails(shared.options.lease.length).await;
        if let Some(why) = &ails {
            let how = ended.reason.take().unwrap_or_default();
            ended.outcome = Outcome::Stopped;
            ended.reason = Some(format!("its worker is ailing: {why}; {how}"));
        }
    }
    let entry = match &mut ended {
        None => Entry::Anothers,
        Some(ended) => enter(&shared, fence, ended, &mut orders).await,
    };
    let too_few = ended
        .as_ref()
        .and_then(|ended| ended.reason.as_ref())
        .is_some_and(|reason| reason.starts_with(TOO_FEW_HOSTS));
    let dropped = |why| WorkerEvent::Dropped {
        job: job.short.clone(),
        name: job.name.clone(),
        attempt: job.attempt,
        why,
    };
    match (entry, ended) {
        (Entry::Made(state, wait), Some(ended)) => {
            (shared.report)(WorkerEvent::Ended {
                job: job.short.clone(),
                name: job.name.clone(),
                state,
                reason: ended.reason,
                took: Some(began.elapsed()),
                wait,
            });
            let failed = ended.outcome == Outcome::Failed;
            Attended { fence, state: Some(state), failed, started, ails, taken, left, too_few }
        }
        (Entry::Refused(error), _) => {
            (shared.report)(dropped(Some(error.to_string())));
            Attended { fence, state: None, failed: true, started, ails, taken, left, too_few }
        }
        _ => {
            (shared.report)(dropped(None));
            Attended { fence, state: None, failed: true, started, ails, taken, left, too_few }
        }
    }
}

/// Whether workers of other hosts may try a job that this one cannot.
async fn goes_elsewhere(shared: &Shared, job: &Job) -> bool {
    let (lease, host) = (&shared.options.lease, &shared.worker.host);
    let asked = within(lease.length, shared.database.could_go_elsewhere(job, host, lease));
    // Where the database does not say, it is tried again here or there.
    asked.await.unwrap_or(true)
}

/// The end of an attempt's child, for what goes on beside it. That ends between two statements: one that is given up
/// takes the worker's connection with it.
pub(super) struct End(watch::Receiver<()>);

impl End {
    /// It comes when the first of the two is dropped.
    fn new() -> (watch::Sender<()>, Self) {
        let (ends, end) = watch::channel(());
        (ends, Self(end))
    }

    /// Waits so long; false when it comes before.
    pub async fn not_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.changed()).await.is_err()
    }
}

/// Notes where the log is and which GPUs the child has, however long the database takes.
async fn note_start(shared: &Shared, fence: Fence, log: &str, gpus: &str, end: &mut End) {
    let (lease, since) = (&shared.options.lease, Instant::now());
    while let Err(error) = within(lease.length, shared.database.note_start(fence, log, gpus)).await
    {
        if !error.may_pass(since, lease) || !end.not_within(Duration::from_millis(500)).await {
            return;
        }
    }
}

/// Waits for the child's end, passing on orders and its output; none when the job is another's.
async fn follow(
    shared: &Shared,
    job: &Job,
    mut child: Running,
    log: &Path,
    kills_before: Option<u64>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<Ended> {
    const FOLLOW_EVERY: Duration = Duration::from_millis(200);
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    let short = &job.short;
    // The other ranks wait for the first; nobody but this worker sees that it is stopped.
    let several = job.ranks > 1 || job.hosts_most > 1 || job.gpus_most > 1;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut stopped: Option<Instant> = None;
    let mut stood_still = None;
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
            _ = look.tick(), if several && stood_still.is_none() => {
                stopped = child.is_stopped().then(|| stopped.unwrap_or_else(Instant::now));
                if stopped.is_some_and(|since| since.elapsed() > shared.options.stand_still) {
                    let limit = terminal::duration(shared.options.stand_still);
                    stood_still = Some(format!(
                        "rank 0 on {} was stopped, and nothing moved for {limit}",
                        shared.worker.host
                    ));
                    child.kill();
                }
            }
            () = tokio::time::sleep(FOLLOW_EVERY), if follower.is_some() => {
                if let Some(follower) = &mut follower {
                    follower.pass_on(shared, short, false);
                }
            }
        }
    }
    let status = child.reap().await;
    if let Some(follower) = &mut follower {
        follower.pass_on(shared, short, true);
    }
    if anothers {
        return None;
    }
    if let Some(reason) = stood_still {
        return Some(Ended {
            log: Some(log::tail(log)),
            ..Ended::new(Outcome::Failed, Some(reason))
        });
    }
    Some(match status {
        Ok(status) => {
            let circumstances = Circumstances {
                asked: asked.map(|(_, why)| why),
                killed,
                memory_ran_out: kills_before.is_some() && out_of_memory_kills() > kills_before,
            };
            let mut ended = judge(status, circumstances, log::tail(log));
            // A child that ended by itself says which rank was at fault.
            if several && job.kind == JobKind::Train && ended.signal.is_some() {
                let which = format!("rank 0 on {}", shared.worker.host);
                ended.reason = ended.reason.map(|how| of_rank(&which, &how));
            }
            ended
        }
        Err(error) => Ended::new(Outcome::Failed, Some(format!("its end was missed: {error}"))),
    })
}

/// What became of the entry of an attempt's end.
enum Entry {
    /// It is in the database: the state of the job now, and its wait for the next try.
    Made(JobState, Duration),
    /// The job is another's by now.
    Anothers,
    /// It can never be made, for this reason.
    Refused(Error),
}

/// Writes the end into the database, again and again as long as the job is ours: what passes is waited out. Where the
/// database does not take the texts of the end, it is written without them; where it does not take that either, as a
/// failure that says why.
async fn enter(
    shared: &Shared,
    fence: Fence,
    ended: &mut Ended,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Entry {
    let lease = &shared.options.lease;
    let (mut said, since) = (false, Instant::now());
    loop {
        match within(lease.length, shared.database.finish(fence, ended, lease)).await {
            Ok(after) => return Entry::Made(after.state, after.wait),
            Err(error) if error.is_stale() => return Entry::Anothers,
            Err(error) if error.may_pass(since, lease) => {
                if !said {
                    let job = registry::short(&fence.job);
                    shared.note(format!("{job}: its end is not stored yet: {error}; trying again"));
                }
                said = true;
            }
            Err(_) if ended.has_texts() => {
                ended.drop_texts();
                continue;
            }
            Err(error) if ended.outcome != Outcome::Failed => {
                let reason = format!("its end cannot be stored: {error}");
                *ended = Ended { again: false, ..Ended::new(Outcome::Failed, Some(reason)) };
                continue;
            }
            Err(error) => return Entry::Refused(error),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            Some(Order::Kill) = orders.recv() => return Entry::Anothers,
        }
    }
}
