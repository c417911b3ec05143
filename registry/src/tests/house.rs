//! A Postgres of a test's own, and what is put into it: for the tests of this crate and those of
//! `scheduler`, which take this file in.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use home::Home;
use home::private::Server;
use registry::{
    DataRole, Database, JobKind, Lease, NewJob, NewPoint, NewRun, Resources, RunDataset, WorkerInfo,
};
use serde_json::json;

/// A home with a running cluster; stopped and removed at the end.
pub struct Cluster {
    folder: tempfile::TempDir,
    pub server: Server,
    pub url: String,
}

impl Cluster {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let server = Server::new(&Home::at(folder.path()).unwrap());
        let url = server.ensure_running().unwrap();
        Self { folder, server, url }
    }

    pub fn home(&self) -> Home {
        Home::at(self.folder.path()).unwrap()
    }

    pub async fn open(&self) -> Database {
        Database::open_url(&self.url).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.server.stop();
    }
}

pub fn job(name: &str) -> NewJob {
    NewJob::new(JobKind::Train, name, json!({ "name": name }))
}

pub fn lease() -> Lease {
    Lease { length: Duration::from_secs(60), retry_delay: Duration::ZERO }
}

pub fn anything() -> Resources {
    let gpus = vec![i64::MAX; 8];
    Resources { kinds: JobKind::ALL.to_vec(), gpus, ..Resources::default() }
}

pub async fn worker(db: &Database) -> WorkerInfo {
    let worker = WorkerInfo::this_process(None, 1);
    db.register_worker(&worker).await.unwrap();
    worker
}

pub fn new_run(name: &str) -> NewRun {
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
            role: DataRole::Train,
            name: "tiny".into(),
            uri: "/data/tiny".into(),
            manifest_digest: "d1".into(),
            rows: 100,
            weight: 1.0,
        }],
        fork: None,
        job: job(name),
    }
}

pub fn points(steps: std::ops::RangeInclusive<i64>, value: f64) -> Vec<NewPoint> {
    steps.map(|step| NewPoint { step, name: "loss".into(), value }).collect()
}

/// A cluster, a runtime of the test's own, and what it opened.
pub fn set_up() -> (Cluster, tokio::runtime::Runtime, Database) {
    let cluster = Cluster::start();
    let runtime = registry::runtime().unwrap();
    let db = runtime.block_on(cluster.open());
    (cluster, runtime, db)
}
