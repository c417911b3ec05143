//! The reverse processes on a target whose ideal network is known in closed form: a Gaussian.
//!
//! With that network every process is affine in the noise that it starts from and adds, so that the
//! mean and the covariance of what it draws are found exactly, by a start and noises of zeros and of
//! unit vectors: no sampling, no tolerance for luck.
#![allow(clippy::unwrap_used)]

use diffusion::reverse::{Levels, Method, Process, Spacing, Step};
use diffusion::{Error, Prediction, Result, Schedule, ScheduleConfig};
use std::ops::ControlFlow;
use tch::{Device, Kind, Tensor};

/// On the device under test.
fn doubles() -> (Kind, Device) {
    (Kind::Double, torch_ext::test_device())
}

fn tensor(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).to_device(torch_ext::test_device())
}

/// N(mean, axes · diag(deviations²) · axesᵀ) over the three colours of one pixel.
struct Target {
    mean: Tensor,
    axes: Tensor,
    deviations: [f64; 3],
}

impl Target {
    fn new() -> Target {
        let skewed = Tensor::from_slice(&[1.0, 0.4, -0.3, 0.2, 1.0, 0.5, -0.6, 0.1, 1.0_f64]);
        let (axes, _) = Tensor::linalg_qr(&skewed.view([3, 3]), "reduced");
        let axes = axes.to_device(torch_ext::test_device());
        let mean = tensor(&[0.3, -0.5, 0.1]);
        Target { mean, axes, deviations: [0.2, 0.5, 0.9] }
    }

    /// axes · diag(f(deviation²)) · axesᵀ: a function of the covariance.
    fn matrix(&self, f: impl Fn(f64) -> f64) -> Tensor {
        let diagonal = tensor(&self.deviations.map(|deviation| f(deviation * deviation)));
        self.axes.matmul(&diagonal.diag(0)).matmul(&self.axes.tr())
    }

    /// The expected y0 given y `[B,3,1,1]`.
    fn ideal_y0(&self, y: &Tensor, gamma: f64) -> Tensor {
        let gain = self.matrix(|v| gamma.sqrt() * v / (gamma * v + 1.0 - gamma));
        let off = y.flatten(1, 3) - &self.mean * gamma.sqrt();
        (off.matmul(&gain) + &self.mean).view(&y.size()[..])
    }

    /// What an ideal network answers, in the terms of `prediction`.
    fn ideal(&self, prediction: Prediction) -> impl Fn(&Tensor, f64) -> Result<Tensor> {
        move |y, gamma| {
            let y0 = self.ideal_y0(y, gamma);
            let epsilon = (y - &y0 * gamma.sqrt()) / (1.0 - gamma).sqrt();
            Ok(match prediction {
                Prediction::Epsilon => epsilon,
                Prediction::V => epsilon * gamma.sqrt() - y0 * (1.0 - gamma).sqrt(),
                Prediction::Y0 => y0,
            })
        }
    }
}

/// A process with the noise that it is asked for, η where it takes one.
#[derive(Debug, Clone, Copy)]
struct Walk(Method, f64);

/// Every process, and how its error falls with the number of steps: the power.
fn walks() -> Vec<(Walk, f64)> {
    let order = |method| match method {
        Method::Ancestral | Method::Posterior | Method::Ddim => 1.0,
        Method::Dpmpp2m | Method::Dpmpp2mSde | Method::Heun => 2.0,
    };
    let every =
        |eta: f64| Method::ALL.into_iter().map(move |method| (Walk(method, eta), order(method)));
    every(0.0).chain(every(1.0).filter(|(Walk(method, _), _)| method.takes_eta())).collect()
}

/// Mean `[3]` and covariance `[3,3]` of what a process draws.
fn drawn(target: &Target, prediction: Prediction, levels: &Levels, walk: Walk) -> (Tensor, Tensor) {
    // Row 0 is all zeros; then for the start and each step's noise a row for each colour.
    let rows = 1 + 3 * levels.steps() as i64;
    let unit = |of: usize| {
        let rows = Tensor::zeros([rows, 3], doubles());
        rows.narrow(0, 1 + 3 * of as i64, 3).copy_(&Tensor::eye(3, doubles()));
        rows.view([-1, 3, 1, 1])
    };
    let mut process = Process {
        prediction,
        clip: false,
        eta: walk.1,
        known: None,
        denoise: &target.ideal(prediction),
        noise: &mut |left| Ok(unit(left)),
        on_step: &mut |_: &Step| ControlFlow::Continue(()),
    };
    // The start takes the place of the noise of step 0, for which none is asked.
    let all = walk.0.run(&unit(0), levels, &mut process).unwrap().flatten(1, 3);
    let mean = all.get(0);
    let gains = all.narrow(0, 1, rows - 1) - &mean;
    (mean, gains.tr().matmul(&gains))
}

/// The larger of the errors of mean and covariance.
fn error(target: &Target, prediction: Prediction, levels: &Levels, walk: Walk) -> f64 {
    let (mean, covariance) = drawn(target, prediction, levels, walk);
    let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    off(&mean, &target.mean).max(off(&covariance, &target.matrix(|v| v)))
}

/// From noise in which nothing is left of the image to an image in which nothing is left of the noise.
fn whole() -> Schedule {
    Schedule::new(&ScheduleConfig { steps: 1000, start: 1e-8, end: 0.09 }).unwrap()
}

#[test]
fn every_process_draws_from_the_target_whatever_the_network_predicts() {
    let target = Target::new();
    let levels = Levels::spaced(&whole(), 400, Spacing::LogSnr);
    for (walk, order) in walks() {
        let errors = [Prediction::Epsilon, Prediction::V, Prediction::Y0]
            .map(|prediction| error(&target, prediction, &levels, walk));
        println!("{walk:?}: {errors:?}");
        assert!(
            errors[0] < if order > 1.0 { 2e-3 } else { 0.05 },
            "{walk:?}: off by {}",
            errors[0]
        );
        for other in errors {
            assert!((other - errors[0]).abs() < 1e-6, "{walk:?}: {errors:?}");
        }
    }
}

/// Errors with ever twice as many steps, and the powers by which they fall.
fn convergence(walk: Walk, spacing: Spacing) -> (Vec<f64>, Vec<f64>) {
    let target = Target::new();
    let errors: Vec<f64> = [50, 100, 200, 400]
        .map(|steps| Levels::spaced(&whole(), steps, spacing))
        .map(|levels| error(&target, Prediction::Y0, &levels, walk))
        .to_vec();
    let powers = errors.windows(2).map(|pair| (pair[0] / pair[1]).log2()).collect();
    (errors, powers)
}

#[test]
fn every_process_converges_at_its_order() {
    for (walk, order) in walks() {
        let (errors, powers) = convergence(walk, Spacing::LogSnr);
        println!("{walk:?}: {errors:?}, order {powers:.2?}");
        assert!(powers[2] > order - 0.25, "{walk:?}: {errors:?}, order {powers:?}");
    }
}

/// Evenly in time the last steps are long in λ however many there are, and cost an order.
#[test]
fn every_process_converges_evenly_in_time_too() {
    for (walk, _) in walks() {
        let (errors, powers) = convergence(walk, Spacing::Linear);
        println!("{walk:?}: {errors:?}, order {powers:.2?}");
        assert!(powers[2] > 0.8, "{walk:?}: {errors:?}, order {powers:?}");
    }
}

/// The paper's own process, on the paper's own schedule.
#[test]
fn algorithm_2_draws_from_the_target_on_the_papers_schedule() {
    let schedule = Schedule::new(&ScheduleConfig::SAMPLING).unwrap();
    let target = Target::new();
    for walk in [Walk(Method::Ancestral, 0.0), Walk(Method::Posterior, 0.0)] {
        let off = error(&target, Prediction::Epsilon, &Levels::every(&schedule), walk);
        assert!(off < 0.02, "off by {off}");
    }
}

#[test]
fn a_process_can_be_stopped() {
    let schedule = Schedule::new(&ScheduleConfig { steps: 10, start: 1e-4, end: 0.2 }).unwrap();
    let levels = Levels::every(&schedule);
    let target = Target::new();
    for (walk, _) in walks() {
        let mut seen = Vec::new();
        let start = Tensor::zeros([1, 3, 1, 1], doubles());
        let mut process = Process {
            prediction: Prediction::Epsilon,
            clip: true,
            eta: walk.1,
            known: None,
            denoise: &target.ideal(Prediction::Epsilon),
            noise: &mut |_| Ok(start.zeros_like()),
            on_step: &mut |step: &Step| {
                seen.push(step.left);
                if step.left == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        };
        assert!(matches!(walk.0.run(&start, &levels, &mut process), Err(Error::Stopped)));
        assert_eq!(seen, [9, 8, 7]);
    }
}
