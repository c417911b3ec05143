//! Weights in the kind that a network computes in.
use crate::{Error, ffi};
use tch::Tensor;

/// A cast copy in place of a weight: the same numbers as `copy`, and its gradients are those of
/// `weight`, a leaf of the same shape. The copy must be of the weight as it is now.
pub fn copy_of(weight: &Tensor, copy: &Tensor) -> Result<Tensor, Error> {
    // SAFETY: two live tensors; the C++ side compares their shapes.
    ffi::returned(|out| unsafe { ffi::palette_copy_of(weight.as_ptr(), copy.as_ptr(), out) })
}

/// `a · b`, f32, of the bf16 matrices a `[N,K]` and b `[K,M]`: what a product of bf16 would round away
/// is kept. On CUDA only.
pub fn wide_product(a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    // SAFETY: two live tensors; libtorch checks shapes, kinds and device.
    ffi::returned(|out| unsafe { ffi::palette_wide_product(a.as_ptr(), b.as_ptr(), out) })
}
