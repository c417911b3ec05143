//! The reverse processes on a target whose ideal network is known in closed form, and against the
//! trajectory of the reference implementation.
#![allow(clippy::unwrap_used)]

use diffusion::noise::{self, Purpose};
use diffusion::reverse::{Process, Step, ancestral, ddim, posterior};
use diffusion::{Error, Prediction, Result, Schedule, ScheduleConfig};
use std::ops::ControlFlow;
use tch::{Device, Tensor};

const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.2;

/// The expected y0 given y, for pixels that are N(MEAN, DEVIATION²).
fn ideal_y0(y: &Tensor, gamma: f64) -> Tensor {
    let variance = DEVIATION * DEVIATION;
    let gain = gamma.sqrt() * variance / (gamma * variance + 1.0 - gamma);
    (y - gamma.sqrt() * MEAN) * gain + MEAN
}

/// What an ideal network answers, in the terms of `prediction`.
fn ideal(prediction: Prediction) -> impl Fn(&Tensor, f64) -> Result<Tensor> {
    move |y, gamma| {
        let y0 = ideal_y0(y, gamma);
        let epsilon = (y - &y0 * gamma.sqrt()) / (1.0 - gamma).sqrt();
        Ok(match prediction {
            Prediction::Epsilon => epsilon,
            Prediction::V => epsilon * gamma.sqrt() - y0 * (1.0 - gamma).sqrt(),
            Prediction::Y0 => y0,
        })
    }
}

type Walk<'a> = dyn Fn(&Tensor, &mut Process) -> Result<Tensor> + 'a;

/// Mean and deviation of what a process makes of noise.
fn statistics(prediction: Prediction, walk: &Walk) -> (f64, f64) {
    let keys: Vec<u64> = (0..8).collect();
    let draw = |purpose| noise::normal(&keys, purpose, &[3, 32, 32], Device::Cpu);
    let mut steps = |step: usize| draw(Purpose::Step(step as u32));
    let mut process = Process {
        prediction,
        clip: false,
        known: None,
        denoise: &ideal(prediction),
        noise: &mut steps,
        on_step: &mut |_: &Step| ControlFlow::Continue(()),
    };
    let y = walk(&draw(Purpose::Start).unwrap(), &mut process).unwrap();
    (y.mean(tch::Kind::Double).double_value(&[]), y.std(true).double_value(&[]))
}

#[test]
fn every_process_draws_from_the_target() {
    let sampling = Schedule::new(&ScheduleConfig::SAMPLING).unwrap();
    let training = Schedule::new(&ScheduleConfig::TRAINING).unwrap();
    let walks: [(&str, Box<Walk>); 4] = [
        ("ancestral", Box::new(|y, p| ancestral(y, &sampling, p))),
        ("posterior", Box::new(|y, p| posterior(y, &sampling, p))),
        ("ddim", Box::new(|y, p| ddim(y, &training, 200, 0.0, p))),
        ("ddim with noise", Box::new(|y, p| ddim(y, &training, 500, 1.0, p))),
    ];
    for (name, walk) in &walks {
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::Y0] {
            let (mean, deviation) = statistics(prediction, walk);
            println!("{name}, {prediction:?}: {mean:.4} ± {deviation:.4}");
            assert!((mean - MEAN).abs() < 0.01, "{name}, {prediction:?}: mean {mean}");
            assert!((deviation - DEVIATION).abs() < 0.012, "{name}, {prediction:?}: {deviation}");
        }
    }
}

#[test]
fn a_process_can_be_stopped() {
    let schedule = Schedule::new(&ScheduleConfig { steps: 10, start: 1e-4, end: 0.2 }).unwrap();
    let mut seen = Vec::new();
    let start = Tensor::zeros([1, 3, 4, 4], tch::kind::FLOAT_CPU);
    let mut process = Process {
        prediction: Prediction::Epsilon,
        clip: true,
        known: None,
        denoise: &ideal(Prediction::Epsilon),
        noise: &mut |_| Ok(start.zeros_like()),
        on_step: &mut |step: &Step| {
            seen.push(step.left);
            if step.left == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    };
    assert!(matches!(posterior(&start, &schedule, &mut process), Err(Error::Stopped)));
    assert_eq!(seen, [9, 8, 7]);
}
