//! Group norm, scale and shift, SiLU as one operation.
use crate::{Error, ffi};
use tch::Tensor;

/// A group norm and what follows it.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// f32 `[C]`.
    pub weight: &'a Tensor,
    /// f32 `[C]`.
    pub bias: &'a Tensor,
    /// Groups of neighbouring channels.
    pub groups: i64,
    /// Added to the variance.
    pub epsilon: f64,
    /// Scale and shift, f32 `[B,C]`; none for a plain norm.
    pub modulation: Option<(&'a Tensor, &'a Tensor)>,
    /// Added to x before all, f32 `[C]`: the bias of the convolution that made x, which then needs no
    /// pass of its own. Only where [`crate::folds_bias`] says so.
    pub added: Option<&'a Tensor>,
    /// Whether SiLU ends it.
    pub silu: bool,
}

/// `SiLU(h·(1 + scale) + shift)` with `h = GroupNorm(x + added)`: x f32 or bf16 `[B,C,H,W]`, the result
/// of the same kind with its channels innermost. Statistics are f32 whatever x is.
///
/// On the CPU in f32 and with SiLU it is a kernel of our own (`cpp/norm.cpp`), and so it is on CUDA
/// (`cuda/norm.cu`), in f32 and bf16; both keep x alone for the backward pass. Elsewhere libtorch's
/// operations one after the other.
pub fn norm(x: &Tensor, norm: &Norm) -> Result<Tensor, Error> {
    match kernel(x, norm, false)? {
        Some(y) => Ok(y),
        None => one_by_one(x, norm),
    }
}

/// As [`norm`] on CUDA, but on the CPU: the same blocks and trees of sums, one after the other. Slow;
/// it is there to check the algorithm without a GPU.
pub fn norm_in_blocks(x: &Tensor, norm: &Norm) -> Result<Tensor, Error> {
    kernel(x, norm, true)?.ok_or_else(|| Error::Mismatch("no kernel for these numbers".to_owned()))
}

fn kernel(x: &Tensor, norm: &Norm, blocks: bool) -> Result<Option<Tensor>, Error> {
    let pointer = |tensor: Option<&Tensor>| tensor.map_or(std::ptr::null(), Tensor::as_ptr);
    let (scale, shift) = (norm.modulation.map(|it| it.0), norm.modulation.map(|it| it.1));
    // SAFETY: live tensors, or null where there are none (both of scale and shift); the C++ side checks
    // shapes, kinds and devices.
    ffi::maybe_returned(|out| unsafe {
        ffi::palette_norm(
            x.as_ptr(),
            norm.weight.as_ptr(),
            norm.bias.as_ptr(),
            pointer(scale),
            pointer(shift),
            pointer(norm.added),
            norm.groups,
            norm.epsilon,
            norm.silu,
            blocks,
            out,
        )
    })
}

fn one_by_one(x: &Tensor, norm: &Norm) -> Result<Tensor, Error> {
    // libtorch's kernels want one kind for all three.
    let of_kind = |tensor: &Tensor| tensor.f_to_kind(x.kind());
    let pixel = |tensor: &Tensor| of_kind(tensor)?.f_unsqueeze(-1)?.f_unsqueeze(-1);
    let x = match norm.added {
        Some(added) => x.f_add(&of_kind(added)?.f_view([1, -1, 1, 1])?)?,
        None => x.shallow_clone(),
    };
    let (weight, bias) = (of_kind(norm.weight)?, of_kind(norm.bias)?);
    let h = x.f_group_norm(norm.groups, Some(&weight), Some(&bias), norm.epsilon, true)?;
    let h = match norm.modulation {
        Some((scale, shift)) => pixel(shift)?.f_addcmul(&h, &pixel(scale)?.f_add_scalar(1.0)?)?,
        None => h,
    };
    Ok(if norm.silu { h.f_silu()? } else { h })
}
