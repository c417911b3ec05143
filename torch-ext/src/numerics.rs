//! How libtorch computes on a GPU: how f32 is rounded, and whether two runs give the same bits.
use crate::{Error, ffi};

/// Settings of the whole process, for CUDA; results on the CPU do not depend on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numerics {
    /// Convolutions and matrix products of f32 round their factors to TF32 (10 bits of mantissa in
    /// place of 23) and sum in f32. Off, f32 is f32; libtorch's own default is on for convolutions.
    /// bf16 does not depend on it.
    pub tf32: bool,
    /// The same bits from the same inputs on one model of GPU with one libtorch: cuDNN and attention
    /// sum in one order, and an operation that cannot is an error. Off, cuDNN measures its kernels
    /// the first time it meets a shape and takes the fastest (its benchmark mode), so that two
    /// processes may round differently.
    ///
    /// cuBLAS needs nothing (`CUBLAS_WORKSPACE_CONFIG`): what it does not promise is the same bits for
    /// streams that share a workspace, and libtorch gives each handle and stream its own.
    pub deterministic: bool,
}

impl Numerics {
    /// Makes libtorch compute so from here on, on every GPU of the process. Call it before the first
    /// pass of a network: kernels that were chosen stay chosen.
    pub fn set(self) -> Result<(), Error> {
        // libtorch decides once whether there is CUDA: its part for it must be there before it is asked.
        let _ = crate::load_cuda();
        // SAFETY: two values; the C++ side keeps no reference.
        ffi::check(unsafe { ffi::palette_set_numerics(self.tf32, self.deterministic) })
    }

    /// What is set now.
    pub fn current() -> Result<Numerics, Error> {
        let (mut tf32, mut deterministic, mut measured) = (false, false, false);
        // SAFETY: the three places are valid for writing during the call.
        ffi::check(unsafe {
            ffi::palette_numerics(&raw mut tf32, &raw mut deterministic, &raw mut measured)
        })?;
        // Kernels that are chosen by a measurement are not the same in the next process.
        Ok(Numerics { tf32, deterministic: deterministic && !measured })
    }
}
