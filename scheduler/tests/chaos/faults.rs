//! The harm that is done, and how it is made good again.

use std::collections::BTreeMap;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use registry::{JobState, Uuid};
use sqlx::PgConnection;

use crate::fleet::{Fleet, LEASE, PATIENCE};
use crate::job::Dice;
use crate::proxy::Link;

/// A kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillWorker,
    TerminateWorker,
    KillChild,
    FreezeWorker,
    FreezeChild,
    FreezeBoth,
    KillServer,
    RestartServer,
    Stall,
    Refuse,
    Cut,
    Pause,
    PauseAndTakeBack,
    Cancel,
    /// A table is locked, as by `vacuum full` or somebody's forgotten transaction.
    Lock,
    /// The server ends every statement after a few milliseconds.
    TimeLimit,
    /// The server takes no writes, as a standby does or one whose disk is full.
    ReadOnly,
    /// Others have all connections.
    Full,
    /// A worker's home cannot be written to.
    Sick,
    /// A worker's terminal is stopped: who writes to it waits.
    Mute,
}

/// Each as often as it stands here.
const FAULTS: [Fault; 32] = [
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::TerminateWorker,
    Fault::TerminateWorker,
    Fault::KillChild,
    Fault::KillChild,
    Fault::FreezeWorker,
    Fault::FreezeWorker,
    Fault::FreezeChild,
    Fault::FreezeChild,
    Fault::FreezeBoth,
    Fault::FreezeBoth,
    Fault::KillServer,
    Fault::RestartServer,
    Fault::Stall,
    Fault::Stall,
    Fault::Stall,
    Fault::Refuse,
    Fault::Cut,
    Fault::Pause,
    Fault::PauseAndTakeBack,
    Fault::Lock,
    Fault::Lock,
    Fault::TimeLimit,
    Fault::TimeLimit,
    Fault::ReadOnly,
    Fault::ReadOnly,
    Fault::Full,
    Fault::Sick,
    Fault::Sick,
    Fault::Mute,
    Fault::Mute,
];

/// Tables that are locked. The others the dice themselves look at.
const LOCKED: [&str; 4] = ["attempts", "metrics", "checkpoints", "chunks"];

/// How harm is made good.
#[derive(Debug)]
enum Remedy {
    /// These processes go on.
    Continue { worker: bool, children: Vec<Pid> },
    /// The network carries again.
    Open,
    /// The job is resumed.
    Resume(Uuid),
    /// The transaction that holds a lock ends.
    Unlock(PgConnection),
    /// The home can be written to.
    Recover,
    /// The terminal goes on.
    Read,
}

/// When it is.
#[derive(Clone, Debug)]
enum When {
    /// When every one of these attempts has ended: longer than a lease.
    TakenBack(Vec<(Uuid, i32)>),
    /// When these attempts have ended or their lease, which a worker goes on renewing, is another:
    /// longer than the child believes that its lease lasts.
    Renewed(Vec<(Uuid, i32)>, i64),
    /// When so many writes have been made, or so many looks: shorter than a lease.
    Soon { writes: i64, looks: u32 },
    /// When the job has stopped.
    Stopped(Uuid),
}

/// Harm that was done and not made good yet.
struct Harm {
    fault: Fault,
    seat: Option<usize>,
    when: When,
    remedy: Remedy,
    since: Instant,
}

/// Does harm, as the dice fall.
pub struct Faults {
    pub dice: Dice,
    pub done: BTreeMap<String, u32>,
    harms: Vec<Harm>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), done: BTreeMap::new(), harms: Vec::new() }
    }

    /// Does one harm. Never more than two seats at a time are out of order, so that the others can
    /// go on.
    pub fn strike(&mut self, fleet: &Fleet, victims: &[Uuid]) {
        let fault = match victims.is_empty() || self.dice.below(20) > 0 {
            true => FAULTS[self.dice.below(FAULTS.len())],
            false => Fault::Cancel,
        };
        let long = self.dice.below(2) == 0;
        let name = match fault {
            Fault::FreezeWorker
            | Fault::FreezeChild
            | Fault::FreezeBoth
            | Fault::Stall
            | Fault::Refuse
            | Fault::Mute => format!("{fault:?}, {}", if long { "long" } else { "short" }),
            _ => format!("{fault:?}"),
        };
        if self.try_strike(fleet, victims, fault, long) {
            *self.done.entry(name).or_default() += 1;
        } else {
            self.strike(fleet, victims);
        }
    }

    /// False when there is nobody whom this harm could be done to.
    fn try_strike(&mut self, fleet: &Fleet, victims: &[Uuid], fault: Fault, long: bool) -> bool {
        match fault {
            Fault::KillServer => {
                fleet.kill_server();
                self.start_again(fleet);
                return true;
            }
            Fault::RestartServer => {
                fleet.stop_server();
                self.start_again(fleet);
                return true;
            }
            Fault::Pause | Fault::PauseAndTakeBack => return self.pause(fleet, victims, fault),
            Fault::Lock => return self.lock_table(fleet),
            Fault::TimeLimit => {
                let limit = self.dice.within(1..30);
                self.set_for_a_while(fleet, "statement_timeout", &format!("{limit}ms"));
                return true;
            }
            Fault::ReadOnly => {
                self.set_for_a_while(fleet, "default_transaction_read_only", "on");
                return true;
            }
            Fault::Full => {
                self.fill(fleet);
                return true;
            }
            Fault::Cancel => {
                let victim = victims[self.dice.below(victims.len())];
                let ended = fleet.ask(async || fleet.database.job(victim).await).state.is_final();
                return !ended
                    && fleet.try_ask(async || fleet.database.cancel(victim).await).is_ok();
            }
            _ => {}
        }
        let Some(seat) = self.choose_seat(fleet) else { return false };
        let children = fleet.seats[seat].children();
        let one = |dice: &mut Dice| match children.len() {
            0 => vec![],
            count => vec![children[dice.below(count)]],
        };
        let held = fleet.held_by(seat);
        match fault {
            Fault::KillWorker => fleet.seats[seat].signal(Signal::SIGKILL),
            Fault::TerminateWorker => fleet.seats[seat].signal(Signal::SIGTERM),
            Fault::KillChild => {
                let chosen = one(&mut self.dice);
                if chosen.is_empty() {
                    return false;
                }
                signal(&chosen, Signal::SIGKILL);
            }
            Fault::Cut => fleet.seats[seat].proxy.cut(),
            Fault::Sick => {
                fleet.fall_ill(seat);
                self.last(fleet, fault, seat, None, Remedy::Recover);
            }
            Fault::Mute => {
                fleet.seats[seat].terminal.stop();
                let when = long.then(|| When::Renewed(held, clock(fleet)));
                self.last(fleet, fault, seat, when, Remedy::Read);
            }
            Fault::FreezeWorker => {
                fleet.seats[seat].signal(Signal::SIGSTOP);
                let remedy = Remedy::Continue { worker: true, children: vec![] };
                self.last(fleet, fault, seat, long.then_some(When::TakenBack(held)), remedy);
            }
            Fault::FreezeBoth => {
                // The worker first, so that it cannot see them stand still, or the other way round.
                if self.dice.below(2) == 0 {
                    signal(&children, Signal::SIGSTOP);
                    fleet.seats[seat].signal(Signal::SIGSTOP);
                } else {
                    fleet.seats[seat].signal(Signal::SIGSTOP);
                    signal(&children, Signal::SIGSTOP);
                }
                let remedy = Remedy::Continue { worker: true, children };
                self.last(fleet, fault, seat, long.then_some(When::TakenBack(held)), remedy);
            }
            Fault::FreezeChild => {
                let chosen = one(&mut self.dice);
                if chosen.is_empty() {
                    return false;
                }
                signal(&chosen, Signal::SIGSTOP);
                let when = long.then(|| When::Renewed(held, clock(fleet)));
                let remedy = Remedy::Continue { worker: false, children: chosen };
                self.last(fleet, fault, seat, when, remedy);
            }
            Fault::Stall | Fault::Refuse => {
                let link = if fault == Fault::Stall { Link::Stalled } else { Link::Refused };
                fleet.seats[seat].proxy.set(link);
                self.last(fleet, fault, seat, long.then_some(When::TakenBack(held)), Remedy::Open);
            }
            _ => unreachable!(),
        }
        true
    }

    /// The server was stopped: it stays away for some looks.
    fn start_again(&mut self, fleet: &Fleet) {
        for _ in 0..self.dice.below(100) {
            look();
        }
        fleet.start_server();
    }

    /// For some looks every session of the server works with this setting.
    fn set_for_a_while(&mut self, fleet: &Fleet, setting: &str, value: &str) {
        let mut own = fleet.connect();
        let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                      where backend_type = 'client backend' and pid <> pg_backend_pid()";
        let set = format!("alter database palette set {setting} = '{value}'");
        let reset = format!("alter database palette reset {setting}");
        fleet.tell(&mut own, &set);
        fleet.tell(&mut own, others);
        for _ in 0..self.dice.below(150) {
            look();
        }
        fleet.tell(&mut own, &reset);
        fleet.tell(&mut own, others);
    }

    /// Takes all connections, for some looks.
    fn fill(&mut self, fleet: &Fleet) {
        let mut taken = Vec::new();
        while let Ok(connection) = fleet.try_connect() {
            taken.push(connection);
        }
        for _ in 0..self.dice.below(150) {
            look();
        }
    }

    /// One table at a time, so that no two locks wait for each other.
    fn lock_table(&mut self, fleet: &Fleet) -> bool {
        if self.harms.iter().any(|harm| harm.fault == Fault::Lock) {
            return false;
        }
        let table = LOCKED[self.dice.below(LOCKED.len())];
        let mut own = fleet.connect();
        // The dice want the table themselves when they queue jobs, and heal nothing until they have.
        let end = "set idle_in_transaction_session_timeout = '10s'";
        fleet.tell(&mut own, &format!("{end}; begin; lock table {table} in access exclusive mode"));
        let when = self.soon(fleet);
        let (fault, remedy, since) = (Fault::Lock, Remedy::Unlock(own), Instant::now());
        self.harms.push(Harm { fault, seat: None, when, remedy, since });
        true
    }

    fn pause(&mut self, fleet: &Fleet, victims: &[Uuid], fault: Fault) -> bool {
        let running: Vec<(Uuid,)> = fleet.ask(async || {
            sqlx::query_as("select id from jobs where state = 'running' order by id")
                .fetch_all(&fleet.pool)
                .await
        });
        let running: Vec<Uuid> =
            running.into_iter().map(|(id,)| id).filter(|id| !victims.contains(id)).collect();
        if running.is_empty() {
            return false;
        }
        let job = running[self.dice.below(running.len())];
        let asked = fleet.try_ask(async || fleet.database.pause(job).await).is_ok();
        if asked {
            let when = match fault {
                Fault::PauseAndTakeBack => self.soon(fleet),
                _ => When::Stopped(job),
            };
            let (remedy, since) = (Remedy::Resume(job), Instant::now());
            self.harms.push(Harm { fault, seat: None, when, remedy, since });
        }
        asked
    }

    /// A seat that is in order, one with work where there is one.
    fn choose_seat(&mut self, fleet: &Fleet) -> Option<usize> {
        let broken: Vec<usize> = self.harms.iter().filter_map(|harm| harm.seat).collect();
        if broken.len() >= 2 {
            return None;
        }
        let fit: Vec<usize> =
            (0..fleet.seats.len()).filter(|seat| !broken.contains(seat)).collect();
        let busy: Vec<usize> =
            fit.iter().copied().filter(|seat| !fleet.held_by(*seat).is_empty()).collect();
        let among = if busy.is_empty() { fit } else { busy };
        Some(among[self.dice.below(among.len())])
    }

    fn last(
        &mut self,
        fleet: &Fleet,
        fault: Fault,
        seat: usize,
        when: Option<When>,
        remedy: Remedy,
    ) {
        let when = when.unwrap_or_else(|| self.soon(fleet));
        self.harms.push(Harm { fault, seat: Some(seat), when, remedy, since: Instant::now() });
    }

    fn soon(&mut self, fleet: &Fleet) -> When {
        let now = fleet.writes();
        let writes = now + i64::try_from(self.dice.within(1..60)).unwrap();
        When::Soon { writes, looks: u32::try_from(self.dice.within(1..80)).unwrap() }
    }

    /// Makes good what was long enough. Gives what was not to be made good in time.
    pub fn heal(&mut self, fleet: &Fleet) -> Vec<String> {
        let mut late = Vec::new();
        let mut left = Vec::new();
        for mut harm in std::mem::take(&mut self.harms) {
            let in_time = harm.since.elapsed() < PATIENCE;
            if come(&mut harm.when, fleet) || !in_time {
                if !in_time {
                    late.push(format!("{:?} {:?} was never over", harm.fault, harm.when));
                }
                harm.remedy(fleet);
            } else {
                left.push(harm);
            }
        }
        self.harms = left;
        late
    }

    /// Makes good everything at once.
    pub fn heal_all(&mut self, fleet: &Fleet) {
        for harm in std::mem::take(&mut self.harms) {
            harm.remedy(fleet);
        }
    }
}

impl Harm {
    fn remedy(self, fleet: &Fleet) {
        match self.remedy {
            Remedy::Continue { worker, children } => {
                let Some(seat) = self.seat.map(|seat| &fleet.seats[seat]) else { return };
                if worker {
                    seat.signal(Signal::SIGCONT);
                }
                // Those that are still there; the number of another may be a stranger's by now.
                let there = seat.children();
                let children: Vec<Pid> =
                    children.into_iter().filter(|child| there.contains(child)).collect();
                signal(&children, Signal::SIGCONT);
            }
            Remedy::Open => {
                if let Some(seat) = self.seat {
                    fleet.seats[seat].proxy.set(Link::Open);
                }
            }
            Remedy::Unlock(connection) => drop(connection),
            Remedy::Recover => {
                if let Some(seat) = self.seat {
                    fleet.recover(seat);
                }
            }
            Remedy::Read => {
                if let Some(seat) = self.seat {
                    fleet.seats[seat].terminal.go_on();
                }
            }
            // Refused where it ended meanwhile.
            Remedy::Resume(job) => {
                let _ = fleet.try_ask(async || fleet.database.resume(job).await);
            }
        }
    }
}

/// Whether the time has come.
fn come(when: &mut When, fleet: &Fleet) -> bool {
    match when {
        When::TakenBack(held) => held.iter().all(|attempt| lease(fleet, *attempt).is_none()),
        When::Renewed(held, since) => held.iter().all(|attempt| {
            let end = lease(fleet, *attempt);
            end.is_none_or(|end| end > *since + (2.5 * LEASE * 1000.0) as i64)
        }),
        When::Soon { writes, looks } => {
            *looks = looks.saturating_sub(1);
            *looks == 0 || fleet.writes() >= *writes
        }
        When::Stopped(job) => {
            let job = fleet.ask(async || fleet.database.job(*job).await);
            job.state != JobState::Running || job.stop_requested.is_none()
        }
    }
}

/// The end of the lease of a running attempt, in milliseconds of the database's clock.
fn lease(fleet: &Fleet, (job, attempt): (Uuid, i32)) -> Option<i64> {
    fleet.ask(async || {
        sqlx::query_scalar(
            "select (extract(epoch from lease_expires_at) * 1000)::bigint from jobs
             where id = $1 and attempt = $2 and state = 'running'",
        )
        .bind(job)
        .bind(attempt)
        .fetch_optional(&fleet.pool)
        .await
    })
}

fn clock(fleet: &Fleet) -> i64 {
    fleet.ask(async || {
        sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
            .fetch_one(&fleet.pool)
            .await
    })
}

fn signal(processes: &[Pid], signal: Signal) {
    for process in processes {
        let _ = kill(*process, signal);
    }
}

/// The time between two looks at what has happened.
pub fn look() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}
