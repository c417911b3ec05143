//! Groups of threads over Gloo: the operations against what they are to give, and what happens to the
//! others when one is lost.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ranks;

use std::time::Duration;

use ranks::layers::{Layers, check_overlap};
use ranks::{LIMIT, check_operations, numbers};
use tch::{Device, Kind, Tensor};
use torch_ext::buckets::Buckets;
use torch_ext::group::{Group, Meeting, Member};

const CPU: Device = Device::Cpu;

fn ranks<T: Send>(size: usize, body: impl Fn(Group) -> T + Sync) -> Vec<T> {
    ranks::ranks(size, |_| CPU, body)
}

#[test]
fn sums_broadcasts_exchanges_and_gathers_are_what_they_are_named() {
    for size in [1, 2, 3, 4] {
        check_operations(size, |_| CPU);
    }
}

#[test]
fn several_operations_may_be_under_way() {
    let sums = ranks(2, |group| {
        let tensors: Vec<Tensor> = (0..20).map(|i| numbers(i, 1000, CPU)).collect();
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
    let answers = ranks(3, |group| {
        let tensor = numbers(0, 1 << 16, CPU);
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
    let answers = ranks(2, |group| {
        if group.member().rank == 1 {
            // Until the other has given up.
            let _ = asleep.lock().unwrap().recv();
            return None;
        }
        let answer =
            group.sum(&numbers(0, 10, CPU), short).and_then(torch_ext::group::Pending::wait);
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
    ranks(2, |group| {
        let (three, two) = (numbers(0, 3, CPU), numbers(0, 2, CPU));
        assert!(group.exchange(&three, &three, LIMIT).is_err());
        assert!(group.gather(&three, &two, LIMIT).is_err());
        let turned = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).transpose(0, 1);
        assert!(group.sum(&turned, LIMIT).is_err());
    });
}

#[test]
fn sums_that_begin_in_the_backward_pass_are_those_after_it() {
    for size in [1, 2, 4] {
        check_overlap(size, |_| CPU);
    }
}

#[test]
fn a_gradient_that_comes_after_its_sum_began_is_refused() {
    let errors = ranks(2, |group| {
        let layers = Layers::new(CPU);
        let buckets = layers.buckets(&group);
        buckets.open(&layers.spans).unwrap();
        layers.pass(0);
        let x = layers.weights[0].square().sum(Kind::Float);
        let error = x.f_backward().unwrap_err().to_string();
        buckets.finish(&layers.spans).unwrap();
        error
    });
    assert!(errors.iter().all(|error| error.contains("added to after")), "{errors:?}");
}

#[test]
fn a_rank_that_is_lost_in_the_backward_pass_is_an_error_at_its_end() {
    let answers = ranks(2, |group| {
        let layers = Layers::new(CPU);
        let buckets = layers.buckets(&group);
        if group.member().rank == 1 {
            return None;
        }
        buckets.open(&layers.spans).unwrap();
        layers.pass(0);
        Some(buckets.finish(&layers.spans))
    });
    let error = answers[0].as_ref().unwrap().as_ref().unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn buckets_that_cannot_be_are_refused() {
    ranks(1, |group| {
        let layers = Layers::new(CPU);
        assert!(Buckets::new(&group, &layers.weights, &[0, 1], 3).is_err());
        assert!(Buckets::new(&group, &layers.weights, &[0, 1, 3], 3).is_err());
        let buckets = layers.buckets(&group);
        assert!(buckets.open(&layers.spans[..2]).is_err());
        let turned = [(); 3].map(|()| layers.weights[0].transpose(0, 1));
        assert!(buckets.finish(&turned).is_err());
        // Of parameters that outlive them nothing happens.
        drop(buckets);
        layers.pass(0);
    });
}
