//! Activation checkpointing: the inside of a part of the network is computed again in the backward
//! pass instead of being kept.
use crate::{Error, ffi};
use std::ffi::{c_char, c_void};
use std::mem::ManuallyDrop;
use tch::Tensor;
use torch_sys::C_tensor;

type Function = dyn Fn(&[Tensor]) -> Result<Tensor, Error>;

/// Runs `function` on the inputs. The backward pass runs it once more with the same inputs, so it
/// must give the same numbers again; weights that it captures gather their gradients. At least one
/// input must require a gradient, or there is no backward pass. On a GPU the second run is on another thread, while
/// the first waits for it: the function may capture an [`std::rc::Rc`], but nothing that is bound to its thread.
pub fn segment(
    inputs: &[&Tensor],
    function: impl Fn(&[Tensor]) -> Result<Tensor, Error> + 'static,
) -> Result<Tensor, Error> {
    let boxed: Box<Box<Function>> = Box::new(Box::new(function));
    let data = Box::into_raw(boxed).cast::<c_void>();
    let list: Vec<*const C_tensor> = inputs.iter().map(|tensor| tensor.as_ptr()).collect();
    // SAFETY: the C++ side owns `data` from here on, also where it fails, and gives it to `drop_function` once;
    // the list holds live tensors. A GPU's backward pass calls from a thread of libtorch while the thread that
    // asked for it waits and holds the graph, so that nothing captured is used or dropped by two threads at a time.
    ffi::returned(|out| unsafe {
        ffi::palette_segment(data, call, drop_function, list.as_ptr(), list.len(), out)
    })
}

unsafe extern "C" fn call(
    data: *mut c_void,
    inputs: *const *mut C_tensor,
    count: usize,
    out: *mut *mut C_tensor,
) -> *mut c_char {
    // SAFETY: `data` is what `segment` made, alive until `drop_function`.
    let function = unsafe { &*data.cast::<Box<Function>>() };
    let inputs: &[*mut C_tensor] = match count {
        // The address of an empty list may be null.
        0 => &[],
        // SAFETY: the C++ side passes `count` addresses, which stay as they are during the call.
        _ => unsafe { std::slice::from_raw_parts(inputs, count) },
    };
    // SAFETY: each is that of a live tensor, which is cloned and not kept.
    let cloned = |&tensor: &*mut C_tensor| unsafe { Tensor::clone_from_ptr(tensor) };
    let inputs: Vec<Tensor> = inputs.iter().map(cloned).collect();
    // A panic must not unwind into C++.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| function(&inputs)));
    let message = match result {
        Ok(Ok(tensor)) => {
            let tensor = ManuallyDrop::new(tensor);
            // SAFETY: `out` is the caller's, who owns the tensor from here on.
            unsafe { *out = tensor.as_ptr().cast_mut() };
            return std::ptr::null_mut();
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a segment of the network panicked".to_owned(),
    };
    ffi::message(&message)
}

unsafe extern "C" fn drop_function(data: *mut c_void) {
    // SAFETY: called once, with what `segment` leaked.
    drop(unsafe { Box::from_raw(data.cast::<Box<Function>>()) });
}
