//! Groups of threads over Gloo: the operations against what they are to give, and what happens to the
//! others when one is lost.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::time::Duration;

use tch::{Device, Kind, Tensor};
use torch_ext::group::{Group, Meeting, Member};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs `body` as every rank of a group, each in a thread; the results in the order of the ranks.
fn ranks<T: Send>(size: usize, limit: Duration, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut listener = Some(listener);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|rank| {
                let meeting = Meeting {
                    host: "127.0.0.1".to_owned(),
                    port,
                    listener: listener.take(),
                    hosted: false,
                    name: "test".to_owned(),
                    patience: LIMIT,
                };
                let member = Member {
                    rank,
                    size,
                    device: Device::Cpu,
                    interface: None,
                    address: Some("127.0.0.1".to_owned()),
                    limit,
                };
                let body = &body;
                scope.spawn(move || body(Group::join(meeting, member).unwrap()))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// `first`, `first + 1`, … , f32.
fn numbers(first: i64, count: i64) -> Tensor {
    Tensor::arange_start(first, first + count, (Kind::Float, Device::Cpu))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor).unwrap()
}

#[test]
fn sums_broadcasts_exchanges_and_gathers_are_what_they_are_named() {
    for size in [1_usize, 2, 3, 4] {
        let whole = size as i64;
        let all = ranks(size, LIMIT, |group| {
            let rank = group.member().rank as i64;
            let sum = numbers(10 * rank, 5);
            group.sum(&sum, LIMIT).unwrap().wait().unwrap();
            let told = numbers(100 * rank, 3);
            group.broadcast(&told, size - 1, LIMIT).unwrap().wait().unwrap();
            let from = numbers(1000 * rank, 2 * whole);
            let to = Tensor::zeros_like(&from);
            group.exchange(&to, &from, LIMIT).unwrap().wait().unwrap();
            let every = Tensor::zeros([2 * whole], (Kind::Int64, Device::Cpu));
            let own = Tensor::from_slice(&[rank, -rank]);
            group.gather(&every, &own, LIMIT).unwrap().wait().unwrap();
            let every: Vec<i64> = Vec::try_from(&every).unwrap();
            (values(&sum), values(&told), values(&to), every)
        });
        for (rank, (sum, told, exchanged, every)) in all.into_iter().enumerate() {
            let base = (0..whole).map(|other| 10 * other).sum::<i64>();
            let expected: Vec<f32> = (0..5).map(|i| (base + whole * i) as f32).collect();
            assert_eq!(sum, expected, "rank {rank} of {size}");
            assert_eq!(told, values(&numbers(100 * (whole - 1), 3)));
            let expected: Vec<f32> = (0..whole)
                .flat_map(|other| values(&numbers(1000 * other + 2 * rank as i64, 2)))
                .collect();
            assert_eq!(exchanged, expected, "rank {rank} of {size}");
            let expected: Vec<i64> = (0..whole).flat_map(|other| [other, -other]).collect();
            assert_eq!(every, expected);
        }
    }
}

#[test]
fn several_operations_may_be_under_way() {
    let sums = ranks(2, LIMIT, |group| {
        let tensors: Vec<Tensor> = (0..20).map(|i| numbers(i, 1000)).collect();
        let pending: Vec<_> =
            tensors.iter().map(|tensor| group.sum(tensor, LIMIT).unwrap()).collect();
        pending.into_iter().for_each(|one| one.wait().unwrap());
        tensors.iter().map(|tensor| tensor.sum(Kind::Double).double_value(&[])).collect::<Vec<_>>()
    });
    let expected: Vec<f64> = (0..20_i64).map(|i| (2 * (1000 * i + 499_500)) as f64).collect();
    assert_eq!(sums, [expected.clone(), expected]);
}

#[test]
fn a_lost_rank_is_an_error_for_the_others() {
    let answers = ranks(3, LIMIT, |group| {
        let tensor = numbers(0, 1 << 16);
        group.sum(&tensor, LIMIT).unwrap().wait().unwrap();
        if group.member().rank == 2 {
            return None;
        }
        Some(group.sum(&tensor, LIMIT).and_then(torch_ext::group::Pending::wait))
    });
    for answer in &answers[..2] {
        let error = answer.as_ref().unwrap().as_ref().unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_rank_that_stands_still_is_an_error_after_the_limit() {
    let short = Duration::from_millis(300);
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    let asleep = std::sync::Mutex::new(asleep);
    let answers = ranks(2, LIMIT, |group| {
        if group.member().rank == 1 {
            // Until the other has given up.
            let _ = asleep.lock().unwrap().recv();
            return None;
        }
        let answer = group.sum(&numbers(0, 10), short).and_then(torch_ext::group::Pending::wait);
        wake.send(()).unwrap();
        Some(answer)
    });
    let error = answers[0].as_ref().unwrap().as_ref().unwrap_err().to_string();
    assert!(error.to_lowercase().contains("time"), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let member = |rank, size| Member {
        rank,
        size,
        device: Device::Cpu,
        interface: None,
        address: Some("127.0.0.1".to_owned()),
        limit: LIMIT,
    };
    let meeting = || Meeting {
        host: "127.0.0.1".to_owned(),
        // Nobody listens there.
        port: 1,
        listener: None,
        hosted: true,
        name: "test".to_owned(),
        patience: Duration::from_millis(200),
    };
    let refused = |member| Group::join(meeting(), member).unwrap_err().to_string();
    assert!(refused(member(2, 2)).contains("rank 2 of 2"));
    assert!(!refused(member(0, 2)).contains('\n'));
    ranks(2, LIMIT, |group| {
        let (three, two) = (numbers(0, 3), numbers(0, 2));
        assert!(group.exchange(&three, &three, LIMIT).is_err());
        assert!(group.gather(&three, &two, LIMIT).is_err());
        let turned = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).transpose(0, 1);
        assert!(group.sum(&turned, LIMIT).is_err());
    });
}
