//! Memory formats: the same values with other strides.
use crate::{Error, ffi};
use tch::Tensor;

/// The tensor `[B,C,H,W]` with channels innermost in memory (itself when it already is).
pub fn to_channels_last(tensor: &Tensor) -> Result<Tensor, Error> {
    // SAFETY: the tensor lives over the call.
    ffi::returned(|out| unsafe { ffi::palette_channels_last(tensor.as_ptr(), out) })
}

/// Gives a four-dimensional parameter channels-last storage in place. Values, shape and identity
/// (optimizer and variable store hold the same tensor) stay.
pub fn set_channels_last(parameter: &Tensor) -> Result<(), Error> {
    if parameter.dim() != 4 {
        return Err(Error::Mismatch(format!(
            "only tensors of four dimensions have a channels-last layout, this one has {}",
            parameter.dim()
        )));
    }
    // SAFETY: the tensor lives over the call; its data is replaced under libtorch's own rules.
    ffi::check(unsafe { ffi::palette_set_channels_last(parameter.as_ptr()) })
}
