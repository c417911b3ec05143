//! The classifier as TorchScript, with the configuration of the extractor that it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::{CModule, Device, Kind, Tensor, no_grad};

use super::Trained;
use crate::extractor::probe;

/// Writes `file` and beside it the configuration, whose path is given back; what the configuration
/// knows of the probe picture is from the network itself, before it was traced.
///
/// # Errors
/// Where a file cannot be written.
pub fn export(trained: &Trained, side: u32, file: &Path) -> Result<PathBuf> {
    let network = &trained.network;
    let picture = probe(side);
    let shape = [1, i64::from(side), i64::from(side), 3];
    let bytes = Tensor::f_from_data_size(picture.as_raw(), &shape, Kind::Uint8)?;
    let example = bytes.permute([0, 3, 1, 2]).contiguous().to_device(trained.device);
    let (features, logits, mut module) = no_grad(|| {
        let (features, logits) = network.forward(&example, false);
        let mut forward = |inputs: &[Tensor]| {
            let (features, logits) = network.forward(&inputs[0], false);
            // A traced method has one value.
            vec![Tensor::cat(&[features, logits], 1)]
        };
        let module = CModule::create_by_tracing("Classifier", "forward", &[example], &mut forward);
        (features, logits, module)
    });
    let module = module.as_mut().map_err(|error| anyhow::anyhow!("not traceable: {error}"))?;
    module.to(Device::Cpu, Kind::Float, false);

    let beside = file.with_extension("pt.part");
    module.save(&beside).with_context(|| beside.display().to_string())?;
    let bytes = std::fs::read(&beside).with_context(|| beside.display().to_string())?;
    std::fs::remove_file(&beside).with_context(|| beside.display().to_string())?;
    storage::atomic::write(file, &bytes)?;

    let first = |tensor: &Tensor| -> Result<String> {
        let row = tensor.get(0).to_kind(Kind::Double).to_device(Device::Cpu);
        let values: Vec<f64> = Vec::try_from(row)?;
        let texts: Vec<String> = values.iter().take(8).map(|v| format!("{v:.6}")).collect();
        Ok(texts.join(", "))
    };
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let file_name = file.file_name().unwrap_or_default().to_string_lossy();
    let text = format!(
        r#"# A classifier of {classes} classes at {side}x{side}: it finds {accuracy:.1} % of the held-out classes.

name = "{name}"
file = "{file_name}"
sha256 = "{sha256}"
scores = ["fid", "kid", "is", "ca", "pd"]
input = "uint8"
resize = {side}
crop = {side}

[features]
start = 0
width = {width}

[logits]
start = {width}
width = {classes}

[check]
side = {side}
features = [{features}]
logits = [{logits}]
"#,
        classes = network.classes,
        accuracy = 100.0 * trained.accuracy,
        sha256 = storage::atomic::sha256(&bytes),
        width = network.width,
        features = first(&features)?,
        logits = first(&logits)?,
    );
    let config = file.with_extension("toml");
    storage::atomic::write(&config, text.as_bytes())?;
    Ok(config)
}
