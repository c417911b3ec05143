//! Seats in gangs, and answers that are lost.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::{anything, job, lease, with_cluster};
use crate::queue::attempts::Ended;
use crate::queue::preempt::Free;
use crate::{Database, Gpu, JobKind, Lease, NewJob, Outcome, Resources, TOO_FEW_HOSTS, WorkerInfo};

/// A worker of that host.
async fn on(db: &Database, host: &str) -> WorkerInfo {
    let worker = WorkerInfo { host: host.to_owned(), ..WorkerInfo::this_process(None, 1) };
    db.register_worker(&worker).await.unwrap();
    worker
}

#[test]
fn a_gang_is_complete_once_and_with_as_many_hosts_as_were_meant() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let (leads, one) = (on(&db, "a").await, on(&db, "b").await);
        let (two, three) = (on(&db, "c").await, on(&db, "d").await);
        let on_three = NewJob { hosts: 3.into(), ..job("three") };
        db.submit(on_three).await.unwrap();
        let claimed = db.claim(&leads, &anything(), &lease()).await.unwrap().unwrap();
        let fence = claimed.fence;

        assert!(db.claim_seat(&leads, &anything()).await.unwrap().is_none(), "of its own host");
        let first = db.claim_seat(&one, &anything()).await.unwrap().unwrap();
        // The answer was lost: it is the same seat.
        let again = db.claim_seat(&one, &anything()).await.unwrap().unwrap();
        assert_eq!(again.number, first.number);
        assert_eq!(db.sit(one.id, &first, 2, &[]).await.unwrap(), None);
        assert!(db.claim_seat(&one, &anything()).await.unwrap().is_none(), "one a host");
        let second = db.claim_seat(&two, &anything()).await.unwrap().unwrap();
        db.sit(two.id, &second, 2, &[]).await.unwrap();

        // One that has left meanwhile is not counted, and its seat is for others.
        db.leave_seat(one.id, &first, None, &Default::default()).await.unwrap();
        assert_eq!(db.complete_gang(fence, 2, 2).await.unwrap(), None);
        let gang = db.gang(fence, 0).await.unwrap();
        assert!(gang.assembling && gang.seated == 1);
        assert!(db.sit(one.id, &first, 2, &[]).await.unwrap_err().is_stale());
        let first = db.claim_seat(&three, &anything()).await.unwrap().unwrap();
        db.sit(three.id, &first, 1, &[]).await.unwrap();

        // Each host has as many ranks as the one with the least room.
        assert_eq!(db.complete_gang(fence, 2, 2).await.unwrap(), Some((3, 1)));
        // The answer was lost: it is as it is.
        assert_eq!(db.complete_gang(fence, 2, 2).await.unwrap(), None);
        let gang = db.gang(fence, 0).await.unwrap();
        assert!(gang.goes_on && !gang.assembling && !gang.too_few);
        assert_eq!((gang.world, gang.ranks), (Some(3), Some((1, 1))));
        assert_eq!(db.gang(fence, first.number).await.unwrap().ranks, Some((1, 1)));
        assert_eq!(db.gang(fence, second.number).await.unwrap().ranks, Some((2, 1)));

        let others = async || db.others_of_gang(fence, &lease()).await.unwrap();
        let named = others().await.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(named, ["rank 1 on d", "rank 2 on c"]);
        let other = &others().await[1];
        assert!(!other.left && !other.gone && other.reason.is_none(), "{other:?}");
        db.note_seat(fence, other.number, Some("lost")).await.unwrap();
        assert_eq!(others().await[1].reason.as_deref(), Some("lost"));
        // What its worker says itself counts, and so does what was said when it says nothing.
        db.leave_seat(two.id, &second, None, &Default::default()).await.unwrap();
        let other = &others().await[1];
        assert!(other.left && other.reason.as_deref() == Some("lost"), "{other:?}");
    });
}

#[test]
fn who_drains_does_not_count_a_gang_that_assembles_in_vain() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let (leads, one) = (on(&db, "a").await, on(&db, "b").await);
        let two = db.submit(NewJob { hosts: 2.into(), ..job("two") }).await.unwrap().job;
        let mut left = anything();
        left.except = vec![two.id];
        let could = async || (db.could_do(&anything()).await, db.could_do(&left).await);
        assert!(matches!(could().await, (Ok(true), Ok(false))), "it is queued");
        let claimed = db.claim(&leads, &anything(), &lease()).await.unwrap().unwrap();
        assert!(matches!(could().await, (Ok(true), Ok(false))), "it assembles");
        assert!(db.claim_seat(&one, &left).await.unwrap().is_none());
        let seat = db.claim_seat(&one, &anything()).await.unwrap().unwrap();
        db.sit(one.id, &seat, 1, &[]).await.unwrap();
        db.complete_gang(claimed.fence, 1, 1).await.unwrap().unwrap();
        assert!(matches!(could().await, (Ok(true), Ok(true))), "it may come back");
        let reason = format!("{TOO_FEW_HOSTS}1 of 2");
        let ended = Ended::new(Outcome::Stopped, Some(reason));
        db.finish(claimed.fence, &ended, &lease()).await.unwrap();
        let gang = db.gang(claimed.fence, seat.number).await.unwrap();
        assert!(gang.too_few && !gang.goes_on);
    });
}

#[test]
fn a_gpu_of_a_seat_is_taken() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let (leads, sits) = (on(&db, "a").await, on(&db, "b").await);
        let two = db.submit(NewJob { hosts: 2.into(), ..job("two") }).await.unwrap().job;
        let gang = db.claim(&leads, &anything(), &lease()).await.unwrap().unwrap();
        let alone = db.submit(job("alone")).await.unwrap().job;
        let alone = db.claim_job(&leads, alone.id, &lease()).await.unwrap();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let of = names(&["GPU-1"]);
        assert_eq!(db.take_gpus(leads.id, alone.fence, &of).await.unwrap(), None);

        let seat = db.claim_seat(&sits, &anything()).await.unwrap().unwrap();
        let taken = db.sit(sits.id, &seat, 2, &names(&["GPU-1", "GPU-2"])).await.unwrap();
        assert_eq!(taken.unwrap().job, alone.job.short);
        db.leave_seat(sits.id, &seat, None, &Default::default()).await.unwrap();
        let seat = db.claim_seat(&sits, &anything()).await.unwrap().unwrap();
        let own = names(&["GPU-2", "GPU-3"]);
        assert_eq!(db.sit(sits.id, &seat, 2, &own).await.unwrap(), None);

        // From others it is kept, until the seat has ended.
        assert_eq!(db.taken_gpus(sits.id, &own).await.unwrap(), []);
        let taken = db.taken_gpus(leads.id, &own).await.unwrap();
        assert!(taken.iter().all(|taken| taken.job == two.short), "{taken:?}");
        assert_eq!(taken.len(), 2);
        let refused = db.take_gpus(leads.id, alone.fence, &own).await.unwrap();
        assert!(refused.is_some());
        db.complete_gang(gang.fence, 1, 2).await.unwrap().unwrap();
        assert_eq!(db.taken_gpus(leads.id, &own).await.unwrap().len(), 2);
        db.leave_seat(sits.id, &seat, None, &Default::default()).await.unwrap();
        assert_eq!(db.taken_gpus(leads.id, &own).await.unwrap(), []);
    });
}

#[test]
fn a_gang_is_claimed_once_as_many_hosts_as_it_needs_have_workers_that_fit() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let labels = [("rack".to_owned(), "a".to_owned())].into();
        let two = NewJob { hosts: 2.into(), gpus: 1.into(), gpu_memory: 10, labels, ..job("two") };
        let two = db.submit(two).await.unwrap().job;
        let alone = db.submit(job("alone")).await.unwrap().job;
        let register = async |host: &str, kind: JobKind, memory: i64, rack: &str| {
            let gpu = Gpu { uuid: format!("GPU-{host}"), memory, model: "a GPU".into() };
            let offers = Resources {
                kinds: vec![kind],
                gpus: vec![memory],
                labels: json!({ "rack": rack }),
                except: Vec::new(),
            };
            let worker = WorkerInfo {
                host: host.to_owned(),
                gpus: vec![gpu],
                offers,
                ..WorkerInfo::this_process(None, 1)
            };
            db.register_worker(&worker).await.unwrap();
            worker
        };
        let leads = register("a", JobKind::Train, 10, "a").await;
        register("a", JobKind::Train, 10, "a").await;
        register("b", JobKind::Sample, 10, "a").await;
        register("c", JobKind::Train, 9, "a").await;
        register("d", JobKind::Train, 10, "b").await;
        let ended = register("e", JobKind::Train, 10, "a").await;
        db.end_worker(ended.id).await.unwrap();
        let ails = register("f", JobKind::Train, 10, "a").await;
        db.note_ailment(ails.id, Some("its disk is full")).await.unwrap();
        let lost = register("g", JobKind::Train, 10, "a").await;
        sqlx::query("update workers set last_seen_at = now() - interval '2 minutes' where id = $1")
            .bind(lost.id)
            .execute(&db.pool)
            .await
            .unwrap();

        // A job for one host goes before it.
        let short = db.short_of_hosts(&leads.offers, &lease()).await.unwrap();
        assert!(matches!(&short[..], [(job, 1)] if job.id == two.id), "{short:?}");
        let claimed = db.claim(&leads, &leads.offers, &lease()).await.unwrap().unwrap();
        assert_eq!(claimed.job.id, alone.id);
        assert!(db.claim(&leads, &leads.offers, &lease()).await.unwrap().is_none());
        // Who could not do it does not wait for it.
        assert!(db.short_of_hosts(&Resources::default(), &lease()).await.unwrap().is_empty());

        db.note_ailment(ails.id, None).await.unwrap();
        assert!(db.short_of_hosts(&leads.offers, &lease()).await.unwrap().is_empty());
        let claimed = db.claim(&leads, &leads.offers, &lease()).await.unwrap().unwrap();
        assert_eq!(claimed.job.id, two.id);
    });
}

#[test]
fn nobody_gives_way_to_a_gang_for_more_hosts_than_there_are() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let mut leads = on(&db, "a").await;
        leads.offers = anything();
        db.submit(job("lower")).await.unwrap();
        let lower = db.claim(&leads, &anything(), &lease()).await.unwrap().unwrap();
        let two = NewJob { hosts: 2.into(), priority: 1, preempts: true, ..job("two") };
        db.submit(two).await.unwrap();
        let held = HashMap::from([(lower.job.id, vec![])]);
        let free = Free { slots: 0, gpus: Vec::new(), held };
        assert!(db.preempt(&leads, &free, &lease()).await.unwrap().is_empty());
        on(&db, "b").await;
        let asked = db.preempt(&leads, &free, &lease()).await.unwrap();
        assert!(matches!(&asked[..], [asked] if asked.to_name == "two"), "{asked:?}");
    });
}

#[test]
fn the_longer_a_gang_gathers_in_vain_the_longer_it_waits() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let leads = on(&db, "a").await;
        on(&db, "b").await;
        let two = db.submit(NewJob { hosts: 2.into(), ..job("two") }).await.unwrap().job;
        let retry_delay = Duration::from_secs(10);
        let lease = Lease { retry_delay, ..lease() };
        let mut waits = Vec::new();
        for reason in [TOO_FEW_HOSTS, TOO_FEW_HOSTS, TOO_FEW_HOSTS, "another", TOO_FEW_HOSTS] {
            let claimed = db.claim_job(&leads, two.id, &lease).await.unwrap();
            let reason = Some(format!("{reason}1 of 2"));
            let ended = Ended { by_itself: true, ..Ended::new(Outcome::Stopped, reason) };
            let after = db.finish(claimed.fence, &ended, &lease).await.unwrap();
            waits.push(after.wait.as_secs_f64());
        }
        // Give or take a half.
        for (wait, meant) in waits.iter().zip([10.0, 20.0, 40.0, 10.0, 10.0]) {
            assert!((meant * 0.5..=meant * 1.5).contains(wait), "{waits:?}");
        }
        assert_eq!(db.job(two.id).await.unwrap().attempts_used, 0);
    });
}
