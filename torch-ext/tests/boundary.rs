//! The functions of this crate against what they stand for, and what they refuse.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use torch_ext::{
    Adam, AdamOptions, Error, clip_gradients, device_named, gradient_norm, lerp, norm_silu,
    Numerics, rand_keyed, randn_keyed, segment, set_channels_last, test_device, to_channels_last,
};

fn value(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn parameter(key: u64, shape: &[i64]) -> Tensor {
    randn_keyed(&[key], shape, device()).unwrap().squeeze_dim(0).set_requires_grad(true)
}

/// The device under test, in f32 without TF32.
fn device() -> Device {
    Numerics::default().set().unwrap();
    test_device()
}

fn floats() -> (Kind, Device) {
    (Kind::Float, device())
}

#[test]
fn rows_are_functions_of_their_keys() {
    // Two keys that share the 32 bits that libtorch's own seeding would keep.
    let keys = [5, 6, 7, 5 + (1 << 32), u64::MAX];
    let all = randn_keyed(&keys, &[3, 8, 8], device()).unwrap();
    assert_eq!(all.size(), [5, 3, 8, 8]);
    for (i, &key) in keys.iter().enumerate() {
        let one = randn_keyed(&[key], &[3, 8, 8], device()).unwrap();
        assert_eq!(one.get(0), all.get(i as i64));
        for j in 0..i {
            assert_ne!(all.get(i as i64), all.get(j as i64), "keys {i} and {j}");
        }
    }
    // A global draw in between changes nothing.
    let _ = Tensor::randn([100], (Kind::Float, device()));
    assert_eq!(randn_keyed(&keys, &[3, 8, 8], device()).unwrap(), all);
}

#[test]
fn numbers_have_the_right_distribution() {
    let keys: Vec<u64> = (0..64).collect();
    let normal = randn_keyed(&keys, &[4096], device()).unwrap();
    assert!(value(&normal.mean(Kind::Float)).abs() < 0.01);
    assert!((value(&normal.std(true)) - 1.0).abs() < 0.01);
    // Rows of neighbouring keys are not correlated.
    let products = normal.narrow(0, 0, 63) * normal.narrow(0, 1, 63);
    assert!(value(&products.mean(Kind::Float)).abs() < 0.01);
    // Neither are the first numbers of all rows, where a poor seeding would show.
    let keys: Vec<u64> = (0..20_000).collect();
    let firsts = rand_keyed(&keys, &[1], device()).unwrap();
    assert!((value(&firsts.mean(Kind::Float)) - 0.5).abs() < 0.01);
    assert!((value(&firsts.var(true)) - 1.0 / 12.0).abs() < 0.003);
    assert!(value(&firsts.min()) >= 0.0 && value(&firsts.max()) < 1.0);
}

#[test]
fn adam_follows_its_formula() {
    let options = AdamOptions::default();
    let shapes: [&[i64]; 3] = [&[5], &[4, 3, 3, 3], &[2, 7]];
    let named: Vec<(String, Tensor)> =
        shapes.iter().enumerate().map(|(i, s)| (format!("p{i}"), parameter(i as u64, s))).collect();
    let mut plain: Vec<Tensor> = named.iter().map(|(_, p)| p.detach().copy()).collect();
    let mut m: Vec<Tensor> = plain.iter().map(Tensor::zeros_like).collect();
    let mut v: Vec<Tensor> = plain.iter().map(Tensor::zeros_like).collect();
    let mut adam = Adam::new(named, options).unwrap();
    for t in 1..=5 {
        let loss = adam.parameters().iter().map(|p| p.pow_tensor_scalar(4).sum(Kind::Float));
        loss.reduce(|a, b| a + b).unwrap().backward();
        for i in 0..3 {
            let g = adam.parameters()[i].grad();
            m[i] = &m[i] * options.beta1 + &g * (1.0 - options.beta1);
            v[i] = &v[i] * options.beta2 + g.square() * (1.0 - options.beta2);
            let (a, b) = (1.0 - options.beta1.powi(t), 1.0 - options.beta2.powi(t));
            plain[i] = &plain[i] - (&m[i] / a) / ((&v[i] / b).sqrt() + options.epsilon) * 0.01;
        }
        adam.step(0.01).unwrap();
        adam.drop_gradients().unwrap();
        assert!(adam.parameters().iter().all(|p| !p.grad().defined()));
    }
    assert_eq!(adam.steps().unwrap(), 5);
    for (p, expected) in adam.parameters().iter().zip(&plain) {
        assert!(value(&(p.detach() - expected).abs().max()) < 1e-6);
    }
    let state: HashMap<String, Tensor> = adam.state().into_iter().collect();
    assert!(value(&(&state["m.p1"] - &m[1]).abs().max()) < 1e-5);
}

#[test]
fn adam_refuses_a_state_that_is_not_its_own() {
    let new = || Adam::new(vec![("p".to_owned(), parameter(1, &[3]))], AdamOptions::default());
    let mut adam = new().unwrap();
    let refused = |adam: &mut Adam, change: fn(&mut Vec<(String, Tensor)>), word: &str| {
        let mut state = new().unwrap().state();
        change(&mut state);
        let message = adam.restore(state).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    refused(&mut adam, |s| s.truncate(2), "lacks `v.p`");
    refused(
        &mut adam,
        |s| s[1].1 = Tensor::zeros([4], tch::kind::FLOAT_CPU),
        "`m.p` has shape [4]",
    );
    refused(&mut adam, |s| s.push(("m.q".to_owned(), s[1].1.shallow_clone())), "`m.q`");
    assert!(Adam::new(vec![], AdamOptions::default()).is_err());
}

/// The fused kernel walks storages: gradients in another memory layout must be brought into line.
#[test]
fn adam_minds_memory_layouts() {
    let start = || parameter(1, &[4, 8, 3, 3]);
    let x = randn_keyed(&[2], &[8, 6, 6], device()).unwrap();
    let train = |weight: Tensor| {
        let mut adam =
            Adam::new(vec![("w".to_owned(), weight.shallow_clone())], AdamOptions::default())
                .unwrap();
        for _ in 0..3 {
            let y = x.conv2d(&weight, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
            y.square().mean(Kind::Float).backward();
            adam.step(0.01).unwrap();
            adam.drop_gradients().unwrap();
        }
        weight.detach().contiguous()
    };
    let plain = train(start());
    let last = start();
    set_channels_last(&last).unwrap();
    assert_eq!(last.stride()[1], 1);
    assert!(value(&(train(last) - plain).abs().max()) < 1e-4);
}

#[test]
fn averages_norms_and_clipping() {
    let ema = [Tensor::zeros([3], floats()), Tensor::ones([2], floats())];
    let weights = [Tensor::ones([3], floats()), Tensor::zeros([2], floats())];
    lerp(&ema, &weights, 0.25).unwrap();
    assert_eq!(Vec::<f32>::try_from(&ema[0]).unwrap(), [0.25; 3]);
    assert_eq!(Vec::<f32>::try_from(&ema[1]).unwrap(), [0.75; 2]);
    assert!(lerp(&ema, &weights[..1], 0.5).is_err());

    let parameters = [parameter(1, &[3]), parameter(2, &[2])];
    assert!(gradient_norm(&parameters).is_err(), "there is no gradient yet");
    let loss = &parameters[0].sum(Kind::Float) * 3.0 + &parameters[1].sum(Kind::Float) * 4.0;
    loss.backward();
    let expected = (3.0 * 9.0 + 2.0 * 16.0_f64).sqrt();
    assert!((value(&clip_gradients(&parameters, 1.0).unwrap()) - expected).abs() < 1e-5);
    assert!((value(&gradient_norm(&parameters).unwrap()) - 1.0).abs() < 1e-5);
    let _ = clip_gradients(&parameters, 10.0).unwrap();
    assert!((value(&gradient_norm(&parameters).unwrap()) - 1.0).abs() < 1e-5, "only ever down");
}

#[test]
fn what_libtorch_throws_is_an_error() {
    let a = [Tensor::zeros([3], tch::kind::FLOAT_CPU)];
    let b = [Tensor::zeros([4], tch::kind::FLOAT_CPU)];
    let message = lerp(&a, &b, 0.5).unwrap_err().to_string();
    assert!(message.starts_with("libtorch: ") && !message.contains('\n'), "{message}");
    assert!(matches!(to_channels_last(&a[0]), Err(Error::Torch(_))));
    assert!(set_channels_last(&a[0]).is_err());
    assert!(randn_keyed(&[1], &[-3], Device::Cpu).is_err());
}

#[test]
fn devices_by_name() {
    assert_eq!(device_named("cpu").unwrap(), Device::Cpu);
    assert!(device_named("auto").is_ok());
    for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
        let message = device_named(name).unwrap_err().to_string();
        assert!(message.contains("auto, cpu, cuda"), "{message}");
    }
    match torch_ext::cuda_missing() {
        Some(reason) => {
            println!("no GPU: {reason}");
            assert!(device_named("cuda").unwrap_err().to_string().contains(&reason));
        }
        None => assert_eq!(device_named("cuda").unwrap(), Device::Cuda(0)),
    }
    assert!(device_named("cuda:9999").is_err());
}

/// The child calls the function, which runs the same test once more with the setting.
#[test]
fn a_process_makes_its_threads_wait_briefly() {
    const CHILD: &str = "PALETTE_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        torch_ext::wait_briefly();
        let variable = |name| std::env::var(name).unwrap_or_default();
        println!("policy: {} {}", variable("OMP_WAIT_POLICY"), variable("GOMP_SPINCOUNT"));
        return;
    }
    let child = |policy: Option<&str>| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "a_process_makes_its_threads_wait_briefly", "--nocapture"])
            .env(CHILD, "1")
            .env_remove("OMP_WAIT_POLICY")
            .env_remove("GOMP_SPINCOUNT");
        if let Some(policy) = policy {
            command.env("OMP_WAIT_POLICY", policy);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(child(None).contains("policy:  20000"));
    assert!(child(Some("active")).contains("policy: active \n"), "the user's choice stands");
}

/// Our own kernel against libtorch's operations: output and every gradient.
#[test]
fn the_fused_norm_is_group_norm_scale_shift_and_silu() {
    // Channels of few and many groups; sides that do not divide into blocks; one image and several.
    let shapes = [(2, 32, 8, 8, 32), (1, 64, 5, 7, 8), (3, 8, 33, 65, 2), (2, 96, 1, 1, 4)];
    for (index, (b, c, h, w, groups)) in shapes.into_iter().enumerate() {
        for modulated in [false, true] {
            let key = 100 * index as u64;
            let draw = |n: u64, shape: &[i64]| parameter(key + n, shape);
            let x = draw(1, &[b, c, h, w]).detach() * 2.0 + 0.7;
            let inputs = [
                x.set_requires_grad(true),
                draw(2, &[c]),
                draw(3, &[c]),
                draw(4, &[b, c]),
                draw(5, &[b, c]),
            ];
            let above = draw(6, &[b, c, h, w]).detach();
            let [x, weight, bias, scale, shift] = &inputs;
            let run = |fused: bool| {
                let y = if fused {
                    let modulation = modulated.then_some((scale, shift));
                    norm_silu(x, weight, bias, modulation, groups, 1e-5).unwrap()
                } else {
                    let y = x.group_norm(groups, Some(weight), Some(bias), 1e-5, false);
                    let pixel = |t: &Tensor| t.unsqueeze(-1).unsqueeze(-1);
                    let y = if modulated { y * (pixel(scale) + 1.0) + pixel(shift) } else { y };
                    y.silu()
                };
                (&y * &above).sum(Kind::Float).backward();
                let used = if modulated { &inputs[..] } else { &inputs[..3] };
                let mut gradients = vec![y.detach()];
                for input in used {
                    gradients.push(input.grad().copy());
                    let _ = input.grad().zero_();
                }
                gradients
            };
            let (expected, found) = (run(false), run(true));
            for (part, (expected, found)) in expected.iter().zip(&found).enumerate() {
                let size = value(&expected.abs().max()).max(1.0);
                let off = value(&(expected - found).abs().max()) / size;
                assert!(off < 2e-5, "shape {index}, modulated {modulated}, part {part}: {off}");
            }
        }
    }
    let x = parameter(1, &[2, 6, 4, 4]);
    let one = parameter(2, &[6]);
    assert!(norm_silu(&x, &one, &one, None, 4, 1e-5).is_err(), "6 channels in 4 groups");
    assert!(norm_silu(&x, &one.narrow(0, 0, 5), &one, None, 2, 1e-5).is_err());
    assert!(norm_silu(&one, &one, &one, None, 2, 1e-5).is_err());
}

/// Of the CPU's kernel: the same numbers on one thread and on two, not a number stays one, extremes stay finite.
#[test]
fn the_fused_norm_is_well_behaved() {
    let one = Tensor::ones([16], tch::kind::FLOAT_CPU);
    let x = randn_keyed(&[1, 2, 3], &[16, 64, 64], Device::Cpu).unwrap();
    let run = |threads| {
        tch::set_num_threads(threads);
        norm_silu(&x, &one, &one, None, 4, 1e-5).unwrap()
    };
    assert_eq!(run(1), run(2));
    let lost = &x * f64::NAN;
    assert!(
        norm_silu(&lost, &one, &one, None, 4, 1e-5).unwrap().isnan().all().int64_value(&[]) == 1
    );
    let far = norm_silu(&x, &(&one * 1e4), &one, None, 4, 1e-5).unwrap();
    assert!(far.isfinite().all().int64_value(&[]) == 1);
    let h = x.group_norm(4, Some(&(&one * 1e4)), Some(&one), 1e-5, false);
    assert!(value(&(far - h.silu()).abs().max()) < 0.1, "of numbers up to 50,000");
}

#[test]
fn a_segment_gives_the_gradients_of_its_inside() {
    let (x, other) = (parameter(1, &[3, 4]), parameter(2, &[4, 4]));
    let weight = parameter(3, &[4, 4]);
    let inside = |x: &Tensor, other: &Tensor, weight: &Tensor| {
        x.matmul(&(other * weight)).tanh().matmul(weight).sigmoid()
    };
    let gradients = |y: Tensor| {
        y.square().sum(Kind::Float).backward();
        [&x, &other, &weight].map(|t| {
            let gradient = t.grad().copy();
            let _ = t.grad().zero_();
            gradient
        })
    };
    let expected = gradients(inside(&x, &other, &weight));
    let calls = std::rc::Rc::new(std::cell::Cell::new(0));
    let (captured, count) = (weight.shallow_clone(), calls.clone());
    let y = segment(&[&x, &other], move |inputs| {
        count.set(count.get() + 1);
        Ok(inside(&inputs[0], &inputs[1], &captured))
    })
    .unwrap();
    assert_eq!(calls.get(), 1);
    let found = gradients(y);
    assert_eq!((calls.get(), std::rc::Rc::strong_count(&calls)), (2, 1), "the closure is let go");
    for (expected, found) in expected.iter().zip(&found) {
        assert!(value(&(expected - found).abs().max()) < 1e-6);
    }
    // Segments follow each other; what fails or panics inside is an error outside.
    let twice = |x: &[Tensor]| -> Result<Tensor, Error> { Ok(&x[0] * 2.0) };
    let y = segment(&[&segment(&[&x], twice).unwrap()], twice).unwrap();
    assert!(value(&(gradients_of_sum(&y, &x) - 4.0).abs().max()) < 1e-6);
    let failed = segment(&[&x], |_| Err(Error::Mismatch("as it should".to_owned())));
    assert!(failed.unwrap_err().to_string().contains("as it should"));
    let panicked = segment(&[&x], |inputs| Ok(inputs[7].shallow_clone()));
    assert!(panicked.unwrap_err().to_string().contains("panicked"));
}

fn gradients_of_sum(y: &Tensor, x: &Tensor) -> Tensor {
    y.sum(Kind::Float).backward();
    x.grad()
}

#[test]
fn memory_is_counted() {
    if let gpu @ Device::Cuda(_) = device() {
        let before = torch_ext::memory(gpu).unwrap();
        let held = Tensor::ones([32 << 20], (Kind::Uint8, gpu));
        let after = torch_ext::memory(gpu).unwrap();
        assert!(after.used >= before.used + (32 << 20) && after.peak >= after.used);
        assert!(torch_ext::free_memory(gpu).unwrap() > 1 << 20);
        drop(held);
    }
    let before = torch_ext::memory(Device::Cpu).unwrap();
    let held = Tensor::ones([32 << 20], (Kind::Uint8, Device::Cpu));
    let after = torch_ext::memory(Device::Cpu).unwrap();
    assert!(before.used > 0 && after.peak >= after.used.max(32 << 20));
    let free = torch_ext::free_memory(Device::Cpu).unwrap();
    assert!(free > 1 << 20 && free < 1 << 50, "{free}");
    drop(held);
}
