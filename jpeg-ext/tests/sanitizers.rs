//! Faults on purpose, each of which the sanitizers must stop: scripts/sanitize.sh runs them one by one, so that a build
//! without checks is not taken for one without faults. No other run includes them.

use std::ffi::c_long;
// Brings libjpeg-turbo in.
use mozjpeg_sys as _;

unsafe extern "C" {
    /// Transforms 64 values in place.
    fn jpeg_fdct_islow(block: *mut i16);
    /// (a + b − 1) / b.
    fn jdiv_round_up(a: c_long, b: c_long) -> c_long;
}

#[test]
#[ignore = "reads and writes past the end of its memory"]
fn c_goes_past_the_end() {
    let mut block = vec![1i16; 63];
    // SAFETY: it is not sound: a value is missing. The two bytes are padding of malloc's where nothing checks.
    unsafe { jpeg_fdct_islow(block.as_mut_ptr()) };
    std::hint::black_box(block);
}

#[test]
#[ignore = "overflows"]
fn c_overflows() {
    // SAFETY: it is not sound: the sum does not fit. Without checks it wraps around.
    std::hint::black_box(unsafe { jdiv_round_up(c_long::MAX, 2) });
}

#[test]
#[ignore = "loses memory"]
fn memory_is_lost() {
    std::mem::forget(std::hint::black_box(vec![1u8; 1000]));
}
