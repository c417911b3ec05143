//! Which device there is. The linker leaves `libtorch_cuda.so` out of programs that name none of
//! its symbols, so that one binary runs everywhere; it is loaded here, once, before anybody asks
//! for CUDA.
use crate::Error;
use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::OnceLock;
use tch::{Cuda, Device};

/// Loads the CUDA part of libtorch if it lies beside the libtorch in use. The error is the
/// reason why this process stays on the CPU: to tell, not to fail over. The first call decides;
/// later ones only repeat the answer.
pub fn load_cuda() -> Result<(), &'static str> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(load).as_ref().map_err(String::as_str).copied()
}

/// The first GPU if one can be used, else the CPU.
pub fn device() -> Device {
    if cuda_missing().is_none() { Device::Cuda(0) } else { Device::Cpu }
}

/// Why there is no GPU for this process, or `None` where there is one.
pub fn cuda_missing() -> Option<String> {
    match load_cuda() {
        Err(reason) => Some(reason.to_owned()),
        Ok(()) if !Cuda::is_available() => Some(no_device().to_owned()),
        Ok(()) => None,
    }
}

/// Why CUDA, which is there, has no device for this process.
fn no_device() -> &'static str {
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(names) if names.trim().is_empty() => {
            "CUDA_VISIBLE_DEVICES hides every GPU, as a worker sets it for a job that got none"
        }
        _ => "no CUDA device answers",
    }
}

/// Why a GPU that this machine has is not used, or `None` where it is used or there is none. To be
/// told to whoever would otherwise wait for a CPU without knowing why.
pub fn idle_gpu() -> Option<String> {
    let driver = std::path::Path::new("/dev/nvidiactl");
    if driver.exists() { cuda_missing() } else { None }
}

/// The device of a name: `auto` (as [`device`]), `cpu`, `cuda` or `cuda:N`. A GPU that is asked
/// for by name and is not there is an error that says why.
pub fn device_named(name: &str) -> Result<Device, Error> {
    let refused = |reason: String| Error::Device { device: name.to_owned(), reason };
    let index = match name {
        "auto" => return Ok(device()),
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<usize>().ok())
            .ok_or_else(|| refused("allowed are auto, cpu, cuda and cuda:N".to_owned()))?,
    };
    if let Some(reason) = cuda_missing() {
        return Err(refused(reason));
    }
    let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
    if index >= count {
        return Err(refused(format!("there are {count} GPUs, numbered from 0")));
    }
    Ok(Device::Cuda(index))
}

/// For tests: the device that the environment names in `PALETTE_TEST_DEVICE` (`cuda`, `cuda:1`), the
/// CPU where it names none. libtorch asks once whether it has CUDA, and a test on the CPU beside this one
/// may make it ask too early: so every test of a program takes its device from here, or none does.
///
/// # Panics
/// When it names a device that is not there: a test that was to run on a GPU must not pass without.
pub fn test_device() -> Device {
    let name = std::env::var("PALETTE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    device_named(&name).unwrap_or_else(|error| panic!("PALETTE_TEST_DEVICE: {error}"))
}

fn load() -> Result<(), String> {
    let cpu = loaded_libtorch().ok_or("libtorch_cpu.so is not loaded as a shared library")?;
    let cuda = cpu.with_file_name("libtorch_cuda.so");
    if !cuda.is_file() {
        return Err(format!("{} does not exist: this libtorch is for CPUs", cuda.display()));
    }
    let path = CString::new(cuda.as_os_str().as_bytes())
        .map_err(|_| "the path of libtorch holds a NUL".to_owned())?;
    // SAFETY: `path` is a NUL-terminated string; libtorch_cuda.so registers itself with the
    // libtorch_cpu.so that is already loaded and is never unloaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_GLOBAL | libc::RTLD_NOW) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror returns null or a string that stays valid until this thread's next dl call.
    let message = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            None
        } else {
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    Err(message.unwrap_or_else(|| format!("{} does not load", cuda.display())))
}

/// The path of the libtorch_cpu.so that this process runs on.
fn loaded_libtorch() -> Option<PathBuf> {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        found: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid record, and `found` is the Option below.
        let (name, found) = unsafe { ((*info).dlpi_name, &mut *found.cast::<Option<PathBuf>>()) };
        if name.is_null() {
            return 0;
        }
        // SAFETY: the name of a loaded object is a NUL-terminated string.
        let name = OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes());
        let path = PathBuf::from(std::ffi::OsString::from_vec(name.as_bytes().to_vec()));
        if path.file_name() == Some(OsStr::new("libtorch_cpu.so")) {
            *found = Some(path);
            return 1;
        }
        0
    }
    let mut found: Option<PathBuf> = None;
    // SAFETY: `visit` has the signature that the loader calls, and `found` outlives the walk.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found.map(|path| path.canonicalize().unwrap_or(path))
}
