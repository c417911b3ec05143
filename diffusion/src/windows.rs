//! Canvases larger than the network's images: the network looks at overlapping windows, and what it
//! says of a pixel in several of them is averaged in every step of the reverse process (as in
//! MultiDiffusion, Bar-Tal et al. 2023). So all windows are denoised together, and there is no seam.

use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// How a canvas is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Side of the square windows, at least 2.
    pub side: u32,
    /// Pixels that neighbours share at least, up to `side` − 1.
    pub overlap: u32,
    /// Windows that go through the network at once, at least 1.
    pub batch: usize,
}

impl Windows {
    /// The first pixels of the windows along a side of the canvas: evenly spread, from 0 to the end.
    fn starts(&self, length: i64) -> Result<Vec<i64>> {
        let (side, overlap) = (i64::from(self.side), i64::from(self.overlap));
        if side < 2 || overlap >= side || length < side || self.batch == 0 {
            return Err(Error::Shape(format!(
                "a canvas of {length} pixels cannot be cut into windows of {side}, {overlap} of \
                 them shared, {} at once",
                self.batch
            )));
        }
        let free = length - side;
        let steps = (free + side - overlap - 1) / (side - overlap);
        Ok((0..=steps).map(|i| if steps == 0 { 0 } else { free * i / steps }).collect())
    }

    /// The weight of a window's pixels in the average `[1,1,side,side]`: it falls linearly over the
    /// overlap, and nowhere to 0.
    fn weight(&self, device: Device) -> Result<Tensor> {
        let (side, overlap) = (self.side, f64::from(self.overlap.max(1)));
        let ramp: Vec<f32> = (0..side)
            .map(|i| ((f64::from(i.min(side - 1 - i)) + 0.5) / overlap).min(1.0) as f32)
            .collect();
        let ramp = Tensor::f_from_slice(&ramp)?.f_to_device(device)?;
        Ok(ramp.f_unsqueeze(1)?.f_mul(&ramp.f_unsqueeze(0)?)?.f_view([
            1,
            1,
            i64::from(side),
            i64::from(side),
        ])?)
    }

    /// The network's output for canvases `[B,3,H,W]`, averaged over the windows; `pass` takes windows
    /// of y and of the condition through the network.
    pub(crate) fn denoise(
        &self,
        y: &Tensor,
        condition: &Tensor,
        pass: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (_, _, height, width) = y.size4()?;
        let side = i64::from(self.side);
        let weight = self.weight(y.device())?;
        let sum = y.f_zeros_like()?;
        let weights = Tensor::f_zeros([1, 1, height, width], (Kind::Float, y.device()))?;
        let window = |tensor: &Tensor, [top, left]: [i64; 2]| -> Result<Tensor> {
            Ok(tensor.f_narrow(2, top, side)?.f_narrow(3, left, side)?)
        };
        let mut places = Vec::new();
        for &top in &self.starts(height)? {
            for &left in &self.starts(width)? {
                let _ = window(&weights, [top, left])?.f_add_(&weight)?;
                places.extend((0..y.size()[0]).map(|image| (image, [top, left])));
            }
        }
        for places in places.chunks(self.batch) {
            let cut = |tensor: &Tensor| -> Result<Tensor> {
                let cuts = places
                    .iter()
                    .map(|&(image, place)| window(&tensor.f_narrow(0, image, 1)?, place))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Tensor::f_cat(&cuts, 0)?)
            };
            let output = pass(&cut(y)?, &cut(condition)?)?.f_mul(&weight)?;
            for (number, &(image, place)) in (0..).zip(places) {
                let one = output.f_narrow(0, number, 1)?;
                let _ = window(&sum.f_narrow(0, image, 1)?, place)?.f_add_(&one)?;
            }
        }
        Ok(sum.f_div(&weights)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_cover_a_side_and_overlap(side in 2_u32..64, overlap in 0_u32..63, more in 0_i64..500) {
            let windows = Windows { side, overlap, batch: 1 };
            let length = i64::from(side) + more;
            let starts = windows.starts(length);
            if overlap >= side {
                prop_assert!(starts.is_err());
            } else {
                let starts = starts.unwrap();
                prop_assert_eq!((starts[0], starts[starts.len() - 1]), (0, more));
                for pair in starts.windows(2) {
                    let shared = pair[0] + i64::from(side) - pair[1];
                    prop_assert!(shared >= i64::from(overlap) && shared < i64::from(side));
                }
            }
        }
    }

    #[test]
    fn a_canvas_smaller_than_a_window_is_refused() {
        let windows = Windows { side: 32, overlap: 8, batch: 4 };
        assert!(windows.starts(31).is_err());
        assert!(Windows { batch: 0, ..windows }.starts(64).is_err());
        assert_eq!(windows.starts(32).unwrap(), [0]);
    }
}
