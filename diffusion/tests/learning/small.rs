//! A small network, images for it, and how two sets of tensors differ.

use diffusion::noise::{Stream, sample_keys};
use diffusion::{DeviceBatch, ModelConfig, UNet, weights};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use torch_ext::Numerics;

pub fn tiny() -> ModelConfig {
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
pub fn device() -> Device {
    Numerics { deterministic: true, ..Numerics::default() }.set().unwrap();
    torch_ext::test_device()
}

pub fn floats() -> (tch::Kind, Device) {
    (tch::Kind::Float, device())
}

pub fn network(config: &ModelConfig, seed: u64) -> (VarStore, UNet) {
    network_on(device(), config, seed)
}

pub fn network_on(device: Device, config: &ModelConfig, seed: u64) -> (VarStore, UNet) {
    // Tests run side by side; libtorch's threads would only wait for each other.
    tch::set_num_threads(1);
    let store = VarStore::new(device);
    let unet = UNet::new(&store.root(), config, 16).unwrap();
    weights::initialise(&store, seed).unwrap();
    (store, unet)
}

/// Images with a gradient of colour; sources grey; the left half is the hole where there is one.
pub fn batch(holes: &[bool]) -> DeviceBatch {
    batch_on(device(), holes)
}

pub fn batch_on(device: Device, holes: &[bool]) -> DeviceBatch {
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

pub fn first(batch: &DeviceBatch, n: i64) -> DeviceBatch {
    let part = |tensor: &Tensor| tensor.narrow(0, 0, n);
    let (target, source, mask) = (part(&batch.target), part(&batch.source), part(&batch.mask));
    DeviceBatch::new(target, source, mask, &batch.hole()[..n as usize]).unwrap()
}

pub fn keys(positions: &[u64]) -> Vec<u64> {
    sample_keys(1, Stream::Training(0), positions)
}

pub fn same(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1 == b.1)
}

/// Gives the layers that begin at zero numbers, which would hide everything behind them.
pub fn shake(store: &VarStore) {
    for (name, variable) in weights::named(store) {
        if name.starts_with("out.2") || name.contains("out_layers.3") || name.contains("proj_out") {
            let key = random::text_key(&name);
            let noise = torch_ext::randn_keyed(&[key], &variable.size(), Device::Cpu).unwrap();
            tch::no_grad(|| variable.shallow_clone().copy_(&(noise.squeeze_dim(0) * 0.05)));
        }
    }
}

pub fn gradients(store: &VarStore) -> Vec<(String, Tensor)> {
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
pub fn off(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> f64 {
    let sum = |tensors: Vec<Tensor>| {
        tensors.iter().map(|t| t.square().sum(tch::Kind::Double).double_value(&[])).sum::<f64>()
    };
    let difference = a.iter().zip(b).map(|((_, a), (_, b))| a - b).collect();
    (sum(difference) / sum(a.iter().map(|(_, t)| t.shallow_clone()).collect())).sqrt()
}
