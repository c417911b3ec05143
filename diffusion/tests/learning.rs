//! The objective, first weights, weight files and restoring with a small network.
#![allow(clippy::unwrap_used)]

use diffusion::noise::{Stream, sample_keys};
use diffusion::weights::{Description, Format, Hints};
use diffusion::{
    AttentionKind, AttentionOrder, Denoiser, DeviceBatch, DiffusionConfig, Error, Execution,
    Formulation, LossNorm, Method, ModelConfig, NoiseEmbedding, Objective, Pixels, Precision,
    Prediction, SamplingConfig, ScheduleConfig, UNet, Weighting, Windows, noise, restore, weights,
};
use std::ops::ControlFlow;
use tch::{Device, Tensor, nn::VarStore};
use torch_ext::{Adam, AdamOptions, Numerics, rand_keyed, randn_keyed};

fn tiny() -> ModelConfig {
    ModelConfig {
        model_channels: 32,
        channel_mult: vec![1, 2],
        res_blocks: 1,
        attention: vec![4],
        head_channels: 32,
        patch: 2,
        ..ModelConfig::default()
    }
}

/// The device under test; what is promised of bits holds on a GPU with deterministic kernels only.
fn device() -> Device {
    Numerics { deterministic: true, ..Numerics::default() }.set().unwrap();
    torch_ext::test_device()
}

fn floats() -> (tch::Kind, Device) {
    (tch::Kind::Float, device())
}

fn network(config: &ModelConfig, seed: u64) -> (VarStore, UNet) {
    network_on(device(), config, seed)
}

fn network_on(device: Device, config: &ModelConfig, seed: u64) -> (VarStore, UNet) {
    // Tests run side by side; libtorch's threads would only wait for each other.
    tch::set_num_threads(1);
    let store = VarStore::new(device);
    let unet = UNet::new(&store.root(), config, 16).unwrap();
    weights::initialise(&store, seed).unwrap();
    (store, unet)
}

/// Images with a gradient of colour; sources grey; the left half is the hole where there is one.
fn batch(holes: &[bool]) -> DeviceBatch {
    batch_on(device(), holes)
}

fn batch_on(device: Device, holes: &[bool]) -> DeviceBatch {
    let side = 16;
    let (mut target, mut mask) = (Vec::new(), Vec::new());
    for (image, &hole) in holes.iter().enumerate() {
        for i in 0..side * side {
            target.extend((0..3).map(|c| (i % side * 10 + c * 30 + image * 5) as u8));
        }
        mask.extend((0..side * side).map(|i| u8::from(!hole || i % side < side / 2)));
    }
    let source: Vec<u8> =
        target.iter().enumerate().map(|(i, &v)| if mask[i / 3] == 1 { 128 } else { v }).collect();
    DeviceBatch::from_u8(side, side, &target, &source, &mask, holes, device).unwrap()
}

fn first(batch: &DeviceBatch, n: i64) -> DeviceBatch {
    let part = |tensor: &Tensor| tensor.narrow(0, 0, n);
    let (target, source, mask) = (part(&batch.target), part(&batch.source), part(&batch.mask));
    DeviceBatch::new(target, source, mask, &batch.hole()[..n as usize]).unwrap()
}

fn keys(positions: &[u64]) -> Vec<u64> {
    sample_keys(1, Stream::Training(0), positions)
}

fn same(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
}

#[test]
fn first_weights_depend_on_seed_and_name_alone() {
    let (small, _) = network(&tiny(), 7);
    let (again, _) = network(&tiny(), 7);
    let (other, _) = network(&tiny(), 8);
    assert!(same(&weights::named(&small), &weights::named(&again)));
    assert!(!same(&weights::named(&small), &weights::named(&other)));
    // A deeper network shares the tensors that have the same name and shape.
    let (deep, _) = network(&ModelConfig { res_blocks: 2, ..tiny() }, 7);
    let name = "input_blocks.1.0.in_layers.2.weight";
    assert_eq!(small.variables()[name], deep.variables()[name]);
    for (name, tensor) in weights::named(&small) {
        let largest = tensor.abs().max().double_value(&[]);
        if name.contains("out_layers.3") || name.contains("proj_out") || name.starts_with("out.2") {
            assert_eq!(largest, 0.0, "{name}");
        } else if name.ends_with("in_layers.0.weight") {
            assert_eq!((largest, tensor.min().double_value(&[])), (1.0, 1.0), "{name}");
        } else if name == "time_embed.0.weight" {
            let bound = 1.0 / 32_f64.sqrt();
            assert!(largest <= bound && largest > 0.95 * bound, "{name}: {largest}");
        }
    }
}

#[test]
fn costs_equal_what_is_built() {
    use AttentionKind::{Dilated, Global, Local, MoreBlocks};
    for (patch, resblock_updown, attention, attention_kind) in [
        (1, true, vec![], Global),
        (1, false, vec![8, 16], Global),
        (1, true, vec![8, 16], Local),
        (1, true, vec![8, 16], MoreBlocks),
        (1, false, vec![8], Dilated),
        (2, false, vec![4], Global),
        (4, true, vec![2], Global),
    ] {
        let config = ModelConfig { patch, resblock_updown, attention, attention_kind, ..tiny() };
        let (store, unet) = network(&config, 1);
        let complexity = config.complexity([16, 16]).unwrap();
        let parameters: usize = weights::named(&store).iter().map(|(_, t)| t.numel()).sum();
        assert_eq!(
            (complexity.parameters, complexity.tensors),
            (parameters as u64, store.len() as u64)
        );
        let x = Tensor::zeros([2, 6, 16, 16], floats());
        let gamma = Tensor::from_slice(&[0.5_f32, 1.0]).to_device(device());
        assert_eq!(unet.forward(&x, &gamma).unwrap().size(), [2, 3, 16, 16]);
        // Any other size that the halvings divide, and not square.
        let wide = Tensor::zeros([2, 6, 16, 48], floats());
        assert_eq!(unet.forward(&wide, &gamma).unwrap().size(), [2, 3, 16, 48]);
        assert!(unet.forward(&x.narrow(3, 0, 7), &gamma).is_err());
        // One level is that of all images.
        let one = unet.forward(&x, &gamma.narrow(0, 0, 1)).unwrap();
        assert_eq!(one, unet.forward(&x, &gamma.full_like(0.5)).unwrap());
        assert!(unet.forward(&x, &Tensor::ones([3], floats())).is_err());
    }
}

#[test]
fn every_objective_starts_finite_and_learns() {
    let batch = batch(&[true, false, false, true]);
    let positions: Vec<u64> = (0..4).collect();
    let variants = [
        (
            Formulation::Diffusion,
            Prediction::Epsilon,
            LossNorm::L2,
            Weighting::None,
            NoiseEmbedding::Gamma,
        ),
        (
            Formulation::Diffusion,
            Prediction::V,
            LossNorm::L1,
            Weighting::Epsilon,
            NoiseEmbedding::SqrtGamma,
        ),
        (
            Formulation::Diffusion,
            Prediction::Y0,
            LossNorm::L2,
            Weighting::MinSnr,
            NoiseEmbedding::LogSnr,
        ),
        (
            Formulation::Diffusion,
            Prediction::Epsilon,
            LossNorm::L1,
            Weighting::None,
            NoiseEmbedding::Timestep,
        ),
        (
            Formulation::Regression,
            Prediction::Epsilon,
            LossNorm::L2,
            Weighting::None,
            NoiseEmbedding::Gamma,
        ),
    ];
    for (kind, prediction, loss, weighting, noise_embedding) in variants {
        let (store, unet) = network(&ModelConfig { noise_embedding, dropout: 0.1, ..tiny() }, 3);
        let config =
            DiffusionConfig { kind, prediction, loss, weighting, ..DiffusionConfig::default() };
        let objective = Objective::new(&config).unwrap();
        let mut adam = Adam::new(weights::named(&store), AdamOptions::default()).unwrap();
        let mut losses = Vec::new();
        for _ in 0..12 {
            // The same numbers each time: it must learn them by heart.
            let cost = objective.loss(&unet, &batch, &keys(&positions), true).unwrap();
            losses.push(cost.loss.double_value(&[]));
            assert_eq!(cost.per_image.size(), [4]);
            cost.loss.backward();
            adam.step(2e-3).unwrap();
            adam.drop_gradients().unwrap();
        }
        // An untrained network answers 0, whose loss is what predicting nothing costs.
        let (store, untrained) = network(&ModelConfig { noise_embedding, ..tiny() }, 3);
        let first = objective.loss(&untrained, &batch, &keys(&positions), false).unwrap();
        let off = (&first.nothing - &first.per_image).abs().max().double_value(&[]);
        assert!(off < 1e-5 && first.nothing.size() == [4], "{off}");
        drop(store);
        println!("{kind:?} {prediction:?} {loss:?} {weighting:?}: {losses:.3?}");
        assert!(losses.iter().all(|loss| loss.is_finite()));
        assert!(losses[11] < losses[0], "{kind:?} {prediction:?}: {losses:?}");
    }
}

#[test]
fn losses_are_of_the_image_not_of_its_batch() {
    let (_, unet) = network(&tiny(), 3);
    let objective = Objective::new(&DiffusionConfig::default()).unwrap();
    let batch = batch(&[true, false, true]);
    let all = objective.loss(&unet, &batch, &keys(&[10, 11, 12]), true).unwrap();
    let one = objective.loss(&unet, &first(&batch, 1), &keys(&[10]), true).unwrap();
    assert_eq!(all.gammas[0], one.gammas[0]);
    let off = (all.per_image.get(0) - one.per_image.get(0)).abs().double_value(&[]);
    assert!(off < 1e-5, "{off}");
    // Only masked pixels count: an untrained network answers 0, so this is the mean of ε².
    let value = all.per_image.double_value(&[0]);
    assert!((value - 1.0).abs() < 0.25, "{value}");
    let moved = objective.loss(&unet, &batch, &keys(&[13, 11, 12]), true).unwrap();
    assert_ne!(all.gammas[0], moved.gammas[0]);
    assert!(objective.loss(&unet, &batch, &keys(&[1]), true).is_err());
}

/// The trainer stages, validation and others bring images to the device first: one loss.
#[test]
fn staged_images_cost_what_images_on_the_device_cost() {
    let (_, unet) = network(&ModelConfig { dropout: 0.2, ..tiny() }, 3);
    let (side, holes) = (16, [true, false]);
    let bytes = |images: usize| (0..images * side * side).map(|i| (i * 7 % 256) as u8).collect();
    let (target, source): (Vec<u8>, Vec<u8>) = (bytes(6), bytes(6).into_iter().rev().collect());
    let mask: Vec<u8> = (0..2 * side * side).map(|i| u8::from(i % 3 > 0)).collect();
    let pixels = Pixels {
        height: side,
        width: side,
        target: &target,
        source: &source,
        mask: &mask,
        hole: &holes,
    };
    for kind in [Formulation::Diffusion, Formulation::Regression] {
        let config = DiffusionConfig { kind, ..DiffusionConfig::default() };
        let objective = Objective::new(&config).unwrap();
        let staged = objective.stage(&pixels, &keys(&[3, 4]), device()).unwrap();
        let batch =
            DeviceBatch::from_u8(side, side, &target, &source, &mask, &holes, device()).unwrap();
        let one = objective.loss_of(&unet, &staged, true).unwrap();
        let other = objective.loss(&unet, &batch, &keys(&[3, 4]), true).unwrap();
        assert_eq!((&one.per_image, &one.gammas), (&other.per_image, &other.gammas), "{kind:?}");
        assert!(objective.stage(&pixels, &keys(&[3]), device()).is_err());
    }
}

#[test]
fn interrupted_training_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let objective = Objective::new(&DiffusionConfig::default()).unwrap();
    let config = ModelConfig { dropout: 0.2, ..tiny() };
    let batch = batch(&[true, false]);
    let step = |unet: &UNet, adam: &mut Adam, ema: &[Tensor], n: u64| {
        let cost = objective.loss(unet, &batch, &keys(&[2 * n, 2 * n + 1]), true).unwrap();
        cost.loss.backward();
        adam.step(1e-3).unwrap();
        adam.drop_gradients().unwrap();
        torch_ext::lerp(ema, adam.parameters(), 0.1).unwrap();
    };
    let start = |store: &VarStore| {
        let adam = Adam::new(weights::named(store), AdamOptions::default()).unwrap();
        (adam, weights::copy(store).unwrap())
    };
    let plain = |ema: &[(String, Tensor)]| -> Vec<Tensor> {
        ema.iter().map(|(_, t)| t.shallow_clone()).collect()
    };

    let (whole, unet) = network(&config, 5);
    let (mut adam, ema) = start(&whole);
    for n in 0..3 {
        step(&unet, &mut adam, &plain(&ema), n);
    }
    weights::save(&whole, &path("model")).unwrap();
    weights::save_tensors(&ema, &path("ema")).unwrap();
    weights::save_tensors(&adam.state(), &path("adam")).unwrap();
    for n in 3..6 {
        step(&unet, &mut adam, &plain(&ema), n);
    }

    let (resumed, unet) = network(&config, 99);
    weights::load(&resumed, &path("model")).unwrap();
    let (mut again, _) = start(&resumed);
    again.restore(weights::read_tensors(&path("adam")).unwrap()).unwrap();
    assert_eq!(again.steps().unwrap(), 3);
    let average = weights::read_tensors(&path("ema")).unwrap();
    let average: Vec<_> = average.into_iter().map(|(n, t)| (n, t.to_device(device()))).collect();
    for n in 3..6 {
        step(&unet, &mut again, &plain(&average), n);
    }
    assert!(same(&weights::named(&whole), &weights::named(&resumed)));
    assert!(same(&ema, &average));
    assert!(same(&adam.state(), &again.state()));
}

#[test]
fn files_of_another_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (store, _) = network(&tiny(), 1);
    let refused = |store: &VarStore, word: &str| {
        let message = weights::load(store, &path).unwrap_err().to_string();
        assert!(message.contains(word) && message.contains("weights.safetensors"), "{message}");
    };
    refused(&store, "cannot be read");
    std::fs::write(&path, b"not a weight file").unwrap();
    refused(&store, "not a safetensors file");
    // A header that claims 2^60 bytes.
    std::fs::write(&path, [0, 0, 0, 0, 0, 0, 0, 16, b'{', b'}']).unwrap();
    refused(&store, "not a safetensors file");
    weights::save(&store, &path).unwrap();
    let (deep, _) = network(&ModelConfig { res_blocks: 2, ..tiny() }, 1);
    let before = weights::copy(&deep).unwrap();
    refused(&deep, "`input_blocks.");
    assert!(same(&before, &weights::named(&deep)), "a refused file must change nothing");
    let (shallow, _) =
        network(&ModelConfig { channel_mult: vec![1], attention: vec![], ..tiny() }, 1);
    refused(&shallow, "shape");
    let mut tensors = weights::named(&store);
    tensors.push(("surplus".to_owned(), Tensor::zeros([2], floats())));
    weights::save_tensors(&tensors, &path).unwrap();
    refused(&store, "`surplus` does not belong");
}

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

/// Gives the layers that begin at zero numbers, which would hide everything behind them.
fn shake(store: &VarStore) {
    for (name, variable) in weights::named(store) {
        if name.starts_with("out.2") || name.contains("out_layers.3") || name.contains("proj_out") {
            let key = random::text_key(&name);
            let noise = torch_ext::randn_keyed(&[key], &variable.size(), Device::Cpu).unwrap();
            tch::no_grad(|| variable.shallow_clone().copy_(&(noise.squeeze_dim(0) * 0.05)));
        }
    }
}

fn gradients(store: &VarStore) -> Vec<(String, Tensor)> {
    weights::named(store)
        .into_iter()
        .map(|(name, variable)| {
            let gradient = variable.grad().copy();
            let _ = variable.grad().zero_();
            (name, gradient)
        })
        .collect()
}

/// Relative size of the difference of two sets of tensors.
fn off(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> f64 {
    let sum = |tensors: Vec<Tensor>| {
        tensors.iter().map(|t| t.square().sum(tch::Kind::Double).double_value(&[])).sum::<f64>()
    };
    let difference = a.iter().zip(b).map(|((_, a), (_, b))| a - b).collect();
    (sum(difference) / sum(a.iter().map(|(_, t)| t.shallow_clone()).collect())).sqrt()
}

#[test]
fn recomputed_activations_give_the_same_gradients() {
    let config = ModelConfig { dropout: 0.3, attention: vec![8, 4], ..tiny() };
    let objective = Objective::new(&DiffusionConfig::default()).unwrap();
    let batch = batch(&[true, false]);
    let run = |recompute: bool| {
        let (store, unet) = network(&config, 5);
        shake(&store);
        let unet = unet.executed(Execution { recompute, ..Execution::default() });
        let losses = objective.loss(&unet, &batch, &keys(&[0, 1]), true).unwrap();
        losses.loss.backward();
        (losses.loss.double_value(&[]), gradients(&store))
    };
    let ((loss, kept), (again, recomputed)) = (run(false), run(true));
    assert_eq!(loss, again, "dropout is the same in both");
    assert!(off(&kept, &recomputed) < 1e-6, "{}", off(&kept, &recomputed));
    assert!(kept.iter().all(|(_, gradient)| gradient.abs().max().double_value(&[]) > 0.0));
}

#[test]
fn half_precision_is_near_and_gradients_are_whole() {
    let objective = Objective::new(&DiffusionConfig::default()).unwrap();
    let batch = batch(&[true, false]);
    let run = |precision: Precision, recompute: bool| {
        let (store, unet) = network(&tiny(), 5);
        shake(&store);
        let unet = unet.executed(Execution { precision, recompute });
        let losses = objective.loss(&unet, &batch, &keys(&[0, 1]), true).unwrap();
        losses.loss.backward();
        (losses.loss.double_value(&[]), gradients(&store))
    };
    let (loss, exact) = run(Precision::Fp32, false);
    for recompute in [false, true] {
        let (half, gradients) = run(Precision::Bf16, recompute);
        assert!((half - loss).abs() < 0.01 * loss, "{half} instead of {loss}");
        assert!(gradients.iter().all(|(_, tensor)| tensor.kind() == tch::Kind::Float));
        let off = off(&exact, &gradients);
        assert!(off > 0.0 && off < 0.05, "{off}");
    }
}

/// What an exported file says of a network, with an objective that is not the usual one.
fn described(model: &ModelConfig) -> Description {
    Description {
        format: Format::Adm,
        model: model.clone(),
        diffusion: DiffusionConfig {
            prediction: Prediction::Y0,
            residual: true,
            training: ScheduleConfig { steps: 100, start: 1e-4, end: 0.2 },
            sampling: ScheduleConfig { steps: 50, start: 1e-3, end: 0.3 },
            ..DiffusionConfig::default()
        },
        image_size: [16, 32],
        step: 7,
        trained: serde_json::json!({ "data": { "tasks": { "jpeg": 1.0 } } }),
    }
}

#[test]
fn weights_travel_in_either_naming() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { patch: 1, norm_groups: 32, attention: vec![8], ..tiny() };
    let (store, unet) = network(&config, 3);
    shake(&store);
    let x = torch_ext::randn_keyed(&[1], &[6, 16, 16], device()).unwrap();
    let gamma = Tensor::from_slice(&[0.5_f32]).to_device(device());
    let expected = unet.forward(&x, &gamma).unwrap();
    let described = described(&config);
    let hints = Hints::default();
    for format in [Format::Adm, Format::Janspiry] {
        let path = folder.path().join("exported.safetensors");
        weights::export(&weights::named(&store), &described, format, &path).unwrap();
        let imported = weights::import(&path, format, &hints).unwrap();
        assert_eq!(imported.model.condition_first, format == Format::Janspiry);
        assert_eq!(imported.assumed, []);
        let whole = imported.description.unwrap();
        assert_eq!((whole.format, &whole.trained), (format, &described.trained));
        assert_eq!(
            (imported.diffusion, imported.image_size),
            (described.diffusion.clone(), [16, 32])
        );
        let again = VarStore::new(device());
        let unet = UNet::new(&again.root(), &imported.model, 16).unwrap();
        weights::assign(&again, &imported.weights).unwrap();
        let x = if format == Format::Janspiry {
            Tensor::cat(&[x.narrow(1, 3, 3), x.narrow(1, 0, 3)], 1)
        } else {
            x.shallow_clone()
        };
        let off = (unet.forward(&x, &gamma).unwrap() - &expected).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{format:?}: {off}");
    }
    let path = folder.path().join("refused.safetensors");
    let odd = self::described(&ModelConfig { noise_embedding: NoiseEmbedding::LogSnr, ..config });
    let error = weights::export(&weights::named(&store), &odd, Format::Janspiry, &path);
    assert!(error.unwrap_err().to_string().contains("γ itself") && !path.exists());
}

/// A network of ADM as its authors publish it: classes, a learned variance, no condition.
#[test]
fn a_published_network_loses_classes_and_variance_and_gains_a_condition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("published.safetensors");
    let config = ModelConfig {
        patch: 1,
        attention: vec![8],
        noise_embedding: NoiseEmbedding::Timestep,
        ..tiny()
    };
    let (store, _) = network(&config, 3);
    shake(&store);
    let mut published = weights::named(&store);
    for (name, tensor) in &mut published {
        match name.as_str() {
            "input_blocks.0.0.weight" => *tensor = tensor.narrow(1, 0, 3),
            "out.2.weight" | "out.2.bias" => {
                *tensor = Tensor::cat(&[&*tensor, &(&*tensor * 7.0)], 0)
            }
            _ => {}
        }
    }
    published.push(("label_emb.weight".to_owned(), Tensor::ones([10, 128], floats())));
    weights::save_tensors(&published, &path).unwrap();
    let hints = Hints { image_size: Some(16), head_channels: Some(32), ..Hints::default() };
    let imported = weights::import(&path, Format::Adm, &hints).unwrap();
    let notes = imported.notes.join("; ");
    for word in ["10 classes", "variance", "from 3 to 6"] {
        assert!(notes.contains(word), "{notes}");
    }
    let taken: std::collections::BTreeMap<_, _> = imported.weights.into_iter().collect();
    let input = &taken["input_blocks.0.0.weight"];
    assert_eq!(input.size()[1], 6);
    assert_eq!(input.narrow(1, 3, 3).abs().max().double_value(&[]), 0.0);
    assert_eq!(taken["out.2.bias"], store.variables()["out.2.bias"].to_device(Device::Cpu));
    // Other networks are refused with a name.
    for (name, words) in [("time_embed.0.weight", "is missing"), ("out.2.weight", "is missing")] {
        let less: Vec<_> = published
            .iter()
            .filter(|(n, _)| n != name)
            .map(|(n, t)| (n.clone(), t.shallow_clone()))
            .collect();
        weights::save_tensors(&less, &path).unwrap();
        let error = weights::import(&path, Format::Adm, &hints).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
}

/// Weights of a file that says nothing of itself, as tensors under these names.
fn foreign(path: &std::path::Path, prefixes: &[&str]) -> (ModelConfig, usize) {
    let config = ModelConfig {
        patch: 1,
        attention: vec![8],
        noise_embedding: NoiseEmbedding::Timestep,
        ..tiny()
    };
    let (store, _) = network(&config, 3);
    shake(&store);
    let named = weights::named(&store);
    let all = prefixes.iter().zip(1_i64..).flat_map(|(prefix, number)| {
        named.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor * number))
    });
    weights::save_tensors(&all.collect::<Vec<_>>(), path).unwrap();
    (config, named.len())
}

#[test]
fn what_a_file_does_not_say_is_assumed_and_listed_unless_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.safetensors");
    let (config, _) = foreign(&path, &["module."]);
    let hints = Hints { image_size: Some(16), head_channels: Some(32), ..Hints::default() };
    let imported = weights::import(&path, Format::Adm, &hints).unwrap();
    assert_eq!((&imported.model, &imported.diffusion.training), (&config, &ScheduleConfig::ADM));
    let options: Vec<&str> = imported.assumed.iter().map(|assumed| assumed.option).collect();
    for option in ["--attention-order", "--noise-embedding", "--prediction", "--training-schedule"]
    {
        assert!(options.contains(&option), "{option}: {options:?}");
    }
    assert!(!options.contains(&"--image-size"), "{options:?}");
    // All of it can be told; nothing is assumed then.
    let training = ScheduleConfig { steps: 100, start: 1e-3, end: 0.1 };
    let told = Hints {
        num_heads: Some(4),
        head_channels: None,
        attention_order: Some(AttentionOrder::New),
        noise_embedding: Some(NoiseEmbedding::SqrtGamma),
        norm_groups: Some(16),
        condition_first: Some(true),
        kind: Some(Formulation::Diffusion),
        prediction: Some(Prediction::Y0),
        residual: Some(true),
        training: Some(training),
        sampling: Some(training),
        ..hints.clone()
    };
    let imported = weights::import(&path, Format::Adm, &told).unwrap();
    assert_eq!(imported.assumed, []);
    let model = &imported.model;
    assert_eq!((model.num_heads, model.norm_groups, model.condition_first), (4, 16, true));
    assert_eq!([32, 64].map(|channels| model.heads(channels)), [4, 4]);
    assert_eq!(
        (imported.diffusion.prediction, imported.diffusion.residual),
        (Prediction::Y0, true)
    );
    // What cannot be, and what the file contradicts, names its option.
    let refused = |path: &std::path::Path, hints: Hints, word: &str| {
        let error = weights::import(path, Format::Adm, &hints).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let base = || hints.clone();
    refused(&path, Hints { head_channels: Some(48), ..base() }, "--head-channels or --num-heads");
    refused(&path, Hints { residual: Some(true), ..base() }, "--residual");
    let kind = Some(Formulation::Regression);
    refused(&path, Hints { kind, prediction: Some(Prediction::V), ..base() }, "--prediction");
    let (store, _) = network(&config, 3);
    let ours = folder.path().join("ours.safetensors");
    weights::export(&weights::named(&store), &described(&config), Format::Adm, &ours).unwrap();
    refused(&ours, Hints { image_size: Some(64), ..Hints::default() }, "leave --image-size out");
    let prediction = Some(Prediction::Epsilon);
    refused(&ours, Hints { prediction, ..Hints::default() }, "leave --prediction out");
    refused(&ours, Hints { num_heads: Some(2), ..Hints::default() }, "leave --head-channels");
}

/// As versions before wrote it: the network without its objective, which is assumed and listed.
#[test]
fn an_export_of_before_says_what_network_it_is_and_nothing_of_its_objective() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    let config = tiny();
    let (store, _) = network(&config, 3);
    let description = [("palette.model".to_owned(), serde_json::to_string(&config).unwrap())];
    weights::save_described(&weights::named(&store), description.into(), &path).unwrap();
    let hints = Hints { image_size: Some(16), ..Hints::default() };
    let imported = weights::import(&path, Format::Adm, &hints).unwrap();
    assert_eq!((imported.model, imported.diffusion), (config, DiffusionConfig::default()));
    let options: Vec<&str> = imported.assumed.iter().map(|assumed| assumed.option).collect();
    assert_eq!(options, ["--kind", "--prediction", "--training-schedule", "--sampling-schedule"]);
    assert!(weights::describe(&path).unwrap().is_none());
    // And a description of a later version is refused.
    let later = [("palette.checkpoint".to_owned(), "{\"version\": 2, \"more\": 1}".to_owned())];
    weights::save_described(&weights::named(&store), later.into(), &path).unwrap();
    let error = weights::import(&path, Format::Adm, &hints).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("update"), "{error}");
}

#[test]
fn of_several_networks_in_a_file_the_ema_is_taken_or_the_one_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.safetensors");
    let (_, count) = foreign(&path, &["state_dict.model.", "state_dict.ema."]);
    let hints = Hints { image_size: Some(16), head_channels: Some(32), ..Hints::default() };
    let bias = |state_dict: Option<&str>| {
        let hints = Hints { state_dict: state_dict.map(str::to_owned), ..hints.clone() };
        let imported = weights::import(&path, Format::Adm, &hints).unwrap();
        assert_eq!(imported.weights.len(), count);
        let bias = imported.weights.iter().find(|(name, _)| name == "out.2.bias").unwrap();
        bias.1.double_value(&[0])
    };
    let (model, ema) = (bias(Some("model")), bias(Some("ema")));
    assert!(model != 0.0 && (ema - 2.0 * model).abs() < 1e-6, "{model}, {ema}");
    assert_eq!(bias(None), ema);
}

#[test]
fn weights_that_are_not_finite_are_named_and_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    let config = tiny();
    let (store, _) = network(&config, 3);
    for bad in [f64::NAN, f64::INFINITY] {
        let mut named = weights::named(&store);
        let (_, tensor) = named.iter_mut().find(|(name, _)| name == "out.2.bias").unwrap();
        *tensor = tensor.full_like(bad);
        weights::export(&named, &described(&config), Format::Adm, &path).unwrap();
        let error = weights::import(&path, Format::Adm, &Hints::default()).unwrap_err();
        assert!(
            matches!(&error, Error::NonFinite { tensor, .. } if tensor == "out.2.bias"),
            "{error}"
        );
        let forced = Hints { allow_non_finite: true, ..Hints::default() };
        assert!(weights::import(&path, Format::Adm, &forced).is_ok());
    }
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

/// A single attention with as many heads as its width has of the channels of each is the same network.
#[test]
fn heads_by_their_number_are_heads_by_their_channels() {
    let by_channels = ModelConfig { head_channels: 16, ..tiny() };
    // 32 channels at the first level, 64 at the second: two heads and four.
    let one = ModelConfig { attention: vec![], ..by_channels.clone() };
    let other = ModelConfig { num_heads: 4, head_channels: 1, ..one.clone() };
    let x = torch_ext::randn_keyed(&[1], &[6, 16, 16], device()).unwrap();
    let gamma = Tensor::from_slice(&[0.5_f32]).to_device(device());
    let output = |config: &ModelConfig| {
        let (store, unet) = network(config, 3);
        shake(&store);
        unet.forward(&x, &gamma).unwrap()
    };
    assert_eq!(output(&one), output(&other));
    // With two widths no number of channels says what a number of heads does.
    let two = |num_heads| ModelConfig { attention: vec![8, 4], num_heads, ..by_channels.clone() };
    assert_ne!(output(&two(0)), output(&two(4)));
}

#[test]
fn every_prediction_tells_the_same_image_and_noise() {
    let device = device();
    let shape = [2, 3, 4, 4];
    let y0 = rand_keyed(&[1, 2], &shape[1..], device).unwrap() * 2.0 - 1.0;
    let epsilon = randn_keyed(&[3, 4], &shape[1..], device).unwrap();
    for gamma in [0.05_f64, 0.5, 0.95] {
        let level = |x: f64| Tensor::full([2, 1, 1, 1], x, floats());
        let (signal, sigma) = (level(gamma.sqrt()), level((1.0 - gamma).sqrt()));
        let y = &y0 * &signal + &epsilon * &sigma;
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::Y0] {
            let output = prediction.target(&y0, &epsilon, &signal, &sigma).unwrap();
            let image = prediction.to_y0(&output, &y, gamma).unwrap();
            let noise = prediction.to_epsilon(&output, &y, gamma).unwrap();
            let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
            assert!(off(&image, &y0) < 1e-5 && off(&noise, &epsilon) < 1e-5);
        }
    }
}
