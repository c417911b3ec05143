//! Half and twice the size of activations.
use crate::{Error, ffi};
use tch::Tensor;

/// The mean of each 2×2 pixels: x f32 or bf16 `[B,C,H,W]` with even sides to `[B,C,H/2,W/2]`.
///
/// On CUDA a kernel of our own (`cuda/resample.cu`), forward and backward: libtorch's backward pass of
/// average pooling takes three times as long there.
pub fn half(x: &Tensor) -> Result<Tensor, Error> {
    match resample(x, true)? {
        Some(y) => Ok(y),
        None => Ok(x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?),
    }
}

/// Nearest neighbour: x f32 or bf16 `[B,C,H,W]` to `[B,C,2H,2W]`; otherwise as [`half`].
pub fn twice(x: &Tensor) -> Result<Tensor, Error> {
    match resample(x, false)? {
        Some(y) => Ok(y),
        None => {
            let (_, _, h, w) = x.size4()?;
            Ok(x.f_upsample_nearest2d([2 * h, 2 * w], None, None)?)
        }
    }
}

fn resample(x: &Tensor, halve: bool) -> Result<Option<Tensor>, Error> {
    // SAFETY: a live tensor; the C++ side looks at its shape.
    ffi::maybe_returned(|out| unsafe { ffi::palette_resample(x.as_ptr(), halve, out) })
}
