//! What one call for all tensors gains over a call for each: Adam and the moving average, on tensors
//! like those of the demo's network (144 of them, 2.9 million numbers), in turns.
//!
//!     cargo run --release --workspace --example optimizer
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::time::Instant;

use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use torch_ext::{Adam, AdamOptions};

/// One of the ways to do it.
type Way<'a> = Box<dyn FnMut() + 'a>;

const ROUNDS: usize = 5;
const STEPS: usize = 20;

fn main() {
    let variables = nn::VarStore::new(Device::Cpu);
    let root = variables.root();
    let mut named = Vec::new();
    for layer in 0..36 {
        let wide = if layer % 2 == 0 { 128 } else { 64 };
        let shapes: [&[i64]; 4] = [&[wide, 80, 3, 3], &[wide], &[wide, wide], &[wide]];
        for (part, shape) in shapes.into_iter().enumerate() {
            let name = format!("{layer}-{part}");
            named.push((name.clone(), root.randn(&name, shape, 0.0, 0.1)));
        }
    }
    let numbers: usize = named.iter().map(|(_, tensor)| tensor.numel()).sum();
    println!("{} tensors, {numbers} numbers", named.len());

    let gradients = || {
        let sum = named.iter().map(|(_, tensor)| tensor.square().sum(Kind::Float));
        sum.reduce(|a, b| a + b).unwrap().backward();
    };
    gradients();
    let tensors: Vec<Tensor> = named.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
    let averages: Vec<Tensor> = tensors.iter().map(|tensor| tensor.detach().copy()).collect();
    let copies = named.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    let mut fused = Adam::new(copies.collect(), AdamOptions::default()).unwrap();
    let mut plain = nn::Adam::default().build(&variables, 1e-9).unwrap();

    let mut ways: [(&str, Way); 4] = [
        ("Adam, one call (ours)", Box::new(|| fused.step(1e-9).unwrap())),
        ("Adam, tensor by tensor (tch)", Box::new(|| plain.step())),
        (
            "average, one call (ours)",
            Box::new(|| {
                torch_ext::lerp(&averages, &tensors, 1e-4).unwrap();
            }),
        ),
        (
            "average, tensor by tensor (tch)",
            Box::new(|| {
                tch::no_grad(|| {
                    for (average, tensor) in averages.iter().zip(&tensors) {
                        let _ = average.shallow_clone().lerp_(tensor, 1e-4);
                    }
                });
            }),
        ),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, way), times) in ways.iter_mut().zip(&mut times) {
            way();
            let started = Instant::now();
            for _ in 0..STEPS {
                way();
            }
            times.push(1000.0 * started.elapsed().as_secs_f64() / STEPS as f64);
        }
    }
    for ((name, _), times) in ways.into_iter().zip(times) {
        let [least, median, most] =
            [0.0, 0.5, 1.0].map(|share| statistics::quantile(&times, share).unwrap_or(f64::NAN));
        println!("{name:<34}{median:>7.2} ms  ({least:.2} to {most:.2})");
    }
}
