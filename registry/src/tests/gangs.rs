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
        let three = NewJob { hosts: 3.into(), ..job("three") };
        db.submit(three).await.unwrap();
        let claimed = db.claim(&leads, &anything(), &lease()).await.unwrap().unwrap();
        let fence = claimed.fence;

        assert!(db.claim_seat(&leads, &anything()).await.unwrap().is_none(), "of its own host");
        let first = db.claim_seat(&one, &anything()).await.unwrap().unwrap();
        // The answer was lost: it is the same seat.
        let again = db.claim_seat(&one, &anything()).await.unwrap().unwrap();
        assert_eq!(again.number, first.number);
        db.sit(&first, 2, "").await.unwrap();
        assert!(db.claim_seat(&one, &anything()).await.unwrap().is_none(), "one a host");
        let second = db.claim_seat(&two, &anything()).await.unwrap().unwrap();
        db.sit(&second, 2, "").await.unwrap();

        // One that has left meanwhile is not counted.
        db.leave_seat(&second, None, &Default::default()).await.unwrap();
        assert_eq!(db.complete_gang(fence, 2, 2).await.unwrap(), None);
        assert!(db.gang(fence, 0).await.unwrap().assembling);

        assert_eq!(db.complete_gang(fence, 1, 2).await.unwrap(), Some(4));
        // The answer was lost: it is as it is.
        assert_eq!(db.complete_gang(fence, 1, 2).await.unwrap(), None);
        let gang = db.gang(fence, 0).await.unwrap();
        assert!(gang.goes_on && !gang.assembling && !gang.too_few);
        assert_eq!(gang.world, Some(4));
        assert_eq!(db.gang(fence, first.number).await.unwrap().ranks, Some((2, 2)));
        assert_eq!(db.gang(fence, second.number).await.unwrap().ranks, None);
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
        db.sit(&seat, 1, "").await.unwrap();
        db.complete_gang(claimed.fence, 1, 1).await.unwrap().unwrap();
        assert!(matches!(could().await, (Ok(true), Ok(true))), "it may come back");
        let reason = format!("{TOO_FEW_HOSTS}1 of 2");
        let ended = Ended::new(Outcome::Stopped, Some(reason));
        db.finish(claimed.fence, &ended, &lease()).await.unwrap();
        let gang = db.gang(claimed.fence, seat.number).await.unwrap();
        assert!(gang.too_few && !gang.goes_on);
    });
}
