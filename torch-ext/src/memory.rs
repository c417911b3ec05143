//! How much memory a process uses, on the CPU or on a GPU.
use crate::{Error, ffi};
use tch::Device;

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use now.
    pub used: u64,
    /// The most that was in use since the process began.
    pub peak: u64,
}

/// The memory of this process on the CPU (resident, as Linux counts it), or of libtorch's tensors
/// on a GPU.
pub fn memory(device: Device) -> Result<Memory, Error> {
    if let Device::Cuda(index) = device {
        let index = i32::try_from(index)
            .map_err(|_| Error::Mismatch(format!("GPU {index} has no such number")))?;
        let mut memory = Memory { used: 0, peak: 0 };
        // SAFETY: both places are valid for writing during the call.
        ffi::check(unsafe {
            ffi::palette_device_memory(index, &raw mut memory.used, &raw mut memory.peak)
        })?;
        return Ok(memory);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        1024 * kibibytes.unwrap_or(0_u64)
    };
    Ok(Memory { used: bytes("VmRSS:"), peak: bytes("VmHWM:") })
}
