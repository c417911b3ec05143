//! Weight files of any kind that people have: safetensors, or what `torch.save` wrote.
use super::pth;
use crate::{Error, Result};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use tch::{Kind, Tensor};

/// Tensors by name, sorted, and the description that lies beside them in a safetensors file.
pub type Described = (Vec<(String, Tensor)>, HashMap<String, String>);

/// Reads all floating-point tensors of a file onto the CPU as f32. What the file is shows in its
/// first bytes, not in its name. Whole numbers in what `torch.save` wrote (counters, tables) are left
/// out; nothing is executed.
pub fn read_any(path: &Path) -> Result<Described> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    if !is_pth(path).map_err(|error| wrong(format!("cannot be read: {error}")))? {
        let bytes =
            std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| wrong(format!("is neither safetensors nor of torch.save: {error}")))?;
        let description = header.metadata().clone().unwrap_or_default();
        return Ok((super::parse_tensors(&bytes, path)?, description));
    }
    let mut tensors = Vec::new();
    for entry in pth::read(path, None).map_err(|error| wrong(error.to_string()))? {
        let Some(kind) = kind(entry.kind) else { continue };
        let shape: Vec<i64> = entry.shape.iter().map(|&side| side as i64).collect();
        let tensor = Tensor::f_from_data_size(&entry.data, &shape, kind)?;
        tensors.push((entry.name, tensor.f_to_kind(Kind::Float)?));
    }
    Ok((tensors, HashMap::new()))
}

/// A zip archive, or a pickle of protocol 2 and above.
fn is_pth(path: &Path) -> std::io::Result<bool> {
    let mut start = [0; 4];
    let mut file = std::fs::File::open(path)?;
    Ok(file.read_exact(&mut start).is_ok() && (&start == b"PK\x03\x04" || start[0] == 0x80))
}

fn kind(kind: pth::PthKind) -> Option<Kind> {
    match kind {
        pth::PthKind::F64 => Some(Kind::Double),
        pth::PthKind::F32 => Some(Kind::Float),
        pth::PthKind::F16 => Some(Kind::Half),
        pth::PthKind::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}
