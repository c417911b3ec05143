//! Attempts on several hosts. Before its child starts, the worker of the attempt waits for workers of other hosts to
//! take seats beside it ([`assemble`]); a worker that has a seat starts its ranks when all are there, and ends them
//! when the attempt has ended ([`attend_seat`]).

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use registry::{
    ATTEMPT_VARIABLE, Claimed, Ended, Error, Gang, Gpu, GpuCount, Job, JobKind, Outcome, Result,
    STOPPED, Seat, TOO_FEW_HOSTS, Tail, Taken, within,
};
use tokio::sync::mpsc;

use super::attend::{Attended, Order};
use super::child::Running;
use super::ending::{Circumstances, judge, of_rank, out_of_memory_kills};
use super::log;
use super::start::{TASK_OF_SLURM, is_of_the_database};
use super::{Shared, WorkerEvent, at};

/// How often a gang is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long the ranks of a seat may take to end by themselves once the attempt has ended.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Ranks for which this host has room: one for each GPU, of a range of GPUs a power of two, or without one as many as the
/// job asks for.
pub(super) fn ranks(job: &Job, gpus: usize) -> i32 {
    if job.kind != JobKind::Train {
        1
    } else if gpus > 0 {
        let (least, most) = (job.gpus.max(1), job.gpus_most);
        let gpus = i64::try_from(gpus).unwrap_or(1);
        i32::try_from(a_power_of_two(gpus, least.into(), most.into())).unwrap_or(1)
    } else {
        job.ranks
    }
}

/// What became of the wait for other hosts.
pub(super) enum Assembled {
    /// They are there: ranks in all, and on this host.
    Complete(i32, i32),
    /// The attempt ends here.
    Ended(Ended),
    /// The job is another's by now.
    Anothers,
}

/// Waits until as many hosts as may be have come, or for a while; then as many as there are take part, if they are
/// enough.
pub(super) async fn assemble(
    shared: &Shared,
    claimed: &Claimed,
    gpus: usize,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Assembled {
    let (job, fence) = (&claimed.job, claimed.fence);
    let (patience, lease) = (shared.options.gather, &shared.options.lease);
    let (began, mut came) = (Instant::now(), Instant::now());
    let mut seated = 0;
    shared.note(format!(
        "{} {}: attempt {} waits for hosts, 1 of {} is there",
        job.short,
        job.name,
        fence.number,
        GpuCount { least: job.hosts, most: job.hosts_most }
    ));
    loop {
        let look = shared.database.gang(fence, 0);
        match within(lease.length, look).await {
            Ok(Gang { goes_on: false, .. }) => return Assembled::Anothers,
            // The answer to its completion was lost.
            Ok(Gang { assembling: false, world: Some(world), ranks: Some((_, here)), .. }) => {
                return Assembled::Complete(world, here);
            }
            Ok(gang) => {
                if gang.seated != seated {
                    (seated, came) = (gang.seated, Instant::now());
                    let name = &job.name;
                    shared.note(format!(
                        "{} {name}: {} of {} hosts are there",
                        job.short,
                        seated + 1,
                        job.hosts_most
                    ));
                }
                let hosts = seated + 1;
                let enough = hosts >= i64::from(job.hosts);
                // Where a range is asked for, no more are waited for than come one after another.
                let settled = came.elapsed() > patience / 10 || began.elapsed() > patience;
                if hosts >= i64::from(job.hosts_most) || (enough && settled) {
                    let seats = a_power_of_two(hosts, job.hosts.into(), job.hosts_most.into()) - 1;
                    let here = ranks(job, gpus);
                    match within(lease.length, shared.database.complete_gang(fence, seats, here))
                        .await
                    {
                        Ok(Some((world, here))) => return Assembled::Complete(world, here),
                        // A host has left, or is the gang complete already? The next look shows it.
                        Ok(None) => {}
                        Err(error) if error.is_outage() => {}
                        Err(error) => return Assembled::Ended(given_up(error.to_string())),
                    }
                } else if began.elapsed() > patience {
                    let text = format!(
                        "{TOO_FEW_HOSTS}{hosts} of {} hosts came within {} (workers of one host name count as one host)",
                        job.hosts,
                        terminal::duration(patience)
                    );
                    return Assembled::Ended(given_up(text));
                }
            }
            Err(error) if error.is_outage() => {}
            Err(error) => return Assembled::Ended(given_up(error.to_string())),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            order = orders.recv() => return match order {
                Some(Order::Stop(why)) => {
                    Assembled::Ended(Ended::new(Outcome::Stopped, Some(why.to_owned())))
                }
                Some(Order::Kill) | None => Assembled::Anothers,
            },
        }
    }
}

/// The attempt gives its places back; the job waits a little, so that another has its turn.
fn given_up(reason: String) -> Ended {
    Ended { by_itself: true, ..Ended::new(Outcome::Stopped, Some(reason)) }
}

/// How many of what is there take part, hosts or GPUs: of a range a power of two, which divides `train.shares`, where
/// that is enough.
fn a_power_of_two(there: i64, least: i64, most: i64) -> i64 {
    let count = there.clamp(1, most.max(1));
    let power = 1_i64 << (63 - count.leading_zeros());
    if least < most && power >= least { power } else { count }
}

/// A seat from its taking to its end.
pub(super) async fn attend_seat(
    shared: Arc<Shared>,
    seat: Seat,
    gpus: Vec<Gpu>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> Attended {
    let uuids: Vec<String> = gpus.into_iter().map(|gpu| gpu.uuid).collect();
    let mut log = Tail::default();
    let ended = sit(&shared, &seat, &uuids, &mut orders, &mut log).await;
    let fence = seat.fence;
    let End { reason, started, too_few, taken } = ended.unwrap_or_else(|error| End {
        reason: Some(format!("{} could not start its ranks: {error}", shared.worker.host)),
        ..End::default()
    });
    let failed = reason.is_some();
    let (began, lease) = (Instant::now(), &shared.options.lease);
    loop {
        let left = shared.database.leave_seat(shared.worker.id, &seat, reason.as_deref(), &log);
        match within(lease.length, left).await {
            Err(error) if error.may_pass(began, lease) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            _ => break,
        }
    }
    (shared.report)(WorkerEvent::Left {
        job: seat.job.short,
        name: seat.job.name,
        attempt: fence.number,
        reason,
    });
    let (ails, left) = (None, false);
    Attended { fence, state: None, failed, started, ails, taken, left, too_few }
}

/// How a seat ended.
#[derive(Default)]
struct End {
    /// Why its ranks were lost, where they were first.
    reason: Option<String>,
    started: bool,
    /// The gang was given up because too few hosts came.
    too_few: bool,
    /// A GPU that another worker has after all: somebody else may take the seat.
    taken: Option<Taken>,
}

async fn sit(
    shared: &Shared,
    seat: &Seat,
    gpus: &[String],
    orders: &mut mpsc::UnboundedReceiver<Order>,
    tail: &mut Tail,
) -> Result<End> {
    let (lease, fence) = (&shared.options.lease, seat.fence);
    (shared.report)(WorkerEvent::Seated {
        job: seat.job.short.clone(),
        name: seat.job.name.clone(),
        attempt: fence.number,
    });
    let here = ranks(&seat.job, gpus.len());
    let began = Instant::now();
    loop {
        let sat = shared.database.sit(shared.worker.id, seat, here, gpus);
        match within(lease.length, sat).await {
            Ok(None) => break,
            Ok(taken) => return Ok(End { taken, ..End::default() }),
            Err(error) if error.is_stale() => return Ok(End::default()),
            Err(error) if !error.may_pass(began, lease) => return Err(error),
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = orders.recv() => return Ok(End::default()),
        }
    }
    let (first, world, host, port) = loop {
        match within(lease.length, shared.database.gang(fence, seat.number)).await {
            Ok(Gang { goes_on: false, too_few, .. }) => {
                return Ok(End { too_few, ..End::default() });
            }
            Ok(Gang { ranks: None, .. }) => return Ok(End::default()),
            Ok(Gang {
                ranks: Some((first, _)),
                world: Some(world),
                meeting: Some((host, port)),
                ..
            }) => break (first, world, host, port),
            Err(error) if !error.is_outage() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = orders.recv() => return Ok(End::default()),
        }
    };
    let folder = shared.home.attempt(&seat.job.short, fence.number);
    let log = folder.join(format!("rank-{first}.log"));
    let kills = out_of_memory_kills();
    let child = start(shared, seat, gpus, &log, [first, world, here], (&host, port)).await?;
    let ranks = match here {
        1 => format!("rank {first}"),
        _ => format!("ranks {first} to {}", first + here - 1),
    };
    (shared.report)(WorkerEvent::Joined {
        job: seat.job.short.clone(),
        name: seat.job.name.clone(),
        attempt: fence.number,
        ranks: ranks.clone(),
        gpus: (!gpus.is_empty()).then(|| gpus.join(",")),
        log: log.clone(),
    });
    let path = log.to_string_lossy();
    // Without it, it is not found from other hosts.
    let _ = within(lease.length, shared.database.note_seat_log(seat, &path)).await;
    let reason = follow(shared, seat, child, &log, kills, first, orders).await;
    *tail = log::tail(&log);
    Ok(End { reason, started: true, ..End::default() })
}

/// Starts the first rank of this host, which starts the others.
async fn start(
    shared: &Shared,
    seat: &Seat,
    gpus: &[String],
    log: &Path,
    [first, world, here]: [i32; 3],
    (host, port): (&str, i32),
) -> Result<Running> {
    let failed = |what: &Path, error: std::io::Error| Error::io(what)(error);
    let folder = log.parent().unwrap_or(log);
    shared.home.make(folder).map_err(|error| failed(folder, error))?;
    let out = shared.home.log(log).map_err(|error| failed(log, error))?;
    let errors = out.try_clone().map_err(|error| failed(log, error))?;
    let program = shared.options.programs.join(seat.job.kind.program());
    let mut command = Command::new(&program);
    command.args(["rank", "auto", "--seat"]).current_dir(folder);
    if let Some(bounds) = &shared.options.bounds {
        bounds
            .bind(&mut command, &shared.home, folder)
            .map_err(|error| Error::Failed(error.to_string()))?;
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_the_database(name)) {
        command.env_remove(name);
    }
    for name in TASK_OF_SLURM {
        command.env_remove(name);
    }
    let mark = format!("{}:{}", seat.fence.job, seat.fence.number);
    command
        .env(ATTEMPT_VARIABLE, &mark)
        .env("PALETTE_HOME", shared.home.path())
        .env(terminal::FORMAT_VARIABLE, shared.options.format.name())
        .env("CUDA_VISIBLE_DEVICES", gpus.join(","))
        .env("RANK", first.to_string())
        .env("WORLD_SIZE", world.to_string())
        .env("LOCAL_RANK", "0")
        .env("LOCAL_WORLD_SIZE", here.to_string())
        .env("MASTER_ADDR", host)
        .env("MASTER_PORT", port.to_string())
        .env_remove("TORCHELASTIC_USE_AGENT_STORE")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors);
    shared.spawner.spawn(command, mark).await.map_err(|error| failed(&program, error))
}

/// Waits for the end of a seat's ranks; why they were lost, where nobody else was before them.
async fn follow(
    shared: &Shared,
    seat: &Seat,
    mut child: Running,
    log: &Path,
    kills_before: Option<u64>,
    first: i32,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<String> {
    let (lease, fence) = (&shared.options.lease, seat.fence);
    let mut kill_at: Option<Instant> = None;
    let (mut killed, mut over, mut asked) = (false, false, false);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut stopped = false;
    loop {
        tokio::select! {
            () = child.ended() => break,
            Some(order) = orders.recv() => match order {
                // The whole attempt stops at a checkpoint, and the ranks here with it.
                Order::Stop(_) if !asked => {
                    asked = true;
                    let _ = within(lease.length, shared.database.ask_gang_to_yield(fence)).await;
                    kill_at = Some(Instant::now() + shared.options.grace);
                }
                Order::Stop(_) => {}
                Order::Kill => {
                    killed = true;
                    child.kill();
                }
            },
            () = at(kill_at.filter(|_| !killed).map(Into::into)) => {
                killed = true;
                child.kill();
            }
            _ = look.tick(), if !over => {
                if child.is_stopped() != stopped {
                    stopped = !stopped;
                    let text = format!("rank {first} on {} was stopped", shared.worker.host);
                    let text = stopped.then_some(text.as_str());
                    let told = shared.database.note_seat(fence, seat.number, text);
                    let _ = within(lease.length, told).await;
                }
                if let Ok(gang) = within(lease.length, shared.database.gang(fence, seat.number)).await
                    && !gang.goes_on
                {
                    over = true;
                    let soon = Instant::now() + LAST_STEPS;
                    kill_at = Some(kill_at.map_or(soon, |at| at.min(soon)));
                }
            }
        }
    }
    let which = format!("rank {first} on {}", shared.worker.host);
    let status = match child.reap().await {
        Ok(status) => status,
        Err(error) => return Some(format!("the end of {which} was missed: {error}")),
    };
    if status.success() || killed || over || status.code() == Some(i32::from(STOPPED)) {
        return None;
    }
    let memory_ran_out = kills_before.is_some() && out_of_memory_kills() > kills_before;
    if let Some(signal) = status.signal().filter(|_| !memory_ran_out) {
        let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
        return Some(format!("{which} was killed by {name}"));
    }
    let circumstances = Circumstances { asked: None, killed, memory_ran_out };
    judge(status, circumstances, log::tail(log)).reason.map(|how| of_rank(&which, &how))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn of_a_range_as_many_hosts_take_part_as_divide_shares() {
        // hosts, least, most → taking part
        for (there, least, most, part) in [
            (1, 1, 4, 1),
            (3, 1, 4, 2),
            (4, 1, 4, 4),
            (3, 3, 4, 3),
            (3, 3, 3, 3),
            (7, 2, 8, 4),
            (9, 1, 8, 8),
        ] {
            assert_eq!(a_power_of_two(there, least, most), part, "{there} of {least}..{most}");
        }
    }
}
