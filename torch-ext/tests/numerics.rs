//! How libtorch computes: settings of the process, so that only one test at a time may change them.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};
use torch_ext::{Numerics, randn_keyed, test_device};

static ALONE: Mutex<()> = Mutex::new(());

/// What is set is what libtorch says of itself; a training step on the CPU does not depend on it.
#[test]
fn numerics_are_set_and_change_nothing_on_the_cpu() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gradient = || {
        let draw =
            |key, shape: &[i64]| randn_keyed(&[key], shape, Device::Cpu).unwrap().squeeze_dim(0);
        let (x, weight) =
            (draw(1, &[2, 8, 16, 16]), draw(2, &[8, 8, 3, 3]).set_requires_grad(true));
        let y = x.conv2d(&weight, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
        let q = y.flatten(2, 3).transpose(1, 2).unsqueeze(1);
        let none = None::<Tensor>;
        let y = Tensor::scaled_dot_product_attention(&q, &q, &q, none, 0.0, false, None, false);
        y.square().mean(Kind::Float).backward();
        weight.grad()
    };
    let mut gradients = Vec::new();
    for tf32 in [false, true] {
        for deterministic in [true, false] {
            let numerics = Numerics { tf32, deterministic };
            numerics.set().unwrap();
            assert_eq!(Numerics::current().unwrap(), numerics);
            gradients.push(gradient());
        }
    }
    Numerics::default().set().unwrap();
    assert!(gradients.iter().all(|one| *one == gradients[0]));
}

/// f32 is f32 on a GPU unless TF32 is asked for, which rounds factors to 10 bits of mantissa.
#[test]
fn tf32_is_never_silent() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Device::Cuda(_) = test_device() else {
        println!("skipped: PALETTE_TEST_DEVICE is no GPU");
        return;
    };
    let off = |tf32: bool| {
        Numerics { tf32, deterministic: false }.set().unwrap();
        let draw = |key, shape: &[i64]| randn_keyed(&[key], shape, test_device()).unwrap();
        let (a, b) = (draw(1, &[512, 512]).squeeze_dim(0), draw(2, &[512, 512]).squeeze_dim(0));
        let (x, w) = (draw(3, &[64, 32, 32]), draw(4, &[64, 64, 3, 3]).squeeze_dim(0));
        let convolved =
            |x: &Tensor, w: &Tensor| x.conv2d(w, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
        let double = |t: &Tensor| t.to_kind(Kind::Double);
        let relative = |found: Tensor, exact: Tensor| {
            let most = |t: &Tensor| t.abs().max().double_value(&[]);
            most(&(double(&found) - &exact)) / most(&exact)
        };
        [
            relative(a.matmul(&b), double(&a).matmul(&double(&b))),
            relative(convolved(&x, &w), convolved(&double(&x), &double(&w))),
        ]
    };
    let (exact, rounded) = (off(false), off(true));
    Numerics::default().set().unwrap();
    println!("f32 is off by {exact:?}, tf32 by {rounded:?}");
    assert!(exact.iter().all(|off| *off < 1e-5), "{exact:?}");
    assert!(rounded.iter().all(|off| *off < 1e-2), "{rounded:?}");
}
