//! The classifier as TorchScript, with the configuration of the extractor that it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::{CModule, Device, Kind, Tensor, no_grad};

use super::Trained;
use super::network::Network;
use crate::extractor::probe;

/// Writes `file` and beside it the configuration, whose path is given back; what the configuration
/// knows of the probe picture is from the network itself, before it was traced.
///
/// # Errors
/// Where a file cannot be written; those of libtorch.
pub fn export(trained: &Trained, side: u32, file: &Path) -> Result<PathBuf> {
    let network = &trained.network;
    let picture = probe(side);
    let shape = [1, i64::from(side), i64::from(side), 3];
    let bytes = Tensor::f_from_data_size(picture.as_raw(), &shape, Kind::Uint8)?;
    let example = bytes.f_permute([0, 3, 1, 2])?.f_contiguous()?.f_to_device(trained.device)?;
    let (features, logits) = no_grad(|| network.forward(&example, false))?;
    let module = trace(network, example)?;

    let (sha256, _) = storage::named::write_by(file, |beside| -> Result<_> {
        module.save(beside).with_context(|| file.display().to_string())?;
        Ok(storage::atomic::sha256_file(beside)?)
    })?;

    let first = |tensor: &Tensor| -> Result<String> {
        let row = tensor.f_get(0)?.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?;
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
        width = network.width,
        features = first(&features)?,
        logits = first(&logits)?,
    );
    let config = file.with_extension("toml");
    storage::named::write(&config, text.as_bytes())?;
    Ok(config)
}

/// The network on the CPU, which gives features and logits beside each other: a traced method has one value.
fn trace(network: &Network, example: Tensor) -> Result<CModule> {
    let mut failed = None;
    let mut forward = |inputs: &[Tensor]| {
        let given = network
            .forward(&inputs[0], false)
            .and_then(|(features, logits)| Ok(Tensor::f_cat(&[features, logits], 1)?));
        given.map(|tensor| vec![tensor]).unwrap_or_else(|error| {
            failed = Some(error);
            Vec::new()
        })
    };
    let module =
        no_grad(|| CModule::create_by_tracing("Classifier", "forward", &[example], &mut forward));
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut module = module.map_err(torch_ext::Error::from).context("not traceable")?;
    module.to(Device::Cpu, Kind::Float, false);
    Ok(module)
}
