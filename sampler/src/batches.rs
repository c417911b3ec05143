//! How many images go through the network at once: as many as were asked for, or as memory allows;
//! fewer once it runs out.

use std::cell::Cell;

use anyhow::Result;
use diffusion::Precision;
use tch::Device;

use crate::design::Design;

/// More at once were hardly faster on a CPU (docs/benchmarks.md). On an H100 16 images of 256×256 keep the GPU
/// busy; small images need more.
const USEFUL_CPU: usize = 64;
const USEFUL_GPU: usize = 256;

/// Float images that a reverse process holds beside the network's own numbers: what it was given, its
/// condition, the noise, two estimates, sums.
const HELD: u64 = 12;

/// A size of batches that memory suffices for.
#[derive(Debug)]
pub struct Batches {
    size: Cell<usize>,
}

impl Batches {
    /// As many as asked for.
    pub fn of(size: usize) -> Self {
        Self { size: Cell::new(size.max(1)) }
    }

    /// As many as fit into half of the memory that is free now, of which each of `sharing` processes takes a part,
    /// and as make it faster.
    ///
    /// # Errors
    /// When the network is invalid or the device does not answer.
    pub fn found(
        design: &Design,
        precision: Precision,
        device: Device,
        sharing: usize,
    ) -> Result<Self> {
        let useful = if device == Device::Cpu { USEFUL_CPU } else { USEFUL_GPU };
        let image = image_bytes(design, precision)?;
        let fitting = torch_ext::free_memory(device)? / 2 / sharing.max(1) as u64 / image.max(1);
        Ok(Self::of(usize::try_from(fitting).unwrap_or(useful).min(useful)))
    }

    /// How many there are at most now.
    pub fn size(&self) -> usize {
        self.size.get()
    }

    /// Lets `pass` work on as many images as go at once, `images` at most: on half of them again
    /// where memory ran out, and from then on.
    ///
    /// # Errors
    /// Those of `pass`; that memory ran out only for a single image.
    pub fn fit<T>(&self, images: usize, mut pass: impl FnMut(usize) -> Result<T>) -> Result<T> {
        loop {
            let count = self.size().min(images.max(1));
            let error = match pass(count) {
                Err(error) if torch_ext::is_out_of_memory(&format!("{error:#}")) => error,
                result => return result,
            };
            if count == 1 {
                let remedy = "memory does not suffice for a single image: make pictures smaller, or \
                              take --precision bf16";
                let said = torch_ext::explain_out_of_memory(&format!("{error:#}"), remedy);
                return Err(said.map_or(error, anyhow::Error::msg));
            }
            self.size.set(count / 2);
            torch_ext::release_memory();
            tracing::info!(
                note = true,
                "memory does not suffice for {count} images at once; going on with {} \
                 (--batch {} saves the attempt; {error:#})",
                count / 2,
                count / 2
            );
        }
    }
}

/// Bytes that one image takes on its way: the network's numbers as its plan has them, and those of the
/// reverse process.
fn image_bytes(design: &Design, precision: Precision) -> Result<u64> {
    let [height, width] = design.image_size.map(u64::from);
    Ok(design.model.pass_bytes(design.image_size, precision)? + canvas_bytes(height * width))
}

/// Bytes that the reverse process of a picture of so many pixels holds.
pub fn canvas_bytes(pixels: u64) -> u64 {
    pixels.saturating_mul(3 * 4 * HELD)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_batch_that_does_not_fit_is_halved_and_stays_so() {
        let batches = Batches::of(16);
        let pass = |count: usize| {
            if count > 5 {
                bail!("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory");
            }
            Ok(count)
        };
        assert_eq!(batches.fit(12, pass).unwrap(), 3, "12, 6, 3");
        assert_eq!(batches.size(), 3);
        assert_eq!(batches.fit(2, pass).unwrap(), 2);
    }

    #[test]
    fn other_errors_and_single_images_end_it() {
        let batches = Batches::of(4);
        let other: Result<()> = batches.fit(4, |_| bail!("the checkpoint is damaged"));
        assert!(other.is_err() && batches.size() == 4);
        let single: Result<()> = batches.fit(1, |_| bail!("CUDA out of memory. Tried to allocate"));
        assert!(single.unwrap_err().to_string().contains("out of memory"));
    }
}
