//! Group norm, scale and shift, SiLU as one operation.
use crate::{Error, ffi};
use tch::{Device, Kind, Tensor};

/// `SiLU(h·(1 + scale) + shift)` with `h = GroupNorm(x)`: x `[B,C,H,W]`, weight and bias `[C]`, scale
/// and shift `[B,C]` (or none, for a plain norm). Statistics are f32 whatever x is.
///
/// On the CPU and in f32 it is a kernel of our own (`cpp/norm.cpp`) that keeps x alone for the
/// backward pass; elsewhere libtorch's operations one after the other.
pub fn norm_silu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    modulation: Option<(&Tensor, &Tensor)>,
    groups: i64,
    epsilon: f64,
) -> Result<Tensor, Error> {
    if x.device() == Device::Cpu && x.kind() == Kind::Float {
        let (scale, shift) = match modulation {
            Some((scale, shift)) => (scale.as_ptr(), shift.as_ptr()),
            None => (std::ptr::null(), std::ptr::null()),
        };
        // SAFETY: live tensors, or null for both of scale and shift; the C++ side checks shapes.
        return ffi::returned(|out| unsafe {
            let (x, weight, bias) = (x.as_ptr(), weight.as_ptr(), bias.as_ptr());
            ffi::palette_norm_silu(x, weight, bias, scale, shift, groups, epsilon, out)
        });
    }
    // libtorch's kernels want one kind for all three, and compute the statistics in f32 themselves.
    let (weight, bias) = (weight.f_to_kind(x.kind())?, bias.f_to_kind(x.kind())?);
    let h = x.f_group_norm(groups, Some(&weight), Some(&bias), epsilon, true)?;
    let h = match modulation {
        Some((scale, shift)) => {
            let pixel = |tensor: &Tensor| tensor.f_unsqueeze(-1)?.f_unsqueeze(-1);
            pixel(shift)?.f_addcmul(&h, &pixel(scale)?.f_add_scalar(1.0)?)?
        }
        None => h,
    };
    Ok(h.f_silu()?)
}
