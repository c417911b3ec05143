//! Seats in gangs, and answers that are lost.

use super::{anything, job, lease, with_cluster, worker};
use crate::queue::attempts::Ended;
use crate::{NewJob, Outcome, TOO_FEW_HOSTS, WorkerInfo};

fn on(host: &str, worker: &WorkerInfo) -> WorkerInfo {
    WorkerInfo { host: host.to_owned(), ..worker.clone() }
}

#[test]
fn a_gang_is_complete_once_and_with_as_many_hosts_as_were_meant() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let (leads, one, two) = (worker(&db).await, worker(&db).await, worker(&db).await);
        let (leads, one, two) = (on("a", &leads), on("b", &one), on("c", &two));
        let three = on("d", &worker(&db).await);
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
    });
}

#[test]
fn who_drains_does_not_count_a_gang_that_assembles_in_vain() {
    with_cluster(async |cluster| {
        let db = cluster.open().await;
        let (leads, one) = (worker(&db).await, worker(&db).await);
        let (leads, one) = (on("a", &leads), on("b", &one));
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
        let (leads, sits) = (worker(&db).await, worker(&db).await);
        let (leads, sits) = (on("a", &leads), on("b", &sits));
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
