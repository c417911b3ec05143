//! The name of a GPU, asked of the driver that libtorch has loaded.

use std::ffi::{CStr, c_char, c_int};

/// Room for a name; `cuDeviceGetName` cuts what is longer.
const LONGEST: usize = 256;

type Init = unsafe extern "C" fn(u32) -> c_int;
type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;

/// What the driver calls the GPU of this number among those that the process sees, such as
/// `NVIDIA H200`; none where there is no driver or no such GPU.
pub fn card_name(index: usize) -> Option<String> {
    let mut name = [0; LONGEST];
    let index = c_int::try_from(index).ok()?;
    // SAFETY: libcuda.so.1 is the driver's own library and is never unloaded; the symbols have these
    // signatures in every version of CUDA. `name` has room for LONGEST bytes, and the driver ends what
    // it writes with a NUL.
    unsafe {
        let driver = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if driver.is_null() {
            return None;
        }
        let symbol = |symbol: &CStr| {
            let address = libc::dlsym(driver, symbol.as_ptr());
            (!address.is_null()).then_some(address)
        };
        let init = std::mem::transmute::<*mut libc::c_void, Init>(symbol(c"cuInit")?);
        let get = std::mem::transmute::<*mut libc::c_void, Get>(symbol(c"cuDeviceGet")?);
        let name_of = std::mem::transmute::<*mut libc::c_void, Name>(symbol(c"cuDeviceGetName")?);
        let mut device = 0;
        if init(0) != 0 || get(&raw mut device, index) != 0 {
            return None;
        }
        if name_of(name.as_mut_ptr(), LONGEST as c_int, device) != 0 {
            return None;
        }
        Some(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}
