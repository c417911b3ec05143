//! Tests of the queue and the registry on a real Postgres: a private cluster of each test's own.

mod lists;
mod model;
mod queue;
mod registry;
mod retention;
mod studies;
mod sweeps;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use home::Home;
use home::private::Server;
use serde_json::json;

use crate::metrics::NewPoint;
use crate::{
    CheckpointKind, CheckpointRecord, Database, JobKind, Lease, NewJob, NewRun, Resources,
    RunDataset, WorkerInfo,
};

/// A home with a running cluster; stopped and removed at the end.
struct Cluster {
    folder: tempfile::TempDir,
    server: Server,
    url: String,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let server = Server::new(&Home::at(folder.path()).unwrap());
        let url = server.ensure_running().unwrap();
        Self { folder, server, url }
    }

    fn home(&self) -> Home {
        Home::at(self.folder.path()).unwrap()
    }

    async fn open(&self) -> Database {
        Database::open_url(&self.url).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.server.stop();
    }
}

/// Runs a test's body on a runtime with several threads and a cluster of its own.
fn with_cluster<F: Future<Output = ()>>(body: impl FnOnce(std::sync::Arc<Cluster>) -> F) {
    let cluster = std::sync::Arc::new(Cluster::start());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(body(std::sync::Arc::clone(&cluster)));
}

fn job(name: &str) -> NewJob {
    NewJob::new(JobKind::Train, name, json!({ "name": name }))
}

fn lease() -> Lease {
    Lease { length: Duration::from_secs(60), retry_delay: Duration::ZERO }
}

/// A lease that has run out when it is given.
fn no_lease() -> Lease {
    Lease { length: Duration::ZERO, retry_delay: Duration::ZERO }
}

fn anything() -> Resources {
    Resources { kinds: JobKind::ALL.to_vec(), gpus: vec![i64::MAX; 8], labels: json!({}) }
}

async fn worker(db: &Database) -> WorkerInfo {
    let worker = WorkerInfo::this_process(None, 1);
    db.register_worker(&worker).await.unwrap();
    worker
}

fn new_run(name: &str) -> NewRun {
    NewRun {
        name: name.into(),
        experiment: None,
        config: json!({"steps": 10, "b": {"c": 1}}),
        seed: 7,
        total_steps: 10,
        uri: Some("/runs/x".into()),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: vec![RunDataset {
            name: "tiny".into(),
            uri: "/data/tiny".into(),
            manifest_digest: "d1".into(),
            rows: 100,
            weight: 1.0,
        }],
        job: job(name),
    }
}

fn checkpoint(step: i64, loss: f64) -> CheckpointRecord {
    CheckpointRecord {
        step,
        kind: CheckpointKind::Regular,
        uri: format!("/runs/x/step-{step}"),
        bytes: 10,
        digest: format!("digest-{step}"),
        metrics: BTreeMap::from([("loss".into(), loss)]),
    }
}

fn points(steps: std::ops::RangeInclusive<i64>, value: f64) -> Vec<NewPoint> {
    steps.map(|step| NewPoint { step, name: "loss".into(), value }).collect()
}

/// A cluster, a runtime of the test's own, and what it opened.
fn set_up() -> (Cluster, tokio::runtime::Runtime, Database) {
    let cluster = Cluster::start();
    let runtime = crate::database::runtime().unwrap();
    let db = runtime.block_on(cluster.open());
    (cluster, runtime, db)
}
