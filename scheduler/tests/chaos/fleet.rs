//! The place where it happens: a private Postgres, and workers that each have a network, a
//! terminal and a seat of their own. A worker that died is started again in its seat.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use registry::{Database, Error, Uuid};
use sqlx::{Connection, PgConnection, PgPool};
use testkit::{House, Process, Signal, Terminal};
use tokio::runtime::Runtime;

use crate::audit;
use crate::proxy::Proxy;

/// Seconds that a claim lasts.
pub const LEASE: f64 = 1.5;

/// How long anything may take that is only waited for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Slots of the workers, one number a seat.
const SLOTS: [u8; 4] = [1, 2, 1, 2];

/// A worker's place.
pub struct Seat {
    pub proxy: Proxy,
    /// Where its workers report.
    pub terminal: Terminal,
    process: Option<Process>,
    number: usize,
    starts: u32,
}

/// The server, the workers, and a way to ask the database that no fault of a network concerns.
pub struct Fleet {
    pub seats: Vec<Seat>,
    pub database: Database,
    pub pool: PgPool,
    pub house: House,
    pub runtime: Runtime,
    url: String,
}

impl Fleet {
    /// A running server with the audit, the programs of the jobs, and this many seats, still empty.
    pub fn new(seats: usize) -> Self {
        let house = House::with_scripts();
        let myself = std::env::current_exe().unwrap();
        for program in ["trainer", "sampler", "evaluator"] {
            let script = format!(
                "export PGOPTIONS=\"-c {}=$PALETTE_ATTEMPT\"\n\
                 exec '{}' --exact job::act_as_program --nocapture --test-threads=1",
                audit::WRITER,
                myself.display()
            );
            house.script(program, &script);
        }
        house.ok("scheduler", &["up"]);
        let url = house.url();
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let database = runtime.block_on(Database::open_url(&url)).unwrap();
        let pool = PgPool::connect_lazy(&url).unwrap();
        runtime.block_on(audit::install(&pool)).unwrap();
        let socket = house.path("home/postgres/run/.s.PGSQL.5432");
        let seats = (0..seats)
            .map(|number| Seat {
                proxy: Proxy::start(runtime.handle(), socket.clone()),
                terminal: Terminal::open(house.path(&format!("seat-{number}"))),
                process: None,
                number,
                starts: 0,
            })
            .collect();
        drop(entered);
        Self { seats, database, pool, house, runtime, url }
    }

    /// Asks the database, again where a restart of the server cut the connection.
    pub fn ask<T, E: Into<Error>>(&self, question: impl AsyncFn() -> Result<T, E>) -> T {
        self.try_ask(question).unwrap()
    }

    /// As [`Fleet::ask`], where the answer may be a refusal.
    pub fn try_ask<T, E: Into<Error>>(
        &self,
        question: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = async { tokio::time::timeout(PATIENCE, question()).await };
            let answer = self.runtime.block_on(answer).expect("the database gives no answer");
            match answer.map_err(Into::into) {
                Err(error) if error.is_outage() && Instant::now() < deadline => {}
                answer => return answer,
            }
        }
    }

    /// Starts a worker in every seat whose worker is gone.
    pub fn fill_seats(&mut self) {
        for seat in &mut self.seats {
            let gone = match &mut seat.process {
                Some(process) => process.ended(),
                None => true,
            };
            if gone {
                seat.starts += 1;
                let mut command = self.house.command("scheduler", &["worker", "--poll", "0.1"]);
                command
                    .args(["--grace", "1", "--slots"])
                    .arg(SLOTS[seat.number % SLOTS.len()].to_string())
                    .args(["--name", &seat.name()])
                    .env("DATABASE_URL", seat.proxy.url())
                    .env("PALETTE_HOME", self.house.path(&seat.home()))
                    .env("PALETTE_LEASE_SECONDS", LEASE.to_string())
                    .env("PALETTE_RETRY_SECONDS", "0.01");
                seat.process = Some(Process::start_on(&seat.terminal, &mut command));
            }
        }
    }

    /// Asks all workers to end and waits for them.
    pub fn send_home(&mut self) {
        for seat in &self.seats {
            seat.signal(Signal::SIGTERM);
        }
        for seat in &mut self.seats {
            if let Some(process) = &mut seat.process {
                process.end();
            }
        }
    }

    /// Jobs and attempts that the worker of a seat has, as far as the database knows.
    pub fn held_by(&self, seat: usize) -> Vec<(Uuid, i32)> {
        let name = self.seats[seat].name();
        self.ask(async || {
            sqlx::query_as(
                "select jobs.id, attempt from jobs join workers on workers.id = worker_id
                 where workers.name = $1 and state = 'running'",
            )
            .bind(&name)
            .fetch_all(&self.pool)
            .await
        })
    }

    /// A connection of the dice's own, past the networks of the workers.
    pub fn try_connect(&self) -> sqlx::Result<PgConnection> {
        self.runtime.block_on(PgConnection::connect(&self.url))
    }

    /// As [`Fleet::try_connect`], when the server has one left.
    pub fn connect(&self) -> PgConnection {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_connect() {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    /// Runs statements that give nothing back.
    pub fn tell(&self, connection: &mut PgConnection, statements: &str) {
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        self.runtime.block_on(sqlx::raw_sql(statements).execute(connection)).unwrap();
    }

    /// Nothing can be written below the home of a seat any more.
    pub fn fall_ill(&self, seat: usize) {
        let jobs = self.jobs(seat);
        let _ = std::fs::rename(&jobs, jobs.with_extension("away"));
        std::fs::write(&jobs, "in the way").unwrap();
    }

    /// It can again.
    pub fn recover(&self, seat: usize) {
        let jobs = self.jobs(seat);
        std::fs::remove_file(&jobs).unwrap();
        let _ = std::fs::rename(jobs.with_extension("away"), &jobs);
    }

    fn jobs(&self, seat: usize) -> PathBuf {
        let home = self.house.path(&self.seats[seat].home());
        std::fs::create_dir_all(&home).unwrap();
        home.join("jobs")
    }

    /// How often children have written so far.
    pub fn writes(&self) -> i64 {
        self.ask(async || audit::writes(&self.pool).await)
    }

    pub fn kill_server(&self) {
        let file = self.house.read("home/postgres/data/postmaster.pid");
        if let Some(Ok(pid)) = file.lines().next().map(str::parse) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    pub fn stop_server(&self) {
        self.house.ok("scheduler", &["down"]);
    }

    pub fn start_server(&self) {
        self.house.ok("scheduler", &["up"]);
    }

    /// The last lines of the reports of every seat.
    pub fn reports(&self) -> String {
        let last = |seat: &Seat| {
            let log = std::fs::read_to_string(seat.terminal.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(15)..];
            format!("{}:\n{}\n", seat.name(), last.join("\n"))
        };
        self.seats.iter().map(last).collect()
    }
}

impl Seat {
    /// Where its workers and their attempts keep files.
    fn home(&self) -> String {
        format!("home-{}", self.number)
    }

    /// Of the worker that sits there now; another for each.
    fn name(&self) -> String {
        format!("seat-{}-{}", self.number, self.starts)
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.id())
    }

    /// Signals the worker. One that ended already hears nothing: as long as it was not waited for
    /// its number is its own.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    /// The processes of the worker's attempts.
    pub fn children(&self) -> Vec<Pid> {
        let Some(worker) = self.pid() else { return Vec::new() };
        let parent = |entry: &Path| -> Option<u32> {
            let stat = std::fs::read_to_string(entry.join("stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter(|entry| parent(&entry.path()) == Some(worker))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(Pid::from_raw)
            .collect()
    }
}
