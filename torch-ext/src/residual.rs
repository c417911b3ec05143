//! The sum that ends a residual block.
use crate::{Error, ffi};
use tch::Tensor;

/// Whether biases of convolutions are best left to the operation that follows: [`crate::norm`] and
/// [`add_with_bias`] add them without a pass over the activations of their own. True on CUDA; oneDNN's
/// convolutions on the CPU add a bias at no cost.
pub fn folds_bias(x: &Tensor) -> bool {
    x.device().is_cuda()
}

/// `x + h + bias`: x and h of one kind, f32 or bf16 `[B,C,H,W]`, bias f32 `[C]`.
pub fn add_with_bias(x: &Tensor, h: &Tensor, bias: &Tensor) -> Result<Tensor, Error> {
    // SAFETY: three live tensors; the C++ side checks shapes, kinds and devices.
    let sum = ffi::maybe_returned(|out| unsafe {
        ffi::palette_add(x.as_ptr(), h.as_ptr(), bias.as_ptr(), out)
    })?;
    match sum {
        Some(sum) => Ok(sum),
        None => Ok(x.f_add(&h.f_add(&bias.f_to_kind(h.kind())?.f_view([1, -1, 1, 1])?)?)?),
    }
}
