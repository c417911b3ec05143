//! Sample jobs: their places, chunks and shares.

use serde_json::json;

use super::{anything, lease, no_lease, set_up, with_cluster, worker};
use crate::queue::attempts::Ended;
use crate::queue::fence::Fence;
use crate::{Error, JobKind, JobState, NewJob, NewSampling, Outcome};

fn samples(shares: u32) -> NewSampling {
    NewSampling {
        run_id: None,
        step: None,
        dataset_uri: "/data".into(),
        task: "colorization".into(),
        output_uri: "/out".into(),
        shares,
        job: NewJob::new(JobKind::Sample, "samples", json!({ "what": "samples" })),
    }
}

#[test]
fn chunks_are_cut_once_and_those_of_a_lost_attempt_are_free_again() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let id = db.submit_sampling(samples(0)).await.unwrap().job.id;
        let first = db.claim(&me, &anything(), &no_lease()).await.unwrap().unwrap().fence;
        assert_eq!(db.create_chunks(first, id, 25, 10).await.unwrap(), 3);
        assert_eq!(db.create_chunks(first, id, 25, 10).await.unwrap(), 3);
        assert!(db.create_chunks(first, id, 30, 10).await.is_err());
        assert!(db.create_chunks(first, id, i64::MAX, 1).await.is_err());
        let take =
            async |fence: Fence, mine: &[i32]| db.claim_chunk(fence, id, mine).await.unwrap();
        let chunk = take(first, &[]).await.unwrap();
        assert_eq!((chunk.number, chunk.rows), (0, 0..10));
        db.finish_chunk(first, id, 0, "/out/0", 5, "d0").await.unwrap();
        assert_eq!(take(first, &[0]).await.unwrap().number, 1);
        assert_eq!(take(first, &[0]).await.unwrap().number, 1, "the answer was lost");
        assert_eq!(take(first, &[0, 1]).await.unwrap().number, 2);

        db.reclaim(&lease(), &[]).await.unwrap();
        let second = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
        assert!(db.finish_chunk(first, id, 1, "/late", 5, "d").await.unwrap_err().is_stale());
        for (number, rows) in [(1, 10..20), (2, 20..25)] {
            let chunk = take(second, &[]).await.unwrap();
            assert_eq!((chunk.number, chunk.rows), (number, rows));
            db.finish_chunk(second, id, number, "/out", 5, "d").await.unwrap();
        }
        assert_eq!(take(second, &[]).await, None);
        assert_eq!(db.chunks(id).await.unwrap()[0].output_uri.as_deref(), Some("/out/0"));
    });
}

#[test]
fn shares_take_chunks_as_long_as_their_job_wants_them() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let me = worker(&db).await;
        let mut new = samples(2);
        new.job.submit_key = Some("once".into());
        new.job.priority = 7;
        let job = db.submit_sampling(new.clone()).await.unwrap().job;
        assert!(db.submit_sampling(new).await.unwrap().existed, "and no further shares");
        let claim = async || db.claim(&me, &anything(), &lease()).await.unwrap();
        let claimed = [claim().await, claim().await, claim().await].map(Option::unwrap);
        assert!(claim().await.is_none());
        assert_eq!(claimed[0].job.id, job.id, "the job itself goes first");
        for (number, share) in (1..).zip(&claimed[1..]) {
            assert_eq!(share.job.name, format!("samples-share-{number}"));
            assert_eq!((share.job.priority, &share.job.submit_key), (7, &None));
            assert_eq!(share.job.share_of(), Some(job.id));
        }

        // A share comes first, and cuts; all see the same chunks.
        let [own, share, other] = claimed.map(|claimed| claimed.fence);
        assert_eq!(db.create_chunks(share, job.id, 40, 10).await.unwrap(), 4);
        assert_eq!(db.create_chunks(own, job.id, 40, 10).await.unwrap(), 4);
        let take = async |fence: Fence| {
            let chunk = db.claim_chunk(fence, job.id, &[0, 1, 2, 3]).await.unwrap();
            chunk.map(|chunk| chunk.number)
        };
        assert_eq!(
            (take(share).await, take(own).await, take(other).await),
            (Some(0), Some(1), Some(2))
        );
        db.finish_chunk(share, job.id, 0, "/out/0", 5, "d0").await.unwrap();
        assert!(db.finish_chunk(own, job.id, 2, "/out/2", 5, "d2").await.is_err(), "not its own");
        let tally = db.tally(job.id).await.unwrap();
        assert_eq!((tally.rows_done, tally.chunks_left, tally.workers), (10, 3, 2));

        // One that failed gives its chunk back; after the job has ended no share takes any.
        let failed = Ended::new(Outcome::Failed, Some("as it happens".into()));
        db.finish(other, &failed, &lease()).await.unwrap();
        assert_eq!(take(share).await, Some(2));
        db.cancel(job.id).await.unwrap();
        db.finish(own, &Ended::new(Outcome::Stopped, None), &lease()).await.unwrap();
        assert_eq!(db.job(job.id).await.unwrap().state, JobState::Cancelled);
        assert_eq!(take(share).await, None);
    });
}

#[test]
fn a_place_is_that_of_one_job_which_has_not_ended() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let first = db.submit_sampling(samples(1)).await.unwrap().job;
        let refused = async |message: Error| {
            let message = message.to_string();
            assert!(message.contains("already writes its outputs to /out"), "{message}");
            message
        };
        let message = refused(db.submit_sampling(samples(0)).await.unwrap_err()).await;
        assert!(message.contains(&format!("job {} (queued)", first.short)), "{message}");
        let elsewhere = NewSampling { output_uri: "/out/2".into(), ..samples(0) };
        db.submit_sampling(elsewhere).await.unwrap();
        db.pause(first.id).await.unwrap();
        refused(db.submit_sampling(samples(0)).await.unwrap_err()).await;

        // One that has ended gives it free, and gets it again only when it is free.
        db.cancel(first.id).await.unwrap();
        let second = db.submit_sampling(samples(0)).await.unwrap().job;
        let message = refused(db.retry(first.id).await.unwrap_err()).await;
        assert!(message.contains(&format!("job {} (queued)", second.short)), "{message}");
        assert_eq!(db.job(first.id).await.unwrap().state, JobState::Cancelled);
        db.retry(second.id).await.unwrap();
        db.cancel(second.id).await.unwrap();
        assert_eq!(db.retry(first.id).await.unwrap().state, JobState::Queued);
    });
}

#[test]
fn of_submissions_for_one_place_at_the_same_moment_one_is_taken() {
    with_cluster(|cluster| async move {
        let db = cluster.open().await;
        for round in 0..20 {
            let submitting: Vec<_> = (0..4)
                .map(|_| {
                    let db = db.clone();
                    let new = NewSampling { output_uri: format!("/out/{round}"), ..samples(0) };
                    tokio::spawn(async move { db.submit_sampling(new).await })
                })
                .collect();
            let mut taken = 0;
            for one in submitting {
                match one.await.unwrap() {
                    Ok(_) => taken += 1,
                    Err(error) => assert!(matches!(error, Error::Invalid(_)), "{error}"),
                }
            }
            assert_eq!(taken, 1, "round {round}");
        }
    });
}
