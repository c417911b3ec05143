//! Groups of threads, as the tests of Gloo and of NCCL have them, and what their operations are to give.
pub mod layers;

use std::net::TcpListener;
use std::time::Duration;

use tch::{Device, Kind, Tensor};
use torch_ext::group::{Group, Meeting, Member};

pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs `body` as every rank of a group, each in a thread and on the device of its number; the results in the order of
/// the ranks.
pub fn ranks<T: Send>(
    size: usize,
    device: fn(usize) -> Device,
    body: impl Fn(Group) -> T + Sync,
) -> Vec<T> {
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
                    device: device(rank),
                    interface: None,
                    address: Some("127.0.0.1".to_owned()),
                    limit: LIMIT,
                };
                let body = &body;
                scope.spawn(move || body(Group::join(meeting, member).unwrap()))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// `first`, `first + 1`, … , f32.
pub fn numbers(first: i64, count: i64, device: Device) -> Tensor {
    Tensor::arange_start(first, first + count, (Kind::Float, device))
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(&tensor.to_device(Device::Cpu)).unwrap()
}

/// Sums, broadcasts, exchanges and gathers are what they are named.
pub fn check_operations(size: usize, device: fn(usize) -> Device) {
    let whole = size as i64;
    let all = ranks(size, device, |group| {
        let (rank, device) = (group.member().rank as i64, group.member().device);
        let sum = numbers(10 * rank, 5, device);
        group.sum(&sum, LIMIT).unwrap().wait().unwrap();
        let told = numbers(100 * rank, 3, device);
        group.broadcast(&told, size - 1, LIMIT).unwrap().wait().unwrap();
        let from = numbers(1000 * rank, 2 * whole, device);
        let to = Tensor::zeros_like(&from);
        group.exchange(&to, &from, LIMIT).unwrap().wait().unwrap();
        let every = Tensor::zeros([2 * whole], (Kind::Int64, device));
        let own = Tensor::from_slice(&[rank, -rank]).to_device(device);
        group.gather(&every, &own, LIMIT).unwrap().wait().unwrap();
        let every: Vec<i64> = Vec::try_from(&every.to_device(Device::Cpu)).unwrap();
        (values(&sum), values(&told), values(&to), every)
    });
    let numbers = |first, count| values(&numbers(first, count, Device::Cpu));
    for (rank, (sum, told, exchanged, every)) in all.into_iter().enumerate() {
        let base = (0..whole).map(|other| 10 * other).sum::<i64>();
        let expected: Vec<f32> = (0..5).map(|i| (base + whole * i) as f32).collect();
        assert_eq!(sum, expected, "rank {rank} of {size}");
        assert_eq!(told, numbers(100 * (whole - 1), 3));
        let own = 2 * rank as i64;
        let parts = (0..whole).flat_map(|other| numbers(1000 * other + own, 2));
        assert_eq!(exchanged, parts.collect::<Vec<_>>(), "rank {rank} of {size}");
        let parts = (0..whole).flat_map(|other| [other, -other]);
        assert_eq!(every, parts.collect::<Vec<_>>(), "rank {rank} of {size}");
    }
}
