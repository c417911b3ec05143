//! Random tensors: number i of a row is a function of (the row's key, i), with the same bits whatever
//! the batch, the threads and the device. They are the numbers of the crate `random`. Called by
//! everything that draws noise for an image.
use crate::{Error, ffi};
use tch::{Device, Kind, Tensor};

/// Standard normal numbers, f32 `[B, shape...]`: row i holds the first ones of `keys[i]`. On a GPU one
/// launch fills the whole batch (of up to 480 images); nothing is copied to the device.
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
