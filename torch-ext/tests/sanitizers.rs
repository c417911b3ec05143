//! Faults on purpose, each of which the sanitizers must stop: see jpeg-ext/tests/sanitizers.rs.
#![allow(clippy::unwrap_used)]

use std::ffi::c_char;
use tch::{Device, Kind, Tensor};
// Brings the C++ in.
use torch_ext as _;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn palette_fill_keyed(
        out: *const C_tensor,
        keys: *const u64,
        count: usize,
        distribution: i32,
    ) -> *mut c_char;
    fn palette_on_host(
        parts: *const *const u8,
        sizes: *const usize,
        count: usize,
        pinned: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
}

#[test]
#[ignore = "reads past the end of its memory"]
fn cpp_goes_past_the_end() {
    let rows = Tensor::zeros([2, 8], (Kind::Float, Device::Cpu));
    let keys = Box::new([1u64]);
    // SAFETY: it is not sound: there is one key for two rows. Without checks it is whatever malloc padded with.
    let message = unsafe { palette_fill_keyed(rows.as_ptr(), keys.as_ptr(), 2, 0) };
    assert!(message.is_null());
}

#[test]
#[ignore = "overflows"]
fn cpp_overflows() {
    let sizes = [i64::MAX as usize, 1];
    let mut out = std::ptr::null_mut();
    // SAFETY: it is not sound: the sum of the sizes does not fit. Without checks it is negative, which libtorch
    // refuses before a part is read.
    let message = unsafe {
        palette_on_host([std::ptr::null(); 2].as_ptr(), sizes.as_ptr(), 2, false, &raw mut out)
    };
    assert!(!message.is_null());
}
