//! The functions of this crate against what they stand for, and what they refuse.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use torch_ext::{
    Adam, AdamOptions, Error, Numerics, clip_gradients, device_named, gradient_norm, lerp,
    randn_keyed, segment, set_channels_last, test_device, to_channels_last,
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
    // The C++ side may have no address for an empty list.
    let y = segment(&[], |none| Ok(Tensor::from(none.len() as f64 + 2.0))).unwrap();
    assert_eq!(value(&y), 2.0);
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
