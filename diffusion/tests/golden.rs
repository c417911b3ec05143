//! The network against numbers of the reference implementations (`golden/` of the fixtures).
#![allow(clippy::unwrap_used)]

use diffusion::reverse::{Known, Levels, Method, Process, Step};
use diffusion::weights::{Format, Hints};
use diffusion::{
    AttentionOrder, ModelConfig, NoiseEmbedding, Pass, Prediction, Schedule, ScheduleConfig, UNet,
    weights,
};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor, nn::VarStore};
use torch_ext::Numerics;

/// The folder of golden numbers, or `None` with a line that says so.
fn golden() -> Option<PathBuf> {
    match std::env::var_os("PALETTE_FIXTURES") {
        Some(fixtures) => Some(PathBuf::from(fixtures).join("golden")),
        None => {
            println!("skipped: PALETTE_FIXTURES is not set");
            None
        }
    }
}

/// The device under test, in f32 without TF32: the references are f32.
fn device() -> Device {
    Numerics::default().set().unwrap();
    torch_ext::test_device()
}

/// The tensors of a file, on that device.
fn tensors(file: &Path) -> HashMap<String, Tensor> {
    let tensors = weights::read_tensors(file).unwrap().into_iter();
    tensors.map(|(name, tensor)| (name, tensor.to_device(device()))).collect()
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

fn hints(head_channels: u32, attention_order: AttentionOrder) -> Hints {
    Hints {
        image_size: Some(32),
        head_channels: Some(head_channels),
        attention_order: Some(attention_order),
        ..Hints::default()
    }
}

/// Runs a network and compares its output and the output of every block.
fn agrees(name: &str, config: &ModelConfig) {
    let Some(folder) = golden() else { return };
    let store = VarStore::new(device());
    let unet = UNet::new(&store.root(), config, 32).unwrap();
    let file = folder.join(format!("{name}.weights.safetensors"));
    weights::load(&store, &file).unwrap();
    // Its shapes tell of the same network.
    let hints = hints(config.head_channels, config.attention_order);
    let imported = weights::import(&file, Format::Adm, &hints).unwrap();
    assert_eq!((&imported.model, imported.notes.len()), (config, 0));
    assert_eq!(imported.diffusion.training, ScheduleConfig::ADM);
    let complexity = config.complexity([32, 32]).unwrap();
    let parameters: usize = weights::named(&store).iter().map(|(_, t)| t.numel()).sum();
    assert_eq!(
        (complexity.parameters, complexity.tensors),
        (parameters as u64, store.len() as u64)
    );

    let io = tensors(&folder.join(format!("{name}.io.safetensors")));
    let (y, trace) = tch::no_grad(|| unet.forward_traced(&io["x"], &io["timestep"])).unwrap();
    let mut compared = 0;
    for (block, activation) in &trace {
        let expected = &io[&format!("activation.{block}")];
        let off = difference(activation, expected);
        assert!(off < 1e-4, "{name}, {block}: off by {off}");
        compared += 1;
    }
    assert_eq!(compared, io.keys().filter(|key| key.starts_with("activation.")).count());
    let off = difference(&y, &io["y"]);
    assert!(off < 1e-4, "{name}: off by {off}");
    println!("{name}: {compared} blocks, output off by {off:.1e}");
}

#[test]
fn adm_with_the_legacy_attention_order() {
    agrees(
        "adm_small",
        &ModelConfig {
            model_channels: 32,
            channel_mult: vec![1, 2, 2],
            res_blocks: 1,
            attention: vec![16, 8],
            head_channels: 16,
            noise_embedding: NoiseEmbedding::Timestep,
            ..ModelConfig::default()
        },
    );
}

#[test]
fn adm_with_the_new_attention_order() {
    agrees(
        "adm_newattn",
        &ModelConfig {
            model_channels: 32,
            channel_mult: vec![1, 2],
            res_blocks: 2,
            attention: vec![16],
            head_channels: 32,
            noise_embedding: NoiseEmbedding::Timestep,
            attention_order: AttentionOrder::New,
            ..ModelConfig::default()
        },
    );
}

/// One pass of the PyTorch Palette's network, and a whole inpainting run of 10 steps with its
/// noise given: every step of the trajectory.
#[test]
fn the_pytorch_palette_and_its_trajectory() {
    let Some(folder) = golden() else { return };
    let config = ModelConfig {
        model_channels: 32,
        channel_mult: vec![1, 2, 4],
        res_blocks: 1,
        attention: vec![16, 8],
        head_channels: 16,
        dropout: 0.2,
        condition_first: true,
        ..ModelConfig::default()
    };
    let store = VarStore::new(device());
    let unet = UNet::new(&store.root(), &config, 32).unwrap();
    let hints = hints(16, AttentionOrder::Legacy);
    for file in ["janspiry_small.weights.safetensors", "janspiry_small_Network.pth"] {
        let theirs = weights::import(&folder.join(file), Format::Janspiry, &hints).unwrap();
        assert_eq!(ModelConfig { dropout: 0.2, ..theirs.model }, config, "{file}");
        weights::assign(&store, &theirs.weights, &folder.join(file)).unwrap();
    }
    assert_eq!(config.complexity([32, 32]).unwrap().parameters, 3_213_123);

    let io = tensors(&folder.join("janspiry_small.io.safetensors"));
    let _guard = tch::no_grad_guard();
    let gamma = io["denoise.gamma"].flatten(0, -1);
    let output = unet.denoise(&io["denoise.y_noisy"], &io["cond"], &gamma, Pass::Evaluate).unwrap();
    let off = difference(&output, &io["denoise.output"]);
    assert!(off < 1e-4, "one pass: off by {off}");

    let schedule = Schedule::new(&ScheduleConfig { steps: 10, start: 1e-4, end: 0.09 }).unwrap();
    for t in 0..10 {
        let expected = io["restore.gammas"].double_value(&[t]);
        assert!((schedule.gamma(t as usize + 1) - expected).abs() < 1e-6);
    }
    let mut worst = 0.0_f64;
    let mut seen = 0;
    let mut process = Process {
        prediction: Prediction::Epsilon,
        clip: true,
        eta: 0.0,
        known: Some(Known { mask: &io["mask"], pixels: &io["y0"] }),
        denoise: &|y, gamma| {
            let gamma = Tensor::full([2], gamma, (Kind::Float, device()));
            unet.denoise(y, &io["cond"], &gamma, Pass::Evaluate)
        },
        noise: &mut |step| Ok(io["restore.noise"].get(step as i64)),
        on_step: &mut |step: &Step| {
            let expected = io["restore.trajectory"].get((step.total - 1 - step.left) as i64);
            worst = worst.max(difference(step.y, &expected));
            seen += 1;
            ControlFlow::Continue(())
        },
    };
    let (start, levels) = (&io["restore.y_T"], Levels::every(&schedule));
    let y = Method::Posterior.run(start, &levels, &mut process).unwrap();
    assert!(difference(&y, &io["restore.trajectory"].get(9)) < 1e-4);
    assert_eq!(seen, 10);
    assert!(worst < 1e-4, "trajectory: off by {worst}");
    println!("one pass off by {off:.1e}, trajectory by {worst:.1e}");
}

/// What `trainer verify` does: every number of the three files, and a weight that is off shows.
#[test]
fn verification_finds_what_is_off() {
    let Some(folder) = golden() else { return };
    let cases = [
        ("adm_small", Format::Adm, 16, AttentionOrder::Legacy, 11),
        ("adm_newattn", Format::Adm, 32, AttentionOrder::New, 13),
        ("janspiry_small", Format::Janspiry, 16, AttentionOrder::Legacy, 11),
    ];
    for (name, format, head_channels, order, least) in cases {
        let file = folder.join(format!("{name}.weights.safetensors"));
        let imported = weights::import(&file, format, &hints(head_channels, order)).unwrap();
        let store = VarStore::new(device());
        let unet = UNet::new(&store.root(), &imported.model, 32).unwrap();
        weights::assign(&store, &imported.weights, &file).unwrap();
        let io = folder.join(format!("{name}.io.safetensors"));
        let differences = weights::verify(&unet, &io, [1e-4, 0.09]).unwrap();
        assert!(differences.len() >= least, "{name}: {} compared", differences.len());
        assert!(differences.iter().all(|d| d.difference < 1e-4), "{name}: {differences:?}");

        let bias = store.variables().remove("out.2.bias").unwrap();
        tch::no_grad(|| {
            let _ = bias.shallow_clone().get(1).f_add_scalar_(0.01).unwrap();
        });
        let off = weights::verify(&unet, &io, [1e-4, 0.09]).unwrap();
        assert!(off.iter().any(|d| d.difference > 0.009), "{name}: {off:?}");
    }
    let janspiry = folder.join("janspiry_small.io.safetensors");
    let store = VarStore::new(device());
    let config = ModelConfig {
        norm_groups: 8,
        model_channels: 8,
        channel_mult: vec![1],
        attention: vec![],
        head_channels: 8,
        ..ModelConfig::default()
    };
    let unet = UNet::new(&store.root(), &config, 32).unwrap();
    let error = weights::verify(&unet, &janspiry, [1e-4, 0.02]).unwrap_err().to_string();
    assert!(error.contains("linear schedule"), "{error}");
    let nothing = folder.join("metrics.safetensors");
    assert!(weights::verify(&unet, &nothing, [1e-4, 0.02]).is_err());
}
