//! What to do when memory runs out.

use diffusion::Precision;
use tch::Device;

use contracts::experiment::TrainConfig;

/// The error as it is, or where memory ran out one that names the keys to lower.
pub fn explained(error: anyhow::Error, config: &TrainConfig, device: Device) -> anyhow::Error {
    match torch_ext::explain_out_of_memory(&format!("{error:#}"), &remedy(config, device)) {
        Some(explained) => anyhow::Error::msg(explained),
        None => error,
    }
}

/// The keys that are not at their least yet.
fn remedy(config: &TrainConfig, device: Device) -> String {
    let mut keys = Vec::new();
    if config.at_once() > 1 {
        keys.push(format!("lower train.micro_batch, now {}", config.at_once()));
    }
    if !config.recompute {
        keys.push("set train.recompute = true".to_owned());
    }
    if device.is_cuda() && config.precision.on(device) != Precision::Bf16 {
        keys.push("set train.precision = \"bf16\"".to_owned());
    }
    if keys.is_empty() {
        return "the network does not fit this device even image by image: make it or \
                data.image_size smaller, or take a larger device"
            .to_owned();
    }
    format!("{} (`trainer check` reckons what fits)", keys.join(", or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_to_lower_are_named_as_long_as_there_are_any() {
        let error = || anyhow::anyhow!("libtorch: CUDA out of memory. Tried to allocate 2.00 GiB");
        let said = |config: &TrainConfig, device| explained(error(), config, device).to_string();
        let mut config = TrainConfig { micro_batch: 16, ..TrainConfig::default() };
        let message = said(&config, Device::Cuda(0));
        for word in
            ["out of memory: lower", "train.micro_batch, now 16", "recompute", "bf16", "2.00 GiB"]
        {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
        assert!(!said(&config, Device::Cpu).contains("bf16"));
        config.micro_batch = 1;
        config.recompute = true;
        assert!(said(&config, Device::Cpu).contains("even image by image"));
        let other = explained(anyhow::anyhow!("no such dataset"), &config, Device::Cpu);
        assert_eq!(other.to_string(), "no such dataset");
    }
}
