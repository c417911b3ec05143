//! Whether weights can be those of a network at all, by the sizes of their tensors: found by arithmetic, before the
//! network is built. What a file says of its network is free to say; what it holds is not.

use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;
use tch::Tensor;

use crate::{Error, ModelConfig, Result, regular};

/// The longest header of weights of our own: a tensor takes about a hundred bytes of it.
const LONGEST_HEADER: u64 = 16 << 20;

/// Compares tensors with the network that they are said to be of, for images of this height and width.
///
/// # Errors
/// When the configuration is invalid, or the network has other tensors.
pub fn check_tensors(
    tensors: &[(String, Tensor)],
    model: &ModelConfig,
    image_size: [u32; 2],
    path: &Path,
) -> Result<()> {
    let sizes = tensors.iter().map(|(_, tensor)| tensor.numel() as u64).collect();
    check(sizes, model, image_size, path)
}

/// As [`check_tensors`], of a safetensors file, of which the header alone is read.
///
/// # Errors
/// As [`check_tensors`]; when the file cannot be read, or is shorter or longer than its header says.
pub fn check_file(path: &Path, model: &ModelConfig, image_size: [u32; 2]) -> Result<()> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let unread = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
    let (mut file, length) = regular::open(path).map_err(unread)?;
    let mut bytes = vec![0; 8];
    file.read_exact(&mut bytes).map_err(unread)?;
    let header = u64::from_le_bytes(bytes[..].try_into().unwrap_or_default());
    if header > LONGEST_HEADER.min(length.saturating_sub(8)) {
        return Err(wrong(format!("is not a safetensors file: its header says {header} bytes")));
    }
    bytes.clear();
    file.take(header).read_to_end(&mut bytes).map_err(unread)?;
    // Checks that the tensors follow one another, and are as long as their shapes say.
    let found: Metadata = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("is not a safetensors file: {error}")))?;
    let there = length - 8 - header;
    if found.data_len() as u64 != there {
        let message = format!("has {there} bytes of tensors, its header says {}", found.data_len());
        return Err(wrong(message));
    }
    let numbers = |shape: &[usize]| shape.iter().map(|&side| side as u64).product();
    let sizes = found.tensors().values().map(|tensor| numbers(&tensor.shape)).collect();
    check(sizes, model, image_size, path)
}

fn check(
    mut sizes: Vec<u64>,
    model: &ModelConfig,
    image_size: [u32; 2],
    path: &Path,
) -> Result<()> {
    let named = |error: Error| Error::Weights {
        path: path.display().to_string(),
        message: format!("is of no network: {error}"),
    };
    let mut wanted = model.complexity(image_size).map_err(named)?.weights;
    sizes.sort_unstable();
    wanted.sort_unstable();
    if sizes == wanted {
        return Ok(());
    }
    let sum = |sizes: &[u64]| sizes.iter().map(|&size| u128::from(size)).sum::<u128>();
    let message = format!(
        "holds {} numbers in {} tensors, the network that it is said to be of has {} in {}",
        sum(&sizes),
        sizes.len(),
        sum(&wanted),
        wanted.len()
    );
    Err(Error::Weights { path: path.display().to_string(), message })
}
