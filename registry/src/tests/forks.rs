//! Runs that make more steps, and runs that go on from another's checkpoint.

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{anything, checkpoint, job, lease, new_run, set_up, worker};
use crate::queue::attempts::Ended;
use crate::{Extension, Fork, GoOn, JobState, NewJob, NewRun, Outcome, RunRef};

fn more(steps: i64) -> Extension {
    Extension {
        config: json!({ "train": { "steps": steps }, "seed": 7 }),
        total_steps: steps,
        payload: json!({ "config_digest": steps.to_string() }),
        ranks: None,
    }
}

#[test]
fn a_run_that_has_ended_makes_more_steps() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let first = NewRun {
            config: more(10).config,
            job: NewJob { payload: more(10).payload, ..job("demo") },
            ..new_run("demo")
        };
        let run = db.create_run(first).await.unwrap().run.id;
        // Nothing else changes under this name.
        let mut other = more(20);
        other.config["seed"] = json!(8);
        assert!(db.extend_run(run, other).await.is_err());
        // While it waits it stays where it is, and may be asked for fewer.
        assert_eq!(db.extend_run(run, more(2000)).await.unwrap().run.total_steps, 2000);
        let made = db.extend_run(run, more(20)).await.unwrap();
        assert_eq!((made.run.total_steps, made.job.state), (20, JobState::Queued));

        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        let message = db.extend_run(run, more(30)).await.unwrap_err().to_string();
        assert!(message.contains("pause it first"), "{message}");
        db.record_checkpoint(fence, run, &checkpoint(20, 0.5)).await.unwrap();
        db.finish(fence, &Ended::new(Outcome::Succeeded, None), &lease()).await.unwrap();

        let digest = db.run(run).await.unwrap().config_digest;
        let made = db.extend_run(run, more(30)).await.unwrap();
        assert_eq!((made.run.total_steps, made.run.last_step), (30, 20));
        assert_ne!(made.run.config_digest, digest);
        assert_eq!((made.job.state, made.job.attempts_used), (JobState::Queued, 0));
        assert_eq!(made.job.payload, more(30).payload);
        assert_eq!(made.job.ended_at, None);
        let message = db.extend_run(run, more(30)).await.unwrap_err().to_string();
        assert!(message.contains("already"), "{message}");

        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.finish(fence, &Ended::new(Outcome::Succeeded, None), &lease()).await.unwrap();
        sqlx::query("delete from checkpoints").execute(&db.pool).await.unwrap();
        let message = db.extend_run(run, more(40)).await.unwrap_err().to_string();
        assert!(message.contains("no checkpoint to go on from"), "{message}");
        assert_eq!(db.run(run).await.unwrap().total_steps, 30, "nothing is half done");
        assert_eq!(db.job(run).await.unwrap().state, JobState::Succeeded);
    });
}

#[test]
fn a_run_that_has_not_begun_waits_for_its_moment_still() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let later = OffsetDateTime::now_utc() + Duration::days(1);
        let job = NewJob { run_after: Some(later), payload: more(10).payload, ..job("later") };
        let new = NewRun { config: more(10).config, job, ..new_run("later") };
        let run = db.create_run(new).await.unwrap().run.id;
        let moment = db.job(run).await.unwrap().run_after;
        assert_eq!(db.extend_run(run, more(20)).await.unwrap().job.run_after, moment);
        db.cancel(run).await.unwrap();
        assert_eq!(db.retry(run).await.unwrap().run_after, moment);
    });
}

#[test]
fn a_fork_has_its_checkpoint_from_the_beginning_and_goes_back_to_it() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let parent = db.create_run(new_run("parent")).await.unwrap().run.id;
        db.cancel(parent).await.unwrap();
        let id = db.new_run_id().await.unwrap();
        let fork = Fork { run: id, parent, checkpoint: checkpoint(5, 0.5) };
        let new = NewRun { fork: Some(fork), ..new_run("fork") };
        let run = db.create_run(new).await.unwrap().run;
        assert_eq!((run.id, run.last_step), (id, 5));
        let origin = db.origin(id).await.unwrap().unwrap();
        assert_eq!((origin.run, origin.name.as_str(), origin.step), (parent, "parent", 5));
        assert_eq!(db.origin(parent).await.unwrap(), None);
        let reference: RunRef = format!("{id}@5").parse().unwrap();
        assert_eq!(db.checkpoint(&reference).await.unwrap().1.attempt, 0);

        let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        db.record_checkpoint(fence, id, &checkpoint(8, 0.4)).await.unwrap();
        let failed = Ended { again: false, ..Ended::new(Outcome::Failed, None) };
        db.finish(fence, &failed, &lease()).await.unwrap();
        db.retry_as(id, GoOn { from: Some(0), ..GoOn::default() }).await.unwrap();
        let steps: Vec<i64> =
            db.checkpoints(id).await.unwrap().iter().map(|checkpoint| checkpoint.step).collect();
        assert_eq!(steps, [5], "its beginning is the checkpoint that it came with");
    });
}
