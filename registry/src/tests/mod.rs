//! Tests of the queue and the registry on a real Postgres: a private cluster of each test's own.

mod curves;
mod forks;
mod gangs;
mod glance;
mod house;
mod lists;
mod model;
mod names;
mod pictures;
mod queue;
mod registry;
mod requests;
mod retention;
mod samplings;
mod studies;
mod sweeps;
mod table;
mod tokens;
mod tries;

use std::collections::BTreeMap;
use std::time::Duration;

use house::{Cluster, anything, job, lease, new_run, points, set_up, worker};

use crate::{CheckpointKind, CheckpointRecord, Lease};

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

/// A lease that has run out when it is given.
fn no_lease() -> Lease {
    Lease { length: Duration::ZERO, retry_delay: Duration::ZERO }
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
