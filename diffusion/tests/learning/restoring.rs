//! Images that a network restores: of a key, of windows, and none of numbers that are not finite.

use diffusion::{
    Denoiser, DeviceBatch, DiffusionConfig, Error, Formulation, Method, Prediction, SamplingConfig,
    Windows, noise, restore,
};
use std::ops::ControlFlow;
use tch::{Device, Tensor};

use crate::small::{batch, batch_on, first, keys, network, network_on, shake, tiny};

/// On the CPU to the bit; a GPU's libraries choose kernels by the shape.
#[test]
fn an_output_is_a_function_of_its_key() {
    let (mut store, unet) = network_on(Device::Cpu, &tiny(), 3);
    shake(&store);
    store.freeze();
    let batch = batch_on(Device::Cpu, &[true, false, true]);
    let keys: Vec<u64> = ["a", "b", "c"].map(|key| noise::image_key(1, key, 0)).to_vec();
    for method in Method::ALL {
        let eta = if method == Method::Ddim { 0.5 } else { 0.0 };
        let sampling = SamplingConfig { method, steps: Some(8), eta, ..SamplingConfig::default() };
        for kind in [Formulation::Diffusion, Formulation::Regression] {
            let config = DiffusionConfig { kind, ..DiffusionConfig::default() };
            let mut steps = 0;
            let run = |batch: &DeviceBatch, keys: &[u64], steps: &mut usize| {
                restore((&unet).into(), &config, &sampling, batch, keys, &mut |_| {
                    *steps += 1;
                    ControlFlow::Continue(())
                })
            };
            let all = run(&batch, &keys, &mut steps).unwrap();
            assert_eq!(steps, sampling.steps(&config));
            assert!(all.abs().max().double_value(&[]) <= 1.0);
            let one = run(&first(&batch, 1), &keys[..1], &mut 0).unwrap();
            assert_eq!(all.get(0), one.get(0), "{method:?}, {kind:?}");
            assert_eq!(run(&first(&batch, 2), &keys[..2], &mut 0).unwrap(), all.narrow(0, 0, 2));
            // Known pixels are the source's own.
            let known = (all.get(0) - batch.source.get(0)).narrow(2, 8, 8).abs().max();
            assert_eq!(known.double_value(&[]), 0.0);
            let other = run(&batch, &[9, keys[1], keys[2]], &mut 0).unwrap();
            assert!((all.get(0) - other.get(0)).abs().max().double_value(&[]) > 1e-3);
            let stopped = restore((&unet).into(), &config, &sampling, &batch, &keys, &mut |_| {
                ControlFlow::Break(())
            });
            assert!(matches!(stopped, Err(Error::Stopped)));
        }
    }
    let bad = SamplingConfig { eta: 2.0, ..SamplingConfig::default() };
    assert!(bad.validate().unwrap_err().to_string().contains("sampling.eta"));
}

/// On the CPU to the bit, as above.
#[test]
fn windows_are_denoised_together_whatever_number_goes_at_once() {
    let (mut store, unet) = network_on(Device::Cpu, &tiny(), 3);
    shake(&store);
    store.freeze();
    let config = DiffusionConfig::default();
    let sampling =
        SamplingConfig { method: Method::Dpmpp2m, steps: Some(4), ..SamplingConfig::default() };
    let run = |batch: &DeviceBatch, windows: Option<Windows>| {
        let denoiser = Denoiser { windows, ..Denoiser::from(&unet) };
        let keys = [noise::image_key(1, "a", 0)];
        restore(denoiser, &config, &sampling, batch, &keys, &mut |_| ControlFlow::Continue(()))
    };
    let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    // One window is the whole image.
    let small = first(&batch_on(Device::Cpu, &[true]), 1);
    let side = small.source.size()[2] as u32;
    let one = Windows { side, overlap: 4, batch: 1 };
    let whole = run(&small, None).unwrap();
    assert!(off(&whole, &run(&small, Some(one)).unwrap()) < 1e-5);
    // A canvas of three by two windows.
    let wide = |tensor: &Tensor| tensor.repeat([1, 1, 2, 3]).narrow(3, 0, 5 * i64::from(side) / 2);
    let with = |mask: Tensor| {
        DeviceBatch::new(wide(&small.target), wide(&small.source), mask, &[true]).unwrap()
    };
    let canvas = with(wide(&small.mask));
    let singly = run(&canvas, Some(one)).unwrap();
    let together = run(&canvas, Some(Windows { batch: 5, ..one })).unwrap();
    assert_eq!(singly, together);
    let known: Tensor = (&singly - &canvas.source) * (canvas.mask.ones_like() - &canvas.mask);
    assert_eq!(known.abs().max().double_value(&[]), 0.0);
    // Windows in which nothing is made are left out, and that changes nothing of the others.
    let few = canvas.mask.zeros_like();
    let _ = few.narrow(2, 0, 3).narrow(3, 0, 3).fill_(1.0);
    let hole = with(few.shallow_clone());
    let alone = run(&hole, Some(one)).unwrap();
    let known: Tensor = few.ones_like() - &few;
    assert_eq!(off(&(&alone * &known), &(&hole.source * &known)), 0.0);
    assert!(off(&alone, &hole.source) > 1e-3, "nothing was made");
    let larger = Windows { side: 4 * side, ..one };
    assert!(run(&canvas, Some(larger)).unwrap_err().to_string().contains("cannot be cut"));
}

/// Neither NaN nor an infinity, which clipping would make a colour of, becomes an image.
#[test]
fn a_network_whose_answer_is_not_finite_makes_no_picture() {
    let config = tiny();
    let batch = batch(&[true, false]);
    for bad in [f64::NAN, f64::INFINITY] {
        for kind in [Formulation::Diffusion, Formulation::Regression] {
            for method in [Method::Ancestral, Method::Ddim, Method::Dpmpp2m] {
                let (store, unet) = network(&config, 3);
                let bias = store.variables().remove("out.2.bias").unwrap();
                let _ = tch::no_grad(|| bias.shallow_clone().fill_(bad));
                let diffusion = DiffusionConfig {
                    kind,
                    prediction: Prediction::Y0,
                    ..DiffusionConfig::default()
                };
                let sampling =
                    SamplingConfig { method, steps: Some(4), ..SamplingConfig::default() };
                let lost = restore(
                    (&unet).into(),
                    &diffusion,
                    &sampling,
                    &batch,
                    &keys(&[1, 2]),
                    &mut |_| ControlFlow::Continue(()),
                );
                let error = lost.unwrap_err();
                let first = matches!(error, Error::LostImage { step: 1, image: 0, .. });
                assert!(first, "{bad} {kind:?} {method}: {error}");
            }
        }
    }
}
