//! Groups of threads over NCCL, each with a GPU of its own: the operations against what they are to give, alone and
//! on all GPUs there are, and what happens to the others when one stands still. Skipped unless
//! `PALETTE_TEST_DEVICE` names a GPU.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::net::TcpListener;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tch::{Cuda, Device, Kind, Tensor};
use torch_ext::group::{Group, Meeting, Member};

const LIMIT: Duration = Duration::from_secs(60);

/// Two groups that use the same GPUs at once may wait for each other without end.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers of GPUs to try; none without one.
fn sizes() -> Vec<usize> {
    if torch_ext::test_device() == Device::Cpu {
        println!("skipped: PALETTE_TEST_DEVICE is no GPU");
        return Vec::new();
    }
    let all = usize::try_from(Cuda::device_count()).unwrap();
    let mut sizes = vec![1, 2, all];
    sizes.retain(|&size| size <= all);
    sizes.dedup();
    sizes
}

/// Runs `body` as every rank of a group, each in a thread with the GPU of its number.
fn ranks<T: Send>(size: usize, body: impl Fn(Group, Device) -> T + Sync) -> Vec<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut listener = Some(listener);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|rank| {
                let device = Device::Cuda(rank);
                let meeting = Meeting {
                    host: "127.0.0.1".to_owned(),
                    port,
                    listener: listener.take(),
                    hosted: false,
                    name: "test".to_owned(),
                    patience: LIMIT,
                };
                let (interface, address) = (None, None);
                let member = Member { rank, size, device, interface, address, limit: LIMIT };
                let body = &body;
                scope.spawn(move || body(Group::join(meeting, member).unwrap(), device))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(&tensor.to_device(Device::Cpu)).unwrap()
}

#[test]
fn sums_broadcasts_exchanges_and_gathers_are_what_they_are_named() {
    let _alone = alone();
    for size in sizes() {
        let whole = size as i64;
        let all = ranks(size, |group, device| {
            let numbers = |first: i64, count: i64| {
                Tensor::arange_start(first, first + count, (Kind::Float, device))
            };
            let rank = group.member().rank as i64;
            let sum = numbers(10 * rank, 5);
            group.sum(&sum, LIMIT).unwrap().wait().unwrap();
            let told = numbers(100 * rank, 3);
            group.broadcast(&told, size - 1, LIMIT).unwrap().wait().unwrap();
            let from = numbers(1000 * rank, 2 * whole);
            let to = Tensor::zeros_like(&from);
            group.exchange(&to, &from, LIMIT).unwrap().wait().unwrap();
            let every = Tensor::zeros([2 * whole], (Kind::Float, device));
            group.gather(&every, &numbers(7 * rank, 2), LIMIT).unwrap().wait().unwrap();
            [sum, told, to, every].map(|tensor| values(&tensor))
        });
        let numbers = |first: i64, count: i64| (first..first + count).map(|one| one as f32);
        for (rank, [sum, told, exchanged, every]) in all.into_iter().enumerate() {
            let base = (0..whole).map(|other| 10 * other).sum::<i64>();
            let expected: Vec<f32> = (0..5).map(|i| (base + whole * i) as f32).collect();
            assert_eq!(sum, expected, "rank {rank} of {size}");
            assert_eq!(told, numbers(100 * (whole - 1), 3).collect::<Vec<_>>());
            let own = 2 * rank as i64;
            let parts = (0..whole).flat_map(|other| numbers(1000 * other + own, 2));
            assert_eq!(exchanged, parts.collect::<Vec<_>>(), "rank {rank} of {size}");
            let parts = (0..whole).flat_map(|other| numbers(7 * other, 2));
            assert_eq!(every, parts.collect::<Vec<_>>(), "rank {rank} of {size}");
        }
    }
}

/// What is queued before an operation is done before it, and what is queued after the wait comes after it, though
/// the operation has a stream of its own.
#[test]
fn operations_keep_the_order_of_what_is_queued() {
    let _alone = alone();
    for size in sizes() {
        let found = ranks(size, |group, device| {
            let side = 2048;
            let ones = Tensor::ones([side, side], (Kind::Float, device));
            let mut tensor = Tensor::zeros([side, side], (Kind::Float, device));
            for round in 1..=20 {
                // A product takes longer than a sum is queued.
                tensor.copy_(&(ones.matmul(&ones) * f64::from(round) / side as f64));
                group.sum(&tensor, LIMIT).unwrap().wait().unwrap();
                let _ = tensor.g_mul_scalar_(2.0);
            }
            (tensor.min().double_value(&[]), tensor.max().double_value(&[]))
        });
        let expected = (40 * size) as f64;
        assert!(found.iter().all(|&one| one == (expected, expected)), "{size}: {found:?}");
    }
}

#[test]
fn a_rank_that_stands_still_is_an_error_after_the_limit() {
    let _alone = alone();
    let Some(size) = sizes().into_iter().find(|&size| size > 1) else { return };
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    let asleep = Mutex::new(asleep);
    let answers = ranks(size, |group, device| {
        let tensor = Tensor::ones([1000], (Kind::Float, device));
        group.sum(&tensor, LIMIT).unwrap().wait().unwrap();
        if group.member().rank == 1 {
            // Until the first has given up.
            let _ = asleep.lock().unwrap().recv();
            return None;
        }
        let short = Duration::from_millis(300);
        // The wait queues; the next operations meet what the watcher found.
        let mut answer = Ok(());
        for _ in 0..1000 {
            answer = group.sum(&tensor, short).and_then(torch_ext::group::Pending::wait);
            if answer.is_err() {
                break;
            }
            let _ = values(&tensor);
        }
        if group.member().rank == 0 {
            wake.send(()).unwrap();
        }
        Some(answer)
    });
    let error = answers[0].as_ref().unwrap().as_ref().unwrap_err().to_string();
    assert!(error.contains("stood still"), "{error}");
}
