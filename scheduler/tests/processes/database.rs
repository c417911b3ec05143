//! What the tests do with the library itself, beside the programs.

use registry::{Database, Job, JobKind, JobState, NewJob};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use testkit::House;
use tokio::runtime::Runtime;

/// A house of scripts with a running server, and its database.
pub fn set_up() -> (House, Runtime, Database) {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let (runtime, db) = open(&house);
    (house, runtime, db)
}

/// The database of a house whose server runs.
pub fn open(house: &House) -> (Runtime, Database) {
    let runtime = Runtime::new().unwrap();
    let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
    (runtime, db)
}

/// A training of this name.
pub fn job(name: &str) -> NewJob {
    NewJob::new(JobKind::Train, name, json!({}))
}

/// Queues a job.
pub fn submit(runtime: &Runtime, db: &Database, new: NewJob) -> Job {
    runtime.block_on(db.submit(new)).unwrap().job
}

/// A job as it stands now.
pub fn row(runtime: &Runtime, db: &Database, job: &Job) -> Job {
    runtime.block_on(db.job(job.id)).unwrap()
}

/// The state of a job now.
pub fn state(runtime: &Runtime, db: &Database, job: &Job) -> JobState {
    row(runtime, db, job).state
}

/// A session beside the programs.
pub struct Session<'a>(&'a Runtime, PgConnection);

impl<'a> Session<'a> {
    pub fn new(house: &House, runtime: &'a Runtime) -> Self {
        let connection = runtime.block_on(PgConnection::connect(&house.url())).unwrap();
        Self(runtime, connection)
    }

    pub fn run(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        self.0.block_on(self.1.execute(sqlx::raw_sql(statements))).unwrap();
    }

    pub fn count(&mut self, statement: &str) -> i64 {
        let statement = AssertSqlSafe(statement.to_owned());
        self.0.block_on(sqlx::query_scalar(statement).fetch_one(&mut self.1)).unwrap()
    }

    /// Ends all other sessions: what comes after them has the settings of now.
    pub fn end_others(&mut self) {
        self.run(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where backend_type = 'client backend' and pid <> pg_backend_pid()",
        );
    }
}
