//! The worker: claims what fits, makes each attempt in a child process of its own, ends what was
//! lost elsewhere. Holds no state that matters: when it is killed its children die with it, its
//! leases run out, and other workers go on.
//!
//! Everything that is worth a line is reported to the caller; nothing is printed here.

mod attend;
mod bounds;
mod calls;
mod child;
mod descendants;
mod ending;
pub mod endpoint;
mod events;
mod gang;
mod gpus;
mod health;
mod log;
mod options;
mod programs;
mod samples;
mod start;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use home::Home;
use registry::{
    Claimed, Database, Error, Fence, Free, Gpu, JobKind, JobState, Keeper, Notice, Resources,
    Result, Seat, StopRequest, Taken, Uuid, WorkerInfo, within,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

pub use self::bounds::Bounds;
pub use self::descendants::kill_all;
pub use self::events::{Reporter, WorkerEvent};
pub use self::options::Options;

use self::attend::Order;
use self::calls::{Listener, Wake};
use self::gpus::Offers;
use self::health::Health;
use self::samples::{Busy, Sampler};
use crate::gpus::{Host, View};

/// What a worker did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Jobs that succeeded.
    pub succeeded: usize,
    /// Jobs that failed for good.
    pub failed: usize,
    /// It ended before there was nothing left to do: it was told to, or its wall time was over.
    pub stopped: bool,
    /// What ailed it when it ended although jobs waited that it could have done.
    pub ails: Option<String>,
    /// Jobs that were left because fewer hosts came than they need, where it ended with nothing else to do.
    pub too_few_hosts: Vec<String>,
}

/// What all of a worker's jobs share.
struct Shared {
    database: Database,
    worker: WorkerInfo,
    options: Options,
    home: Home,
    host: health::Host,
    spawner: child::Spawner,
    report: Reporter,
}

impl Shared {
    fn note(&self, text: String) {
        (self.report)(WorkerEvent::Note(text));
    }
}

/// Works until `shutdown`, or as long as there is something to do where the options say so.
///
/// # Errors
/// When it cannot begin: no programs, no database. A later outage is waited out.
pub async fn run(
    database: Database,
    options: Options,
    report: Reporter,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary> {
    let kinds: Vec<JobKind> = JobKind::ALL
        .into_iter()
        .filter(|kind| options.programs.join(kind.program()).is_file())
        .collect();
    for kind in JobKind::ALL {
        let program = options.programs.join(kind.program());
        if kind != JobKind::Try && !kinds.contains(&kind) && program.symlink_metadata().is_ok() {
            let what = if program.is_dir() { "a folder" } else { "no file that can be reached" };
            let text = format!("{} is {what}: no {kind} jobs are done here", program.display());
            report(WorkerEvent::Note(text));
        }
    }
    if kinds.is_empty() {
        return Err(Error::Failed(format!(
            "no program for any job in {}: build them with `make build`, or name their folder in \
             PALETTE_BIN",
            options.programs.display()
        )));
    }
    let mut gpus = Offers::default();
    let mut host = options.host.clone();
    let lines = match &mut host {
        Some(host) => gpus.take_in(host.look().await, None),
        None => Vec::new(),
    };
    for line in lines {
        report(WorkerEvent::Note(line));
    }
    let all = gpus.all();
    let slots = options.slots(&gpus);
    let worker = WorkerInfo {
        offers: options.resources(&kinds, all.iter().map(|gpu| gpu.memory).collect()),
        gpus: all,
        ends_in: options.walltime,
        ..WorkerInfo::this_process(options.name.clone(), i32::try_from(slots).unwrap_or(i32::MAX))
    };
    let mut shutdown = std::pin::pin!(shutdown);
    tokio::select! {
        registered = register(&database, &worker, &report) => registered?,
        () = shutdown.as_mut() => return Ok(Summary { stopped: true, ..Summary::default() }),
    }
    report(WorkerEvent::Ready { worker: worker.clone(), kinds: kinds.clone() });

    let (notices_in, notices) = mpsc::unbounded_channel();
    let keeper = Keeper::start(database.clone(), worker.id, options.lease, notices_in);
    let (wakes_in, wakes) = mpsc::channel(16);
    let listener = Listener {
        database: database.clone(),
        lease: options.lease,
        poll: options.poll,
        wakes: wakes_in,
    };
    let listening = tokio::spawn(listener.listen());
    let look = Arc::new(Notify::new());
    let (views_in, views) = mpsc::channel(1);
    let looker = Looker { database: database.clone(), worker: worker.id, views: views_in };
    let looking = tokio::spawn(looker.look(host, Arc::clone(&look)));
    let home = Home::from_env()?;
    let busy = Arc::new(Busy::default());
    busy.hands_out(&worker.gpus);
    let sampler = Sampler {
        database: database.clone(),
        worker: worker.id,
        busy: Arc::clone(&busy),
        home: home.path().to_owned(),
        every: options.sample,
    };
    let sampling = tokio::spawn(sampler.sample());
    let shared = Arc::new(Shared {
        host: health::Host::new(&home, &options.programs, &kinds),
        home,
        spawner: child::Spawner::start()?,
        database,
        worker: worker.clone(),
        options,
        report,
    });
    let mut worker = Worker {
        shared,
        info: worker,
        slots,
        gpus,
        look,
        busy,
        noted: true,
        health: Health::default(),
        kinds,
        keeper,
        held: HashMap::new(),
        jobs: JoinSet::new(),
        left: HashMap::new(),
        without_hosts: HashMap::new(),
        short_of_hosts: HashMap::new(),
        summary: Summary::default(),
        idle_since: None,
        said_idle: false,
        out_of_reach: false,
    };
    worker.look_at_host().await;
    worker.work(notices, wakes, views, shutdown).await;
    worker.see_what_is_left().await;
    listening.abort();
    looking.abort();
    sampling.abort();
    let Worker { shared, summary, .. } = worker;
    let bye = shared.database.end_worker(shared.worker.id);
    let _ = within(shared.options.lease.length, bye).await;
    Ok(summary)
}

/// How long a job is left to other hosts: what is missing here may have come by then.
const LEFT_FOR: Duration = Duration::from_secs(600);

/// Enters the worker, however long the database takes no writes.
async fn register(database: &Database, worker: &WorkerInfo, report: &Reporter) -> Result<()> {
    let mut said = false;
    loop {
        match database.register_worker(worker).await {
            Err(error) if error.is_outage() => {
                if !said {
                    report(WorkerEvent::Note(format!("{error}; trying again")));
                }
                said = true;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answer => return answer,
        }
    }
}

/// A slot that is in use.
struct Place {
    /// How to reach what runs there.
    orders: mpsc::UnboundedSender<Order>,
    gpus: Vec<Gpu>,
    /// It is a seat: the lease of the job is another worker's.
    seat: bool,
    /// The job, by its short id and name.
    name: String,
}

struct Worker {
    shared: Arc<Shared>,
    kinds: Vec<JobKind>,
    keeper: Keeper,
    /// The attempts that run here, and the seats in those of other hosts.
    held: HashMap<Fence, Place>,
    jobs: JoinSet<attend::Attended>,
    /// Jobs that are left to other hosts, and since when.
    left: HashMap<Uuid, Instant>,
    /// Jobs that fewer hosts came for than they need, with their names. A worker that ends when nothing is left to do
    /// leaves them alone until it has done something else, so that it does not wait for these hosts for ever.
    without_hosts: HashMap<Uuid, String>,
    /// Queued jobs that more hosts are needed for than have workers, and since when they were seen here.
    short_of_hosts: HashMap<Uuid, Instant>,
    slots: usize,
    gpus: Offers,
    /// Has the host looked at now.
    look: Arc<Notify>,
    /// How busy it is, for its samples.
    busy: Arc<Busy>,
    /// What of it people can see; its GPUs are those of now.
    info: WorkerInfo,
    /// Whether the database knows these GPUs.
    noted: bool,
    health: Health,
    summary: Summary,
    /// Since when nothing runs here and nothing could be claimed.
    idle_since: Option<Instant>,
    said_idle: bool,
    out_of_reach: bool,
}

impl Worker {
    async fn work(
        &mut self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut wakes: mpsc::Receiver<Wake>,
        mut views: mpsc::Receiver<Seen>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let options = &self.shared.options;
        let time_is_up = options
            .walltime
            .map(|walltime| tokio::time::Instant::now() + walltime.saturating_sub(options.grace));
        let mut going = true;
        loop {
            self.busy.slots.store(self.slots, Ordering::Relaxed);
            if going {
                let patience = self.shared.options.lease.length;
                match within(patience, self.look_for_work()).await {
                    Ok(true) => self.out_of_reach = false,
                    Ok(false) => going = false,
                    Err(error) => {
                        if !self.out_of_reach {
                            self.note(format!("{error}; trying again"));
                        }
                        self.out_of_reach = true;
                    }
                }
            }
            if !going && self.jobs.is_empty() {
                return;
            }
            self.busy.slots_busy.store(self.held.len(), Ordering::Relaxed);
            tokio::select! {
                () = &mut shutdown, if going => {
                    going = false;
                    self.summary.stopped = true;
                    self.stop_all("stopping", "its worker was told to end");
                }
                () = at(time_is_up), if going => {
                    going = false;
                    self.summary.stopped = true;
                    self.stop_all(
                        "the wall time is nearly over",
                        "the wall time of its worker was nearly over",
                    );
                }
                Some(ended) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    match ended {
                        Ok(attended) => self.ended(attended),
                        Err(error) => self.note(format!("a job's task ended badly: {error}")),
                    }
                }
                Some(notice) = notices.recv() => self.heed(notice),
                Some(seen) = views.recv() => self.take_in(seen),
                Some(wake) = wakes.recv() => {
                    if wake == Wake::Stops {
                        self.keeper.nudge();
                    }
                }
                () = at(self.health.look_at()), if going => {}
                () = tokio::time::sleep(self.shared.options.poll), if going => {}
            }
        }
    }

    fn stop_all(&self, what: &str, why: &'static str) {
        let jobs = if self.held.is_empty() { "" } else { ": the jobs are asked for a checkpoint" };
        self.note(format!("{what}{jobs}"));
        for place in self.held.values() {
            let _ = place.orders.send(Order::Stop(why));
        }
    }

    /// Takes back what was lost and claims what fits; false when this worker is to end.
    async fn look_for_work(&mut self) -> Result<bool> {
        let options = &self.shared.options;
        let database = &self.shared.database;
        let own = self.held.iter().filter(|(_, place)| !place.seat);
        let held: Vec<_> = own.map(|(fence, _)| fence.job).collect();
        let look = database.look(&options.lease, &held).await?;
        for after in look.taken_back {
            if self.gpus.any_taken() {
                self.look.notify_one();
            }
            // Lost once too often: whoever takes it back is who can say so.
            self.summary.failed += usize::from(after.state == JobState::Failed);
            (self.shared.report)(WorkerEvent::Ended {
                job: after.short,
                name: after.name,
                state: after.state,
                reason: Some("its worker was lost".into()),
                took: None,
                wait: after.wait,
            });
        }
        if !self.noted {
            database.note_gpus(&self.info).await?;
            self.noted = true;
        }
        if self.health.is_due() {
            self.look_at_host().await;
        }
        if self.health.untold {
            self.shared.database.note_ailment(self.info.id, self.health.ails()).await?;
            self.health.untold = false;
        }
        if self.health.ails().is_some() {
            return if self.held.is_empty() { self.idle().await } else { Ok(true) };
        }
        // Another job must not be started without the GPU on which one failed, nor on it.
        if self.gpus.in_doubt() {
            return Ok(true);
        }
        self.left.retain(|_, at| at.elapsed() < LEFT_FOR);
        self.info.offers.except = self.except();
        // A gang that assembles keeps others waiting.
        while look.gang_assembles && self.held.len() < self.slots {
            let resources = self.resources(self.gpus.free());
            let seat = self.shared.database.claim_seat(&self.shared.worker, &resources).await?;
            match seat {
                Some(seat) if !self.held.contains_key(&seat.fence) => self.sit(seat),
                // It was taken before, and is about to be sat on.
                Some(_) | None => break,
            }
        }
        while self.held.len() < self.slots {
            let resources = self.resources(self.gpus.free());
            let asked_at = Instant::now();
            let shared = Arc::clone(&self.shared);
            let lease = &shared.options.lease;
            match shared.database.claim(&shared.worker, &resources, lease).await? {
                Some(claimed) => self.begin(claimed, asked_at),
                None => break,
            }
        }
        if self.held.is_empty() {
            return self.idle().await;
        }
        self.said_idle = false;
        self.idle_since = None;
        let slots = self.slots.saturating_sub(self.held.len());
        let own = self.held.iter().filter(|(_, place)| !place.seat);
        let held = own.map(|(fence, place)| {
            (fence.job, self.gpus.there(&place.gpus).map(|gpu| gpu.memory).collect::<Vec<_>>())
        });
        let free = Free { slots, gpus: self.gpus.free(), held: held.collect() };
        let lease = &self.shared.options.lease;
        for asked in self.shared.database.preempt(&self.info, &free, lease).await? {
            self.note(format!(
                "{} {}: asked to give way to {} {}",
                asked.job, asked.name, asked.to, asked.to_name
            ));
        }
        Ok(true)
    }

    /// Of a worker that ends when nothing is left to do: whether it still waits for hosts to come for a job that it
    /// could take part in. Those that it has waited for long enough it leaves alone.
    async fn waits_for_hosts(&mut self) -> Result<bool> {
        let options = &self.shared.options;
        if !(options.drain || options.exit_when_idle || options.idle.is_some()) {
            return Ok(false);
        }
        let database = &self.shared.database;
        let short = database.short_of_hosts(&self.info.offers, &options.lease).await?;
        self.short_of_hosts.retain(|id, _| short.iter().any(|(job, _)| job.id == *id));
        let mut waits = false;
        for (job, there) in short {
            let now = Instant::now();
            let since = *self.short_of_hosts.entry(job.id).or_insert_with(|| {
                self.shared.note(format!(
                    "{} {}: waits for hosts: wants {}, {there} {} workers that can do it",
                    job.short,
                    job.name,
                    job.hosts,
                    if there == 1 { "has" } else { "have" }
                ));
                now
            });
            if since.elapsed() < options.gather {
                waits = true;
            } else {
                self.without_hosts.insert(job.id, format!("{} {}", job.short, job.name));
            }
        }
        self.info.offers.except = self.except();
        Ok(waits)
    }

    /// With nothing claimed: whether to wait for more, said once.
    async fn idle(&mut self) -> Result<bool> {
        if self.health.ails().is_none() && self.waits_for_hosts().await? {
            self.idle_since = None;
            return Ok(true);
        }
        let options = &self.shared.options;
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let long_enough = options.idle.is_some_and(|idle| since.elapsed() >= idle);
        if self.said_idle && !options.drain && !long_enough {
            return Ok(true);
        }
        let database = &self.shared.database;
        let could_do = database.could_do(&self.info.offers).await?;
        let end = options.exit_when_idle || long_enough || (options.drain && !could_do);
        let without_hosts = end && !self.without_hosts.is_empty() && {
            database.could_do(&self.with_all_jobs()).await?
        };
        if without_hosts {
            self.summary.too_few_hosts = self.without_hosts.values().cloned().collect();
        }
        if end || !self.said_idle {
            let (queued, running, paused) = database.open_jobs().await?;
            let state = match (queued, running, paused, could_do) {
                (0, 0, 0, _) => "the queue is empty".to_owned(),
                _ if without_hosts => format!(
                    "{queued} queued, {running} running and {paused} paused jobs; fewer hosts came than are \
                     needed for {}",
                    self.summary.too_few_hosts.join(", ")
                ),
                (_, _, _, false) => format!(
                    "of {queued} queued, {running} running and {paused} paused jobs none can come \
                     to this worker (see `scheduler jobs`)"
                ),
                _ => format!("{queued} queued, {running} running and {paused} paused jobs wait"),
            };
            let then = if end { "ending" } else { "waiting for jobs" };
            match self.health.ails().filter(|_| could_do && queued > 0) {
                None => self.note(format!("nothing to do: {state}; {then}")),
                Some(ails) if end => self.summary.ails = Some(ails.to_owned()),
                Some(_) => {
                    self.note(format!("{state} for other workers, or until this one is well"))
                }
            }
        }
        self.said_idle = true;
        Ok(!end)
    }

    /// A worker that was told to end has ended before its time only where work is left that it could do. Where that cannot
    /// be asked, it is taken to be so.
    async fn see_what_is_left(&mut self) {
        let options = &self.shared.options;
        if !self.summary.stopped
            || !(options.drain || options.exit_when_idle || options.idle.is_some())
        {
            return;
        }
        let offers = self.with_all_jobs();
        let could_do = self.shared.database.could_do(&offers);
        if let Ok(false) = within(options.lease.length, could_do).await {
            self.summary.stopped = false;
        }
    }

    fn begin(&mut self, claimed: Claimed, claimed_at: Instant) {
        let gpus = self.gpus.hand_out(claimed.job.gpus_most, claimed.job.gpu_memory);
        let (orders, received) = mpsc::unbounded_channel();
        let fence = claimed.fence;
        self.keeper.hold(fence, claimed_at);
        let name = format!("{} {}", claimed.job.short, claimed.job.name);
        self.held.insert(fence, Place { orders, gpus: gpus.clone(), seat: false, name });
        self.jobs.spawn(attend::attend(Arc::clone(&self.shared), claimed, gpus, received));
    }

    /// Takes part in an attempt of another host.
    fn sit(&mut self, seat: Seat) {
        let gpus = self.gpus.hand_out(seat.job.gpus_most, seat.job.gpu_memory);
        let (orders, received) = mpsc::unbounded_channel();
        let name = format!("{} {}", seat.job.short, seat.job.name);
        self.held.insert(seat.fence, Place { orders, gpus: gpus.clone(), seat: true, name });
        self.jobs.spawn(gang::attend_seat(Arc::clone(&self.shared), seat, gpus, received));
    }

    /// Finds out how the host is; soon, as nothing else is done meanwhile.
    async fn look_at_host(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let patience = PATIENCE.min(self.shared.options.lease.length / 3);
        let ails = self.shared.host.ails(patience).await;
        self.ail(ails);
    }

    /// What a probe of the host found, or the end of an attempt.
    fn ail(&mut self, ails: Option<String>) {
        let news = match &ails {
            Some(reason) => self.health.ail(reason.clone()),
            None => self.health.recover(),
        };
        if news {
            self.said_idle = false;
            (self.shared.report)(WorkerEvent::Ails(ails));
        }
    }

    fn ended(&mut self, attended: attend::Attended) {
        self.keeper.release(attended.fence);
        let mut name = String::new();
        if let Some(place) = self.held.remove(&attended.fence) {
            name = place.name;
            self.gpus.take_back(&place.gpus, attended.failed);
            if let Some(taken) = attended.taken {
                self.gpus.withhold(taken);
            }
            if self.gpus.in_doubt() {
                self.look.notify_one();
            }
        }
        let options = &self.shared.options;
        if attended.started {
            self.without_hosts.clear();
        }
        if attended.too_few && (options.drain || options.exit_when_idle || options.idle.is_some()) {
            self.without_hosts.insert(attended.fence.job, name);
        }
        if attended.left {
            self.left.insert(attended.fence.job, Instant::now());
        }
        match attended.ails {
            Some(ails) => self.ail(Some(ails)),
            None if attended.started => self.health.works(),
            None => {}
        }
        match attended.state {
            Some(JobState::Succeeded) => self.summary.succeeded += 1,
            Some(JobState::Failed) => self.summary.failed += 1,
            _ => {}
        }
    }

    fn heed(&mut self, notice: Notice) {
        let (fence, order) = match notice {
            Notice::Asked(fence, StopRequest::Yield) => {
                (fence, Order::Stop("gave way to a job of higher priority"))
            }
            Notice::Asked(fence, StopRequest::Pause | StopRequest::Cancel) => {
                (fence, Order::Stop("stopped as asked"))
            }
            Notice::RanOut(fence) => {
                (fence, Order::Stop("stopped: its lease could not be renewed in time"))
            }
            Notice::Stale(fence) => (fence, Order::Kill),
        };
        if let Some(place) = self.held.get(&fence) {
            let _ = place.orders.send(order);
        }
    }

    /// Takes in what the host shows now.
    fn take_in(&mut self, seen: Seen) {
        self.busy.saw(seen.view.loads.clone());
        for line in self.gpus.take_in(seen.view, seen.taken) {
            self.note(line);
        }
        let all = self.gpus.all();
        if all != self.info.gpus {
            let sizes = all.iter().map(|gpu| gpu.memory).collect();
            self.info.offers = self.resources(sizes);
            self.busy.hands_out(&all);
            self.info.gpus = all;
            self.slots = self.shared.options.slots(&self.gpus);
            self.info.slots = i32::try_from(self.slots).unwrap_or(i32::MAX);
            self.noted = false;
            (self.shared.report)(WorkerEvent::Gpus(self.info.clone()));
        }
    }

    /// What is there for jobs with GPUs of these sizes, but for those that are left to others.
    fn resources(&self, gpus: Vec<i64>) -> Resources {
        Resources { except: self.except(), ..self.shared.options.resources(&self.kinds, gpus) }
    }

    /// What it offers also to jobs that too few hosts came for.
    fn with_all_jobs(&self) -> Resources {
        let except = self.left.keys().copied().collect();
        Resources { except, ..self.info.offers.clone() }
    }

    /// The jobs that are left alone for the moment.
    fn except(&self) -> Vec<Uuid> {
        self.left.keys().chain(self.without_hosts.keys()).copied().collect()
    }

    fn note(&self, text: String) {
        self.shared.note(text);
    }
}

/// Comes at that time; never without one.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What a look at the GPUs found.
struct Seen {
    view: View,
    /// Those that attempts of other workers have; none where the database did not say.
    taken: Option<Vec<Taken>>,
}

/// Looks at the host's GPUs again and again, and when it is asked to.
struct Looker {
    database: Database,
    worker: Uuid,
    views: mpsc::Sender<Seen>,
}

impl Looker {
    async fn look(self, host: Option<Host>, now: Arc<Notify>) {
        let Some(mut host) = host else { return };
        // What others have is known from the database: at once, where there is a GPU at all.
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = now.notified() => {}
            }
            wait = host.every();
            let view = host.look().await;
            let uuids: Vec<String> = view.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
            let taken = match uuids.as_slice() {
                [] => Some(Vec::new()),
                uuids => self.database.taken_gpus(self.worker, uuids).await.ok(),
            };
            if self.views.send(Seen { view, taken }).await.is_err() {
                return;
            }
        }
    }
}
