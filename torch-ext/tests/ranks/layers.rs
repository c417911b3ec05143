//! A small network whose gradients are summed over ranks while its backward pass runs.
use tch::{Device, Kind, Tensor};
use torch_ext::buckets::Buckets;
use torch_ext::group::Group;

use super::{LIMIT, numbers, ranks, values};

const SIDE: i64 = 64;
const NUMBERS: i64 = SIDE * SIDE;

/// Three layers; the gradients lie in three buckets of one buffer, in the order in which a backward pass comes by
/// them, and a number lies behind.
pub struct Layers {
    pub weights: Vec<Tensor>,
    pub flat: Tensor,
    pub spans: Vec<Tensor>,
}

impl Layers {
    pub fn new(device: Device) -> Self {
        let weight = |seed: f64| {
            let numbers = numbers(0, NUMBERS, device).reshape([SIDE, SIDE]);
            ((numbers * seed).sin() * 0.2).set_requires_grad(true)
        };
        let weights: Vec<Tensor> = [0.3, 0.7, 1.1].map(weight).into();
        let flat = Tensor::zeros([3 * NUMBERS + 1], (Kind::Float, device));
        let gradients: Vec<Tensor> =
            (0..3).map(|i| flat.narrow(0, NUMBERS * i, NUMBERS).reshape([SIDE, SIDE])).collect();
        torch_ext::set_gradients(&weights, &gradients).unwrap();
        let span = |at: i64| flat.narrow(0, NUMBERS * at, NUMBERS + at / 2);
        let spans = [0, 1, 2].map(span).into();
        Self { weights, flat, spans }
    }

    pub fn buckets<'g>(&self, group: &'g Group) -> Buckets<'g> {
        Buckets::new(group, &self.weights, &[0, 1, 2], 3).unwrap()
    }

    /// A backward pass for images that differ by rank; the last weight is used first.
    pub fn pass(&self, rank: usize) {
        let mut x = (numbers(rank as i64, NUMBERS, self.flat.device()) * 0.1).sin();
        x = x.reshape([SIDE, SIDE]);
        for weight in self.weights.iter().rev() {
            x = x.matmul(weight).tanh();
        }
        x.square().sum(Kind::Float).backward();
    }

    /// What the caller puts behind the gradients.
    fn put(&self, value: f64) {
        let _ = self.flat.narrow(0, 3 * NUMBERS, 1).fill_(value);
    }
}

/// Sums that begin in the backward pass are those after it.
pub fn check_overlap(size: usize, device: fn(usize) -> Device) {
    let all = ranks(size, device, |group| {
        let (rank, device) = (group.member().rank, group.member().device);
        let sum = |overlap: bool| {
            let layers = Layers::new(device);
            let buckets = layers.buckets(&group);
            // Twice, with two passes each: only before the last one are they opened.
            for _ in 0..2 {
                let _ = layers.flat.shallow_clone().zero_();
                layers.pass(rank);
                if overlap {
                    buckets.open(&layers.spans).unwrap();
                }
                layers.pass(rank + 7);
                layers.put(rank as f64 + 1.0);
                buckets.finish(&layers.spans).unwrap();
            }
            values(&layers.flat)
        };
        let (before, after) = (sum(true), sum(false));
        // One bucket at a time, by another function.
        let layers = Layers::new(device);
        layers.pass(rank);
        layers.pass(rank + 7);
        layers.put(rank as f64 + 1.0);
        for span in &layers.spans {
            group.sum(span, LIMIT).unwrap().wait().unwrap();
        }
        (before, after, values(&layers.flat))
    });
    let ranks = (1..=size).sum::<usize>() as f32;
    for (before, after, plain) in &all {
        assert!(before == after, "of {size} ranks");
        assert!(before == plain, "of {size} ranks");
        assert_eq!(before.last(), Some(&ranks));
        assert!(before == &all[0].0, "all ranks have the same");
        let gradients = before.split_last().unwrap().1;
        assert!(gradients.iter().filter(|value| **value != 0.0).count() > gradients.len() / 2);
    }
}
