//! The network against numbers of the reference implementations (`golden/` of the fixtures).
use diffusion::{AttentionOrder, ModelConfig, NoiseEmbedding, UNet, weights};
use std::collections::HashMap;
use std::path::PathBuf;
use tch::{Device, Tensor, nn::VarStore};

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

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// Runs a network and compares its output and the output of every block.
fn agrees(name: &str, config: &ModelConfig) {
    let Some(folder) = golden() else { return };
    let store = VarStore::new(Device::Cpu);
    let unet = UNet::new(&store.root(), config, 32).unwrap();
    weights::load(&store, &folder.join(format!("{name}.weights.safetensors"))).unwrap();
    let cost = config.cost(32).unwrap();
    let parameters: usize = weights::named(&store).iter().map(|(_, t)| t.numel()).sum();
    assert_eq!((cost.parameters, cost.tensors), (parameters as u64, store.len() as u64));

    let io: HashMap<String, Tensor> =
        weights::read_tensors(&folder.join(format!("{name}.io.safetensors")))
            .unwrap()
            .into_iter()
            .collect();
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
