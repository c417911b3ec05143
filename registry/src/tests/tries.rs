//! Tries: limits, turns of owners, and the fence of who makes them.

use std::sync::Arc;

use super::{anything, lease, no_lease, set_up, worker};
use crate::queue::fence::Fence;
use crate::{
    Database, Error, GpuCount, JobKind, JobState, NewTry, NewTryPicture, Try, TryEnd, TryLimits,
    TryPart, TryService, TryState, Uuid,
};

fn new(owner: &str) -> NewTry {
    NewTry {
        owner: owner.into(),
        name: "photo".into(),
        weights: "run@best".into(),
        run_id: None,
        task: "inpainting".into(),
        framing: "square".into(),
        short_side: None,
        mask_invert: false,
        any_task: false,
        process: "ddim".into(),
        steps: None,
        spacing: "linear".into(),
        eta: 0.0,
        samples: 1,
        seed: 0,
    }
}

fn picture(what: TryPart, bytes: usize) -> NewTryPicture {
    NewTryPicture {
        what,
        sample: 0,
        step: 0,
        width: 4,
        height: 4,
        media: "image/png",
        bytes: vec![7; bytes],
    }
}

const SERVICE: fn() -> TryService = || TryService {
    owner: "room".into(),
    priority: 100,
    gpus: GpuCount::up_to(1),
    preempts: false,
    idle: 5,
    here: false,
    without_tries: false,
};

async fn enter(db: &Database, owner: &str) -> Result<Try, Error> {
    db.submit_try(new(owner), vec![picture(TryPart::Input, 10)], TryLimits::default()).await
}

async fn claim(db: &Arc<Database>, lease: &crate::Lease) -> Fence {
    let me = worker(db).await;
    db.claim(&me, &anything(), lease).await.unwrap().unwrap().fence
}

#[test]
fn owners_take_turns_and_one_job_makes_all() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let db = Arc::new(db);
        assert!(db.serve_tries(&SERVICE(), false).await.unwrap().is_none(), "nothing to do");
        let mut wanted = Vec::new();
        for owner in ["ann", "ann", "ann", "bob"] {
            wanted.push(enter(&db, owner).await.unwrap().id);
        }
        let job = db.serve_tries(&SERVICE(), false).await.unwrap().unwrap();
        assert_eq!((job.kind, job.priority, job.gpus_most), (JobKind::Try, 100, 1));
        assert!(db.serve_tries(&SERVICE(), false).await.unwrap().is_none(), "one is enough");
        let fence = claim(&db, &lease()).await;
        let mut made = Vec::new();
        while let Some(one) = db.claim_try(fence).await.unwrap() {
            assert_eq!((one.state, one.claims), (TryState::Running, 1));
            let outputs = TryEnd::Done(vec![picture(TryPart::Output, 20)]);
            assert!(db.end_try(fence, one.id, &outputs).await.unwrap());
            assert!(!db.end_try(fence, one.id, &outputs).await.unwrap(), "it has ended");
            made.push(one.id);
        }
        assert_eq!(made, [wanted[0], wanted[3], wanted[1], wanted[2]], "bob waits for one");
        let pictures = db.try_pictures(made[0]).await.unwrap();
        assert_eq!(pictures.len(), 2);
        let (media, bytes) = db.try_picture(&pictures[1].digest).await.unwrap().unwrap();
        assert_eq!((&*media, bytes.len()), ("image/png", 20));
        assert!(db.try_picture("no digest").await.unwrap().is_none());
    });
}

#[test]
fn who_lost_a_try_writes_nothing_and_what_kills_three_is_given_up() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let db = Arc::new(db);
        let id = enter(&db, "ann").await.unwrap().id;
        let mut lost: Option<Fence> = None;
        for round in 1..=3 {
            db.serve_tries(&SERVICE(), true).await.unwrap();
            let fence = claim(&db, &no_lease()).await;
            let one = db.claim_try(fence).await.unwrap().unwrap();
            assert_eq!((one.id, one.claims), (id, round));
            assert!(db.begin_try(fence, id, Some(5), "digest", 10).await.unwrap());
            let frames = [picture(TryPart::Frame, 30)];
            assert!(db.advance_try(fence, id, 3, &frames).await.unwrap());
            if let Some(lost) = lost {
                let late = db.advance_try(lost, id, 9, &frames).await.unwrap_err();
                assert!(late.is_stale(), "{late}");
            }
            assert_eq!(db.try_pictures(id).await.unwrap().len(), 2, "those of the dead are gone");
            db.reclaim(&no_lease(), &[]).await.unwrap();
            assert!(db.tries_wait().await.unwrap());
            lost = Some(fence);
        }
        db.serve_tries(&SERVICE(), true).await.unwrap();
        let fence = claim(&db, &lease()).await;
        assert!(db.claim_try(fence).await.unwrap().is_none());
        let row = db.find_try(id).await.unwrap();
        assert_eq!(row.state, TryState::Failed);
        assert!(row.reason.unwrap().contains("died 3 times"));

        // Cancelled or removed in the middle, or left.
        let [cancelled, removed, left] = [(); 3].map(|()| "ann");
        let mut ids = Vec::new();
        for owner in [cancelled, removed, left] {
            ids.push(enter(&db, owner).await.unwrap().id);
            db.claim_try(fence).await.unwrap().unwrap();
        }
        assert_eq!(db.cancel_try(ids[2]).await.unwrap().state, TryState::Cancelled);
        assert!(!db.advance_try(fence, ids[2], 1, &[]).await.unwrap());
        assert_eq!(db.cancel_try(ids[2]).await.unwrap().state, TryState::Cancelled);
        db.remove_try(ids[0]).await.unwrap();
        assert!(!db.advance_try(fence, ids[0], 1, &[picture(TryPart::Frame, 3)]).await.unwrap());
        let one = db.claim_try(fence).await.unwrap().unwrap();
        assert_eq!(one.id, ids[1], "what its answer lost is given again");
        db.leave_try(fence, ids[1]).await.unwrap();
        let row = db.find_try(ids[1]).await.unwrap();
        assert_eq!(
            (row.state, row.claims),
            (TryState::Waiting, 0),
            "whoever leaves one did not die of it"
        );
    });
}

#[test]
fn limits_hold_and_what_is_kept_stays() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let db = Arc::new(db);
        let limits = TryLimits { open_each: 2, open: 3, ended_each: 2, bytes: 1000 };
        let enter = async |owner: &str, bytes: usize| {
            db.submit_try(new(owner), vec![picture(TryPart::Input, bytes)], limits).await
        };
        let mut ids: Vec<Uuid> = Vec::new();
        for owner in ["ann", "ann", "bob"] {
            ids.push(enter(owner, 10).await.unwrap().id);
        }
        for (owner, words) in [("ann", "2 pictures of yours wait"), ("eve", "3 pictures wait")] {
            let error = enter(owner, 10).await.unwrap_err();
            assert!(
                matches!(error, Error::TooMany(_)) && error.to_string().contains(words),
                "{error}"
            );
        }
        for id in &ids {
            db.cancel_try(*id).await.unwrap();
        }
        db.keep_try(ids[0], true).await.unwrap();
        // More than are left lying, and more bytes than fit: the oldest that nobody keeps go.
        for _ in 0..4 {
            let id = enter("ann", 300).await.unwrap().id;
            db.cancel_try(id).await.unwrap();
            ids.push(id);
        }
        let mut left: Vec<Uuid> =
            db.tries(None, None, 100).await.unwrap().into_iter().map(|row| row.id).collect();
        left.sort_unstable();
        let mut wanted = vec![ids[0], ids[2], ids[4], ids[5], ids[6]];
        wanted.sort_unstable();
        assert_eq!(left, wanted);
        for id in &left {
            db.keep_try(*id, true).await.unwrap();
        }
        let error = enter("ann", 300).await.unwrap_err();
        assert!(error.to_string().contains("remove some that are kept"), "{error}");
        assert!(db.remove_old_tries(db.now().await.unwrap()).await.unwrap().tries == 0);
        db.keep_try(ids[6], false).await.unwrap();
        let removed = db.remove_old_tries(db.now().await.unwrap()).await.unwrap();
        assert_eq!((removed.tries, removed.bytes), (1, 300));
        assert!(matches!(db.find_try(ids[6]).await, Err(Error::NotFound { .. })));
        // What cannot be is refused.
        for wrong in [
            NewTry { process: "magic".into(), ..new("ann") },
            NewTry { framing: "round".into(), ..new("ann") },
            NewTry { name: "a\u{1b}b".into(), ..new("ann") },
        ] {
            let error = db.submit_try(wrong, Vec::new(), limits).await.unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
        }
    });
}

#[test]
fn after_a_job_that_failed_the_next_waits() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let db = Arc::new(db);
        enter(&db, "ann").await.unwrap();
        let job = db.serve_tries(&SERVICE(), false).await.unwrap().unwrap();
        let fence = claim(&db, &lease()).await;
        let ended = crate::Ended {
            again: false,
            ..crate::Ended::new(crate::Outcome::Failed, Some("no libtorch".into()))
        };
        assert_eq!(db.finish(fence, &ended, &lease()).await.unwrap().state, JobState::Failed);
        assert!(db.serve_tries(&SERVICE(), false).await.unwrap().is_none());
        let next = db.serve_tries(&SERVICE(), true).await.unwrap().unwrap();
        assert_ne!(next.id, job.id);
    });
}
