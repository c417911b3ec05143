//! How much memory a process uses, on the CPU or on a GPU.
use crate::{Error, ffi};
use tch::Device;

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use now.
    pub used: u64,
    /// The most that was in use since the process began, or since [`reset_peak_memory`].
    pub peak: u64,
}

/// Bytes of a GPU beyond those in tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The most that libtorch's allocator held, in tensors or ready for the next.
    pub peak: u64,
    /// In use now as the driver counts it: with its own, those of libraries and of other processes.
    pub in_use: u64,
}

/// The memory of this process on the CPU (resident, as Linux counts it), or of libtorch's tensors
/// on a GPU.
pub fn memory(device: Device) -> Result<Memory, Error> {
    if let Device::Cuda(index) = device {
        let index = number(index)?;
        let mut memory = Memory { used: 0, peak: 0 };
        // SAFETY: both places are valid for writing during the call.
        ffi::check(unsafe {
            ffi::palette_device_memory(index, &raw mut memory.used, &raw mut memory.peak)
        })?;
        return Ok(memory);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key| kibibytes(&status, key).unwrap_or(0);
    Ok(Memory { used: bytes("VmRSS:"), peak: bytes("VmHWM:") })
}

/// Bytes that this process could still take: on the CPU what Linux calls available, or less where its
/// control group has a limit, or it an address space; on a GPU what is free there.
pub fn free_memory(device: Device) -> Result<u64, Error> {
    if let Device::Cuda(index) = device {
        let (mut free, mut held) = (0, 0);
        // SAFETY: both places are valid for writing during the call.
        ffi::check(unsafe {
            ffi::palette_device_free_memory(number(index)?, &raw mut free, &raw mut held)
        })?;
        return Ok(free + held);
    }
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = [kibibytes(&meminfo, "MemAvailable:"), control_group(), address_space()];
    Ok(limits.into_iter().flatten().min().unwrap_or(u64::MAX))
}

/// What a GPU's memory is taken by beyond tensors; none on the CPU.
pub fn reserved_memory(device: Device) -> Result<Option<Reserved>, Error> {
    let Device::Cuda(index) = device else { return Ok(None) };
    let mut reserved = Reserved { peak: 0, in_use: 0 };
    // SAFETY: both places are valid for writing during the call.
    ffi::check(unsafe {
        ffi::palette_device_reserved(
            number(index)?,
            &raw mut reserved.peak,
            &raw mut reserved.in_use,
        )
    })?;
    Ok(Some(reserved))
}

/// Makes the peaks of [`memory`] and [`reserved_memory`] those from now on. Where Linux does not allow
/// it for the CPU, the peak stays that of the process.
pub fn reset_peak_memory(device: Device) -> Result<(), Error> {
    match device {
        Device::Cuda(index) => {
            // SAFETY: the call takes a number.
            ffi::check(unsafe { ffi::palette_device_reset_peak(number(index)?) })
        }
        _ => {
            // 5 sets VmHWM to what is in memory now (proc_pid_clear_refs(5)).
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            Ok(())
        }
    }
}

/// Gives what this process holds on a device without using it back: to the driver or to the system.
pub fn release_device(device: Device) -> Result<(), Error> {
    if let Device::Cuda(_) = device {
        // SAFETY: the call takes nothing.
        return ffi::check(unsafe { ffi::palette_device_release() });
    }
    release_memory();
    Ok(())
}

/// Gives what this process holds without using it back to the system, so that the next large block finds
/// room. GPUs do this by themselves before they say that memory ran out.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What errors say when memory ran out: the CPU's allocators and oneDNN, then CUDA's driver, runtime
/// and compiler, libtorch's allocator (`CUDA out of memory.`), and cuBLAS, cuDNN, cuFFT, cuSOLVER,
/// cuSPARSE, which each have a status of their own for it.
const SAID: [&str; 11] = [
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "could not create a primitive",
    "out of memory",
    "out_of_memory",
    "cudaerrormemoryallocation",
    "alloc_failed",
    "allocation_failed",
    "oom trying to allocate",
    "not enough memory",
];

/// What they say when memory ran out, and also when something else is wrong: cuDNN found no
/// convolution whose workspace it could have, or none at all for such numbers on such a GPU; a library
/// had no room to begin, or no GPU.
const SUGGESTED: [&str; 4] = [
    "unable to find an engine to execute this computation",
    "unable to find a valid cudnn algorithm",
    "cublas_status_not_initialized",
    "cudnn_status_not_initialized",
];

/// Whether an error says that memory ran out, on a GPU or on the CPU, or is one that a GPU gives then.
pub fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    SAID.iter().chain(&SUGGESTED).any(|said| message.contains(said))
}

/// One error for all that memory that ran out looks like, with what to do about it (`remedy`: "lower
/// …") and what was seen; `None` for any other error.
pub fn explain_out_of_memory(message: &str, remedy: &str) -> Option<String> {
    let lower = message.to_lowercase();
    if SAID.iter().any(|said| lower.contains(said)) {
        return Some(format!("out of memory: {remedy} ({message})"));
    }
    SUGGESTED.iter().any(|said| lower.contains(said)).then(|| {
        format!(
            "most likely out of memory: {remedy}; if a single image fails too, this libtorch lacks \
             kernels for this GPU ({message})"
        )
    })
}

pub(crate) fn number(index: usize) -> Result<i32, Error> {
    i32::try_from(index).map_err(|_| Error::Mismatch(format!("GPU {index} has no such number")))
}

/// The bytes of a line of /proc such as `VmRSS:  1234 kB`.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

/// What the control group (version 2) of this process leaves, where it has a limit.
fn control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{}", path.trim_end_matches('/'));
    let read = |file: &str| {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

/// What `ulimit -v` leaves.
fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let most: u64 = line.split_whitespace().next()?.parse().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(most.saturating_sub(kibibytes(&status, "VmSize:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of libtorch 2.11, cuDNN 9 and CUDA 13 as they arrive here.
    #[test]
    fn memory_that_ran_out_is_known_by_all_its_faces() {
        let faces = [
            "[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory: \
             you tried to allocate 1099511627776 bytes. Error code 12 (Cannot allocate memory)",
            "std::bad_alloc",
            "could not create a primitive",
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.19 GiB of \
             which 1.06 GiB is free.",
            "CUDA error: out of memory",
            "CUDA driver error: out of memory",
            "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
            "cudaErrorMemoryAllocation: out of memory",
            "NVRTC_ERROR_OUT_OF_MEMORY",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
            "cuFFT error: CUFFT_ALLOC_FAILED",
            "OOM trying to allocate workspace for cublaslt",
            "Not enough memory for workspace!",
        ];
        for face in faces {
            let said = explain_out_of_memory(face, "lower --batch").unwrap();
            assert!(is_out_of_memory(face), "{face}");
            assert!(
                said.starts_with("out of memory: lower --batch") && said.contains(face),
                "{said}"
            );
        }
        let doubtful = [
            "GET was unable to find an engine to execute this computation",
            "FIND was unable to find an engine to execute this computation",
            "Unable to find a valid cuDNN algorithm to run convolution",
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        ];
        for face in doubtful {
            let said = explain_out_of_memory(face, "lower --batch").unwrap();
            assert!(is_out_of_memory(face), "{face}");
            assert!(said.starts_with("most likely out of memory") && said.contains(face), "{said}");
        }
        let others = [
            "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0",
            "CUDA error: an illegal memory access was encountered",
            "CUDA error: no kernel image is available for execution on the device",
            "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`",
        ];
        for other in others {
            assert!(!is_out_of_memory(other), "{other}");
            assert!(explain_out_of_memory(other, "lower --batch").is_none());
        }
    }
}
