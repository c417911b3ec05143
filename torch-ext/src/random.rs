//! Random tensors whose rows are functions of keys: row i holds the same bits whatever the batch
//! it is drawn in, on one kind of device. Called by everything that draws noise for an image.
use crate::{Error, ffi};
use tch::{Device, Kind, Tensor};

/// Standard normal numbers, f32 `[B, shape...]`: row i is drawn by a fresh generator that is
/// seeded with all 64 bits of `keys[i]`. CPU and GPU give different numbers for the same key.
pub fn randn_keyed(keys: &[u64], shape: &[i64], device: Device) -> Result<Tensor, Error> {
    fill_keyed(keys, shape, device, 0)
}

/// Uniform numbers in [0, 1), f32 `[B, shape...]`, otherwise as [`randn_keyed`].
pub fn rand_keyed(keys: &[u64], shape: &[i64], device: Device) -> Result<Tensor, Error> {
    fill_keyed(keys, shape, device, 1)
}

fn fill_keyed(
    keys: &[u64],
    shape: &[i64],
    device: Device,
    distribution: i32,
) -> Result<Tensor, Error> {
    let rows = i64::try_from(keys.len())
        .map_err(|_| Error::Mismatch(format!("{} keys are too many", keys.len())))?;
    let shape: Vec<i64> = std::iter::once(rows).chain(shape.iter().copied()).collect();
    let out = Tensor::f_empty(&shape, (Kind::Float, device))?;
    // SAFETY: `out` and `keys` outlive the call; the C++ side checks that the counts agree.
    ffi::check(unsafe {
        ffi::palette_fill_keyed(out.as_ptr(), keys.as_ptr(), keys.len(), distribution)
    })?;
    Ok(out)
}
