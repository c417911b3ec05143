//! First weights, losses and their gradients, and training that is interrupted.

use diffusion::{
    AttentionKind, DeviceBatch, DiffusionConfig, Execution, Formulation, LossNorm, ModelConfig,
    NoiseEmbedding, Objective, Pixels, Precision, Prediction, UNet, Weighting, weights,
};
use tch::Tensor;
use tch::nn::VarStore;
use torch_ext::{Adam, AdamOptions, rand_keyed, randn_keyed};

use crate::small::{
    batch, device, first, floats, gradients, keys, network, off, same, shake, tiny,
};

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
