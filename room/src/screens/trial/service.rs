//! Who makes the tries. Where a worker lives, a job is queued for it, of high priority; where none does, or where the
//! server was told so, `sampler serve` runs beside this server, and ends with it.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use registry::{Database, GpuCount, JobState, Lease, TryService, WorkerState};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Between two looks, where nobody asks.
const LOOK: Duration = Duration::from_secs(10);
/// After a process that failed.
const PAUSE: Duration = Duration::from_secs(60);
/// Above what is submitted by hand.
const PRIORITY: i32 = 100;
/// Seconds that a network stays loaded for the next picture.
const IDLE: u32 = 180;
/// What a process that is asked to end has for it.
const GRACE: Duration = Duration::from_secs(4);

/// The process beside this server.
struct Beside {
    child: Child,
    /// Held apart, because waiting for a child ends its input.
    input: Option<ChildStdin>,
}

/// Sees to it that tries are made.
pub struct Service {
    /// The server was told to make them itself.
    always_here: bool,
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Somebody asked for it to be made here.
    here: bool,
    running: bool,
    /// Why the last process beside the server failed.
    failure: Option<String>,
    /// After one that failed the next is not started at once, unless somebody asks.
    pause: Option<Instant>,
}

/// How tries are made now, for the page.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// A process beside the server makes them.
    pub here: bool,
    /// Why the last one failed.
    pub failure: Option<String>,
}

impl Service {
    /// A service that makes them itself in any case, or only where no worker lives.
    pub fn new(always_here: bool) -> Self {
        Self { always_here, wake: Notify::new(), state: Mutex::default() }
    }

    /// There is something to do.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Makes them beside the server, once what waits is done.
    pub fn make_here(&self) {
        let mut state = self.lock();
        state.here = true;
        state.pause = None;
        drop(state);
        self.wake();
    }

    /// How they are made.
    pub fn standing(&self) -> Standing {
        let state = self.lock();
        Standing { here: state.running, failure: state.failure.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on until `end` comes; then the process beside the server has ended too.
    pub async fn run(
        self: Arc<Self>,
        database: Database,
        programs: std::path::PathBuf,
        mut end: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut beside: Option<Beside> = None;
        loop {
            let ended = async {
                match &mut beside {
                    Some(beside) => beside.child.wait().await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                status = ended => {
                    beside = None;
                    let mut state = self.lock();
                    state.running = false;
                    state.here = false;
                    let failed = status.is_none_or(|status| !status.success());
                    state.pause = failed.then(Instant::now);
                }
                _ = end.wait_for(|ended| *ended) => break,
            }
            if beside.is_none() {
                match self.look(&database, &programs).await {
                    Ok(started) => beside = started,
                    Err(error) => tracing::debug!("tries: {error}"),
                }
                self.lock().running = beside.is_some();
            }
        }
        if let Some(Beside { mut child, input }) = beside {
            // It ends in order when its input ends.
            drop(input);
            if timeout(GRACE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    /// Queues a job, or starts a process, where there is something to do and nobody does it.
    async fn look(
        self: &Arc<Self>,
        database: &Database,
        programs: &Path,
    ) -> registry::Result<Option<Beside>> {
        let asked = self.lock().here;
        let workers = has_workers(database).await?;
        let here = asked || self.always_here || !workers;
        if !here {
            let service = TryService {
                owner: database.myself().await?,
                priority: PRIORITY,
                gpus: GpuCount::up_to(1),
                preempts: false,
                idle: IDLE,
                here: false,
                without_tries: false,
            };
            database.serve_tries(&service, false).await?;
            return Ok(None);
        }
        if !database.tries_wait().await? {
            self.lock().here = false;
            return Ok(None);
        }
        if self.lock().pause.is_some_and(|since| since.elapsed() < PAUSE) {
            return Ok(None);
        }
        // Another process makes them, and has not lost its lease.
        let now = database.now().await?;
        let job = database.try_job().await?.filter(|job| job.state == JobState::Running);
        if job.is_some_and(|job| job.lease_expires_at.is_some_and(|until| until > now)) {
            return Ok(None);
        }
        Ok(self.start(programs, workers))
    }

    fn start(self: &Arc<Self>, programs: &Path, workers: bool) -> Option<Beside> {
        let mut command = Command::new(programs.join("sampler"));
        command
            .args(["serve", "--with-parent", "--idle", &IDLE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if workers {
            // The GPUs are the workers'.
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        match command.spawn() {
            Ok(mut child) => {
                if let Some(messages) = child.stderr.take() {
                    tokio::spawn(Arc::clone(self).heed(messages));
                }
                let input = child.stdin.take();
                Some(Beside { child, input })
            }
            Err(error) => {
                let program = programs.join("sampler");
                self.lock().failure = Some(format!(
                    "{} cannot be started: {error}; name the folder of the programs with --bin",
                    program.display()
                ));
                None
            }
        }
    }

    /// Keeps the last error that the process prints.
    async fn heed(self: Arc<Self>, messages: tokio::process::ChildStderr) {
        let mut lines = BufReader::new(messages).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let line: String = secrets::text(&line).chars().take(500).collect();
            tracing::debug!("sampler serve: {line}");
            let failed = line.trim_start().to_lowercase().starts_with("error");
            self.lock().failure = failed.then_some(line);
        }
    }
}

async fn has_workers(database: &Database) -> registry::Result<bool> {
    let workers = database.workers(false, &Lease::from_env()?).await?;
    Ok(workers.iter().any(|worker| {
        !matches!(worker.state, WorkerState::Lost | WorkerState::Ended)
            && worker.kinds.iter().any(|kind| kind == "try")
    }))
}
