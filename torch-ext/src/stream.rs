//! Copies between host and device that the host does not wait for. On the CPU there is nothing to copy
//! and nothing to wait for: the same calls hand over the tensor itself.
use crate::{Error, ffi, memory};
use std::ffi::c_void;
use tch::{Device, Tensor};

/// Bytes on a device: the parts one after another, u8 `[n]`. They are free again at once.
///
/// For a GPU they are gathered in pinned memory and copied on a stream of their own, beside what is
/// computed there. What is queued from here on waits for the copy; the host does not.
pub fn upload(parts: &[&[u8]], device: Device) -> Result<Tensor, Error> {
    let (starts, sizes): (Vec<*const u8>, Vec<usize>) =
        parts.iter().map(|part| (part.as_ptr(), part.len())).unzip();
    let pinned = matches!(device, Device::Cuda(_));
    // SAFETY: as many sizes as starts; the parts are borrowed over the call, which only reads them.
    let host = ffi::returned(|out| unsafe {
        ffi::palette_on_host(starts.as_ptr(), sizes.as_ptr(), sizes.len(), pinned, out)
    })?;
    match device {
        Device::Cpu => Ok(host),
        Device::Cuda(index) => {
            let index = memory::number(index)?;
            // SAFETY: `host` lives over the call. libtorch's allocator of pinned memory hands its block
            // out again only when the copy is done.
            ffi::returned(|out| unsafe { ffi::palette_upload(host.as_ptr(), index, out) })
        }
        other => Ok(host.f_to_device(other)?),
    }
}

/// Numbers of a device on their way to the host.
#[derive(Debug)]
pub struct Download {
    host: Tensor,
    /// Passes when they are there; none where they were there from the beginning.
    event: Option<Event>,
}

impl Download {
    /// Begins behind what is queued on the device so far. On the CPU the numbers are the tensor's own:
    /// who goes on to change it must give a copy.
    pub fn begin(tensor: &Tensor) -> Result<Download, Error> {
        if !matches!(tensor.device(), Device::Cuda(_)) {
            return Ok(Download {
                host: tensor.f_detach()?.f_to_device(Device::Cpu)?,
                event: None,
            });
        }
        let mut event = std::ptr::null_mut();
        // SAFETY: the tensor lives over the call; on success `event` is a new event, owned by nobody.
        let host = ffi::returned(|out| unsafe {
            ffi::palette_download(tensor.as_ptr(), out, &raw mut event)
        })?;
        Ok(Download { host, event: Some(Event(event)) })
    }

    /// Whether the numbers are there; does not wait.
    pub fn ready(&self) -> Result<bool, Error> {
        let mut passed = true;
        if let Some(event) = &self.event {
            // SAFETY: the event lives as long as `self`.
            ffi::check(unsafe { ffi::palette_event_passed(event.0, &raw mut passed) })?;
        }
        Ok(passed)
    }

    /// Whether the numbers never were on a GPU.
    pub fn is_local(&self) -> bool {
        self.event.is_none()
    }

    /// The numbers, on the CPU; waits until they are there.
    pub fn wait(self) -> Result<Tensor, Error> {
        if let Some(event) = &self.event {
            // SAFETY: the event lives as long as `self`.
            ffi::check(unsafe { ffi::palette_event_wait(event.0) })?;
        }
        Ok(self.host)
    }
}

/// An event of libtorch, ours alone.
#[derive(Debug)]
struct Event(*mut c_void);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `palette_download` and freed exactly once.
        unsafe { ffi::palette_event_free(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn parts_lie_one_after_another() {
        let bytes = upload(&[&[1, 2], &[], &[3]], Device::Cpu).unwrap();
        assert_eq!((bytes.kind(), bytes.device()), (Kind::Uint8, Device::Cpu));
        assert_eq!(Vec::<u8>::try_from(&bytes).unwrap(), [1, 2, 3]);
        assert_eq!(upload(&[], Device::Cpu).unwrap().size(), [0]);
    }

    #[test]
    fn on_the_cpu_numbers_are_there_at_once_and_not_copied() {
        let numbers = Tensor::from_slice(&[1.5_f32, -2.0]).set_requires_grad(true);
        let download = Download::begin(&numbers).unwrap();
        assert!(download.ready().unwrap());
        let host = download.wait().unwrap();
        assert_eq!(host.data_ptr(), numbers.data_ptr());
        assert!(!host.requires_grad());
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        if crate::cuda_missing().is_some() {
            assert!(matches!(upload(&[&[1]], Device::Cuda(0)), Err(Error::Torch(_))));
        }
    }

    /// Many copies whose memory is used again while computations still read it.
    #[test]
    fn copies_to_a_gpu_and_back_keep_their_numbers() {
        if crate::cuda_missing().is_some() {
            return;
        }
        let device = Device::Cuda(0);
        let busy = Tensor::ones([2048, 2048], (Kind::Float, device));
        let downloads: Vec<Download> = (0..32_u8)
            .map(|round| {
                let bytes = vec![round; 1 << 20];
                let there = upload(&[&bytes], device).unwrap();
                // Keeps the stream busy, so that the sum is late and the next copy early.
                let _ = busy.matmul(&busy);
                Download::begin(&there.sum(Kind::Float)).unwrap()
            })
            .collect();
        for (round, download) in (0..32).zip(downloads) {
            let sum = download.wait().unwrap().double_value(&[]);
            assert_eq!(sum, f64::from(round) * f64::from(1 << 20));
        }
    }
}
