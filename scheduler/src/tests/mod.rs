//! Tests of the queue and the registry on a real Postgres: a private cluster of each test's own.

mod queue;
mod registry;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use crate::private::Server;
use crate::{Database, Home, JobKind, Lease, NewJob, Resources, WorkerInfo};

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
    Resources { kinds: JobKind::ALL.to_vec(), gpus: 8, gpu_memory: i64::MAX, labels: json!({}) }
}

async fn worker(db: &Database) -> WorkerInfo {
    let worker = WorkerInfo::this_process(None, 1, 0);
    db.register_worker(&worker).await.unwrap();
    worker
}
