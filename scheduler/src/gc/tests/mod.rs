//! Reclaiming space: what goes, what stays, and who is at work at the same moment.

mod checkpoints;
mod files;
#[path = "../../../../registry/src/tests/house.rs"]
mod house;
mod moments;
mod pictures;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use home::Home;
use registry::{
    CheckpointKind, CheckpointRecord, Database, Ended, Fence, JobKind, JobState, NewJob, NewRun,
    NewSampling, Outcome, WorkerInfo,
};
use serde_json::json;
use uuid::Uuid;

use house::{Cluster, anything, job, lease, new_run, points, set_up, worker};

use crate::gc::{self, Class, Fate, Policy};

const DAY: Duration = Duration::from_secs(86_400);

/// A house in which runs are made and end.
struct Laboratory {
    db: Database,
    home: Home,
    me: WorkerInfo,
    /// For what no program does: other times, and what rows say.
    pool: sqlx::PgPool,
}

impl Laboratory {
    async fn new(cluster: &Cluster, db: &Database) -> Self {
        let home = cluster.home();
        // The server's user owns the home; the runs are ours.
        fs::create_dir_all(home.runs()).unwrap();
        let pool = sqlx::PgPool::connect(db.url()).await.unwrap();
        Self { db: db.clone(), home, me: worker(db).await, pool }
    }

    /// A run that is being made, with its checkpoints under the home.
    async fn begin(&self, name: &str) -> Fence {
        let under = Some(self.home.runs().to_string_lossy().into_owned());
        self.db.create_run(NewRun { uri: None, under, ..new_run(name) }).await.unwrap();
        self.db.claim(&self.me, &anything(), &lease()).await.unwrap().unwrap().fence
    }

    async fn write(&self, fence: Fence, step: i64, kind: CheckpointKind, loss: f64) {
        let run = self.db.run(fence.job).await.unwrap();
        let folder = format!("{}/step-{step:08}", run.uri);
        write_folder(Path::new(&folder));
        let metrics = BTreeMap::from([("loss".to_owned(), loss)]);
        let digest = storage::atomic::sha256(&[b'x'; 100]);
        let record = CheckpointRecord { step, kind, uri: folder, bytes: 100, digest, metrics };
        self.db.record_checkpoint(fence, run.id, &record).await.unwrap();
    }

    async fn end(&self, fence: Fence, outcome: Outcome) {
        let ended = Ended { again: false, ..Ended::new(outcome, None) };
        self.db.finish(fence, &ended, &lease()).await.unwrap();
    }

    /// A run with regular checkpoints at these steps, scored by none, that ended so.
    async fn ended(&self, name: &str, steps: &[i64], outcome: Outcome) -> Uuid {
        let fence = self.begin(name).await;
        for &step in steps {
            self.write(fence, step, CheckpointKind::Regular, f64::NAN).await;
        }
        self.end(fence, outcome).await;
        fence.job
    }

    /// Lets a job have ended so many days ago.
    async fn age(&self, job: Uuid, days: i32) {
        sqlx::query("update jobs set ended_at = now() - make_interval(days => $2) where id = $1")
            .bind(job)
            .bind(days)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn kept(&self, run: Uuid) -> Vec<i64> {
        self.db.checkpoints(run).await.unwrap().iter().map(|checkpoint| checkpoint.step).collect()
    }

    /// Steps whose folders lie complete on disk, by step; fails where one is incomplete.
    async fn on_disk(&self, run: Uuid) -> Vec<i64> {
        let uri = self.db.run(run).await.unwrap().uri;
        let mut steps = Vec::new();
        for entry in fs::read_dir(uri).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            assert!(entry.path().join("model").is_file(), "{name}");
            assert!(entry.path().join("state.json").is_file(), "{name}");
            steps.push(name.strip_prefix("step-").unwrap().parse().unwrap());
        }
        steps.sort_unstable();
        steps
    }

    async fn marked(&self) -> i64 {
        sqlx::query_scalar("select count(*) from checkpoints where state = 'retiring'")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Plans and carries out; gives what became of what.
    async fn reclaim(&self, policy: &Policy) -> Vec<(String, Fate)> {
        let plan = gc::plan(&self.db, &self.home, policy).await.unwrap();
        let mut fates = Vec::new();
        gc::run(&self.db, &plan, |item, fate| fates.push((item.what.clone(), fate.clone())))
            .await
            .unwrap();
        fates
    }

    /// Carries out what must succeed and gives what is gone.
    async fn gone(&self, policy: &Policy) -> Vec<String> {
        let fates = self.reclaim(policy).await;
        assert!(fates.iter().all(|(_, fate)| *fate == Fate::Gone), "{fates:?}");
        fates.into_iter().map(|(what, _)| what).collect()
    }
}

fn write_folder(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in ["model", "state.json"] {
        fs::write(folder.join(file), [b'x'; 100]).unwrap();
    }
}

fn keep(rule: &str) -> Policy {
    Policy { checkpoints: Some(rule.parse().unwrap()), ..Policy::default() }
}

fn failed_runs() -> Policy {
    Policy { failed_runs: true, ..Policy::default() }
}

fn older(policy: Policy, age: &str) -> Policy {
    Policy { older_than: Some(age.parse().unwrap()), ..policy }
}

fn sampling(run: Uuid, at: &str) -> NewSampling {
    NewSampling {
        run_id: Some(run),
        step: None,
        dataset_uri: "/data".into(),
        task: "colorization".into(),
        output_uri: format!("/out/{run}/{at}"),
        shares: 0,
        job: NewJob::new(JobKind::Sample, "samples", json!({"run": format!("{run}@{at}")})),
    }
}

/// Makes everything in a folder look so old.
fn make_old(path: &Path, age: Duration) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            make_old(&entry.unwrap().path(), age);
        }
    }
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}
