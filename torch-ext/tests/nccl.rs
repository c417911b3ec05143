//! Groups of threads over NCCL, each with a GPU of its own: the operations against what they are to give, alone and
//! on all GPUs there are, and what happens to the others when one stands still. Skipped unless
//! `PALETTE_TEST_DEVICE` names a GPU.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod ranks;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ranks::layers::check_overlap;
use ranks::{LIMIT, check_operations, ranks, values};
use tch::{Cuda, Device, Kind, Tensor};

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

#[test]
fn sums_broadcasts_exchanges_and_gathers_are_what_they_are_named() {
    let _alone = alone();
    for size in sizes() {
        check_operations(size, Device::Cuda);
    }
}

#[test]
fn sums_that_begin_in_the_backward_pass_are_those_after_it() {
    let _alone = alone();
    for size in sizes() {
        check_overlap(size, Device::Cuda);
    }
}

/// What is queued before an operation is done before it, and what is queued after the wait comes after it, though
/// the operation has a stream of its own.
#[test]
fn operations_keep_the_order_of_what_is_queued() {
    let _alone = alone();
    for size in sizes() {
        let found = ranks(size, Device::Cuda, |group| {
            let (side, device) = (2048, group.member().device);
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
    let answers = ranks(size, Device::Cuda, |group| {
        let tensor = Tensor::ones([1000], (Kind::Float, group.member().device));
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
