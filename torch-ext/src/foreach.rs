//! One call for all tensors of a network, where a loop would launch one small kernel each.
use crate::{Error, ffi};
use tch::Tensor;

/// `target ← target + weight · (source − target)` for every pair: the EMA update with
/// `weight = 1 − decay`. Shapes, kinds and devices must agree pairwise.
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: f64) -> Result<(), Error> {
    if targets.len() != sources.len() {
        return Err(Error::Mismatch(format!(
            "{} averaged tensors cannot follow {} weights",
            targets.len(),
            sources.len()
        )));
    }
    let (to, from) = (ffi::pointers(targets), ffi::pointers(sources));
    // SAFETY: both lists hold live tensors of equal number, borrowed over the call.
    ffi::check(unsafe { ffi::palette_lerp(to.as_ptr(), from.as_ptr(), to.len(), weight) })
}

/// The L2 norm of all gradients of the parameters together: a scalar on their device, so that
/// nothing waits for the device until it is read.
pub fn gradient_norm(parameters: &[Tensor]) -> Result<Tensor, Error> {
    let list = ffi::pointers(parameters);
    // SAFETY: the list holds live tensors, borrowed over the call.
    ffi::returned(|out| unsafe { ffi::palette_gradient_norm(list.as_ptr(), list.len(), out) })
}

/// Scales the gradients down so that their norm is at most `max_norm`, and returns the norm
/// before (a scalar on the device). The factor is `min(1, max_norm / (norm + 1e-6))`.
pub fn clip_gradients(parameters: &[Tensor], max_norm: f64) -> Result<Tensor, Error> {
    let norm = gradient_norm(parameters)?;
    let factor = ((&norm + 1e-6).f_reciprocal()? * max_norm).f_clamp_max(1.0)?;
    let list = ffi::pointers(parameters);
    // SAFETY: the list and the factor are live tensors, borrowed over the call.
    ffi::check(unsafe {
        ffi::palette_scale_gradients(list.as_ptr(), list.len(), factor.as_ptr())
    })?;
    Ok(norm)
}

/// Drops all gradients, so that the next backward pass writes them anew.
pub fn drop_gradients(parameters: &[Tensor]) -> Result<(), Error> {
    let list = ffi::pointers(parameters);
    // SAFETY: the list holds live tensors, borrowed over the call.
    ffi::check(unsafe { ffi::palette_drop_gradients(list.as_ptr(), list.len()) })
}

/// Gives each parameter its gradient, of the same shape: a backward pass adds to it.
pub fn set_gradients(parameters: &[Tensor], gradients: &[Tensor]) -> Result<(), Error> {
    if parameters.len() != gradients.len() {
        return Err(Error::Mismatch(format!(
            "{} gradients cannot be those of {} parameters",
            gradients.len(),
            parameters.len()
        )));
    }
    let (to, from) = (ffi::pointers(parameters), ffi::pointers(gradients));
    // SAFETY: both lists hold live tensors of equal number, borrowed over the call.
    ffi::check(unsafe { ffi::palette_set_gradients(to.as_ptr(), from.as_ptr(), to.len()) })
}

/// Says that tensors were changed through others that share their memory, for what is kept beside them
/// goes by a count of changes.
pub fn mark_changed(tensors: &[Tensor]) -> Result<(), Error> {
    let list = ffi::pointers(tensors);
    // SAFETY: the list holds live tensors, borrowed over the call.
    ffi::check(unsafe { ffi::palette_changed(list.as_ptr(), list.len()) })
}
