//! What lists show: filters, sweeps by name, workers, how far samplings are.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{anything, checkpoint, job, lease, new_run, no_lease, set_up, worker};
use crate::queue::attempts::Ended;
use crate::{
    Database, JobFilter, JobKind, JobState, NewJob, NewRun, NewSampling, Outcome, RunFilter,
    RunKind, Since, WorkerState,
};

async fn sweep(db: &Database, id: &str, name: &str) -> Uuid {
    let id: Uuid = id.parse().unwrap();
    sqlx::query("insert into sweeps (id, name, owner) values ($1, $2, 'ann')")
        .bind(id)
        .bind(name)
        .execute(&db.pool)
        .await
        .unwrap();
    id
}

/// Makes a job or run older.
async fn age(db: &Database, name: &str, span: &str) {
    for table in ["jobs", "runs"] {
        let update = format!(
            "update {table} set created_at = now() - interval '{span}' where name = '{name}'"
        );
        sqlx::query(sqlx::AssertSqlSafe(update)).execute(&db.pool).await.unwrap();
    }
}

#[test]
fn a_list_of_jobs_shows_what_every_condition_fits_newest_first() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let grid = sweep(&db, "ab000000-0000-4000-8000-000000000001", "grid").await;
        let tagged = |name: &str, tags: &[&str]| NewJob {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            owner: "ann".into(),
            ..job(name)
        };
        let jobs = [
            tagged("old", &["a"]),
            NewJob { held: true, owner: "bob".into(), ..job("paused_one") },
            NewJob { kind: JobKind::Sample, ..tagged("100%", &["a", "b"]) },
            NewJob { sweep: Some((grid, json!({"lr": 1}))), ..tagged("pausedXone", &["b"]) },
        ];
        for new in jobs {
            db.submit(new).await.unwrap();
        }
        age(&db, "old", "3 days").await;
        let list = async |filter: JobFilter| {
            let jobs = db.jobs(filter).await.unwrap();
            jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
        };
        let all = JobFilter::default;
        let owner = |name: &str| Some(name.to_owned());
        let tags = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect();
        let (old, held, samples, point) = ("old", "paused_one", "100%", "pausedXone");
        let hours = |hours: u64| Some(Since::Ago(Duration::from_secs(hours * 3600)));
        let at = |days| Some(Since::At(OffsetDateTime::now_utc() - time::Duration::days(days)));
        let (queued, paused) = (JobState::Queued, JobState::Paused);
        let cases: Vec<(JobFilter, Vec<&str>)> = vec![
            (all(), vec![point, samples, held, old]),
            (JobFilter { limit: Some(2), ..all() }, vec![point, samples]),
            (JobFilter { limit: None, ..all() }, vec![point, samples, held, old]),
            (JobFilter { states: vec![paused], ..all() }, vec![held]),
            (JobFilter { states: vec![paused, JobState::Failed], ..all() }, vec![held]),
            (
                JobFilter { states: vec![queued, paused], limit: Some(3), ..all() },
                vec![point, samples, held],
            ),
            (JobFilter { kinds: vec![JobKind::Sample, JobKind::Ingest], ..all() }, vec![samples]),
            (JobFilter { owner: owner("bob"), ..all() }, vec![held]),
            (JobFilter { tags: tags(&["b"]), ..all() }, vec![point, samples]),
            (JobFilter { tags: tags(&["b", "a"]), ..all() }, vec![samples]),
            (JobFilter { name: owner("paused*"), ..all() }, vec![point, held]),
            (JobFilter { name: owner("paused_one"), ..all() }, vec![held]),
            (JobFilter { name: owner("*0%"), ..all() }, vec![samples]),
            (JobFilter { name: owner("%"), ..all() }, vec![]),
            (JobFilter { since: hours(2), ..all() }, vec![point, samples, held]),
            (JobFilter { since: at(4), ..all() }, vec![point, samples, held, old]),
            (JobFilter { since: at(2), ..all() }, vec![point, samples, held]),
            (JobFilter { sweep: Some(grid), ..all() }, vec![point]),
            (
                JobFilter {
                    owner: owner("ann"),
                    tags: tags(&["a"]),
                    states: vec![queued],
                    ..all()
                },
                vec![samples, old],
            ),
        ];
        for (filter, names) in cases {
            assert_eq!(list(filter.clone()).await, names, "{filter:?}");
        }
        let counts = async |filter| db.count_jobs(&filter).await.unwrap();
        assert_eq!(counts(all()).await, [(queued, 3), (paused, 1)]);
        let some = JobFilter { name: owner("pau*"), states: vec![queued], limit: Some(1), ..all() };
        assert_eq!(counts(some).await, [(queued, 1), (paused, 1)]);
    });
}

#[test]
fn a_list_of_runs_has_the_same_conditions_and_never_reads_the_series() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let grid = sweep(&db, "ab000000-0000-4000-8000-000000000001", "grid").await;
        let me = worker(&db).await;
        let named = |name: &str| {
            let mut new = new_run(name);
            new.job.owner = "ann".into();
            new.job.tags = vec![name.to_owned(), "all".into()];
            new
        };
        db.create_run(named("old")).await.unwrap();
        let first = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.record_metrics(first, first.job, &super::points(1..=3, 0.5)).await.unwrap();
        let mut point = named("point");
        point.job.sweep = Some((grid, json!({"lr": 1})));
        db.create_run(NewRun { experiment: Some("lr".into()), ..point }).await.unwrap();
        age(&db, "old", "3 days").await;
        sqlx::query(
            "insert into runs (id, kind, experiment_id, name, owner, config, config_digest, seed, uri,
                 total_steps)
             select $1, 'import', experiment_id, 'paper', 'bob', '{}', '', 0, '/x', 10
             from runs where name = 'old'",
        )
        .bind(Uuid::new_v4())
        .execute(&db.pool)
        .await
        .unwrap();
        sqlx::query("drop table metrics cascade").execute(&db.pool).await.unwrap();

        let list = async |filter: RunFilter| {
            let runs = db.runs(filter).await.unwrap();
            runs.into_iter().map(|run| run.name).collect::<Vec<_>>()
        };
        let all = RunFilter::default;
        let text = |text: &str| Some(text.to_owned());
        let day = Some(Since::Ago(Duration::from_secs(86_400)));
        let cases: Vec<(RunFilter, Vec<&str>)> = vec![
            (all(), vec!["paper", "point", "old"]),
            (RunFilter { limit: Some(1), ..all() }, vec!["paper"]),
            (RunFilter { states: vec![JobState::Running], ..all() }, vec!["old"]),
            (RunFilter { states: vec![JobState::Running, JobState::Queued], ..all() }, vec![
                "point", "old",
            ]),
            (RunFilter { kinds: vec![RunKind::Import], ..all() }, vec!["paper"]),
            (RunFilter { owner: text("ann"), ..all() }, vec!["point", "old"]),
            (RunFilter { tags: vec!["all".into(), "old".into()], ..all() }, vec!["old"]),
            (RunFilter { name: text("p*r"), ..all() }, vec!["paper"]),
            (RunFilter { experiment: text("lr"), ..all() }, vec!["point"]),
            (RunFilter { since: day, ..all() }, vec!["paper", "point"]),
            (RunFilter { sweep: Some(grid), ..all() }, vec!["point"]),
        ];
        for (filter, names) in cases {
            assert_eq!(list(filter.clone()).await, names, "{filter:?}");
        }
        let runs = db.runs(all()).await.unwrap();
        assert_eq!(runs[2].latest, json!({"loss": 0.5}));
    });
}

#[test]
fn sweeps_go_by_name_or_the_beginning_of_their_id_and_an_error_names_candidates() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let error = async |name: &str| db.find_sweep(name).await.unwrap_err().to_string();
        assert_eq!(error("grid").await, "no sweep `grid` (see `scheduler sweeps`)");
        let one = sweep(&db, "ab000001-0000-4000-8000-000000000000", "grid").await;
        let two = sweep(&db, "ab000002-0000-4000-8000-000000000000", "other").await;
        let found = async |name: &str| db.find_sweep(name).await.unwrap().id;
        assert_eq!(found("grid").await, one);
        assert_eq!(found("ab000002").await, two);
        let whole = two.to_string();
        assert_eq!(found(&whole).await, two);
        let ambiguous = error("ab").await;
        assert!(ambiguous.contains("beginning of 2 ids"), "{ambiguous}");
        assert!(ambiguous.contains("ab000001 grid"), "{ambiguous}");
        let missing = error("none").await;
        assert!(missing.contains("no sweep `none`"), "{missing}");
        let newer = sweep(&db, "cd000001-0000-4000-8000-000000000000", "grid").await;
        assert_eq!(found("grid").await, newer);
    });
}

#[test]
fn workers_are_alive_lost_or_ended_and_hold_jobs() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let alive = worker(&db).await;
        let ended = worker(&db).await;
        let (lost, gone) = (worker(&db).await, worker(&db).await);
        db.end_worker(ended.id).await.unwrap();
        for (id, span) in [(lost.id, "5 minutes"), (gone.id, "2 days")] {
            sqlx::query(
                "update workers set last_seen_at = now() - $2::text::interval where id = $1",
            )
            .bind(id)
            .bind(span)
            .execute(&db.pool)
            .await
            .unwrap();
        }
        let job = db.submit(job("held")).await.unwrap().job;
        assert!(db.holder(job.id).await.unwrap().is_none());
        let claimed = db.claim(&alive, &anything(), &lease()).await.unwrap().unwrap();
        let holder = db.holder(job.id).await.unwrap().unwrap();
        assert_eq!((holder.worker, holder.pid), (alive.name.clone(), alive.pid));
        assert!(holder.lease_left > 0.0 && holder.lease_left <= 60.0);

        let list = async |all| {
            let rows = db.workers(all, &lease()).await.unwrap();
            rows.into_iter().map(|row| (row.id, row.state, row.jobs)).collect::<Vec<_>>()
        };
        let works = (alive.id, WorkerState::Alive, vec![job.short.clone()]);
        let few = [works.clone(), (lost.id, WorkerState::Lost, vec![])];
        assert_eq!(list(false).await, few);
        let all = list(true).await;
        assert_eq!(all.len(), 4);
        assert!(all.contains(&(ended.id, WorkerState::Ended, vec![])));
        assert!(all.contains(&(gone.id, WorkerState::Lost, vec![])));
        let stopped = Ended::new(Outcome::Succeeded, None);
        db.finish(claimed.fence, &stopped, &lease()).await.unwrap();
        assert_eq!(list(false).await[0].2, Vec::<String>::new());
    });
}

#[test]
fn a_job_tells_what_waits_for_it_and_how_far_its_chunks_are() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let run = db.create_run(new_run("demo")).await.unwrap().run;
        let child = NewJob { after: vec![run.id], ..job("child") };
        let child = db.submit(child).await.unwrap().job;
        let children = db.children(run.id).await.unwrap();
        assert_eq!(children.iter().map(|job| job.id).collect::<Vec<_>>(), [child.id]);
        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        for (step, loss) in [(5, 0.1), (10, 0.2)] {
            db.record_checkpoint(fence, run.id, &checkpoint(step, loss)).await.unwrap();
        }
        let checkpoints = db.checkpoints(run.id).await.unwrap();
        assert_eq!(run.best(&checkpoints).map(|best| best.step), Some(5));
        let sampling = NewSampling {
            run_id: Some(run.id),
            step: Some(5),
            dataset_uri: "/data".into(),
            task: "colorization".into(),
            output_uri: "/out".into(),
            shares: 0,
            job: NewJob::new(JobKind::Sample, "samples", json!({})),
        };
        let id = db.submit_sampling(sampling).await.unwrap().job.id;
        let progress = async |of| {
            let jobs = db.sample_jobs(of).await.unwrap();
            let jobs = jobs.into_iter().map(|job| (job.job_id, job.chunks.done, job.chunks.total));
            jobs.collect::<Vec<_>>()
        };
        assert_eq!(progress(id).await, [(id, 0, 0)]);
        let fence = db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap().fence;
        db.create_chunks(fence, id, 25, 10).await.unwrap();
        db.claim_chunk(fence, id, &[]).await.unwrap();
        db.finish_chunk(fence, id, 0, "/out/0", 5, "d0").await.unwrap();
        assert_eq!(progress(run.id).await, [(id, 1, 3)]);
    });
}
