//! Canvases larger than the network's images: the network looks at overlapping windows, and what it
//! says of a pixel in several of them is averaged in every step of the reverse process (as in
//! MultiDiffusion, Bar-Tal et al. 2023). So all windows are denoised together, and there is no seam.

use crate::{Error, Result};
use tch::{Device, Tensor};
use torch_ext::t;

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
        let weight = t(ramp.f_unsqueeze(1)?) * ramp.f_unsqueeze(0)?;
        Ok(weight.value()?.f_view([1, 1, i64::from(side), i64::from(side)])?)
    }

    /// The windows of canvases in which something is generated: 1 in `generated`, `[B,1,H,W]`. What the
    /// network would say elsewhere is not looked at.
    pub(crate) fn cut(&self, generated: &Tensor) -> Result<Cut> {
        let (images, _, height, width) = generated.size4()?;
        let side = i64::from(self.side);
        let weight = self.weight(generated.device())?;
        let weights = generated.f_zeros_like()?;
        let wanted = generated.f_to_device(Device::Cpu)?;
        let (tops, lefts) = (self.starts(height)?, self.starts(width)?);
        let mut windows = Vec::new();
        for image in 0..images {
            for corner in tops.iter().flat_map(|&top| lefts.iter().map(move |&left| [top, left])) {
                let window = Window { image, corner, side };
                if window.of(&wanted)?.f_max()?.f_double_value(&[])? > 0.0 {
                    let _ = window.of(&weights)?.f_add_(&weight)?;
                    windows.push(window);
                }
            }
        }
        // Where no window lies nothing is added up either.
        let weights = weights.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
        Ok(Cut { windows, weight, weights, batch: self.batch })
    }
}

/// A window of one of the canvases.
#[derive(Debug, Clone, Copy)]
struct Window {
    image: i64,
    /// Row and column of its first pixel.
    corner: [i64; 2],
    side: i64,
}

impl Window {
    /// Its part of canvases `[B,C,H,W]`: a view `[1,C,side,side]`.
    fn of(&self, canvases: &Tensor) -> Result<Tensor> {
        let [top, left] = self.corner;
        let canvas = canvases.f_narrow(0, self.image, 1)?;
        Ok(canvas.f_narrow(2, top, self.side)?.f_narrow(3, left, self.side)?)
    }
}

/// Canvases that are cut.
#[derive(Debug)]
pub(crate) struct Cut {
    windows: Vec<Window>,
    /// Weight of a window's pixels, and the sum of these weights for each pixel of the canvases.
    weight: Tensor,
    weights: Tensor,
    batch: usize,
}

impl Cut {
    /// The network's output for the canvases `[B,3,H,W]`, averaged over the windows, 0 where none is;
    /// `pass` takes windows of y and of the condition through the network.
    pub(crate) fn denoise(
        &self,
        y: &Tensor,
        condition: &Tensor,
        pass: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let sum = y.f_zeros_like()?;
        for windows in self.windows.chunks(self.batch) {
            let cut = |tensor: &Tensor| -> Result<Tensor> {
                let cuts =
                    windows.iter().map(|window| window.of(tensor)).collect::<Result<Vec<_>>>()?;
                Ok(Tensor::f_cat(&cuts, 0)?)
            };
            let output = (t(pass(&cut(y)?, &cut(condition)?)?) * &self.weight).value()?;
            for (number, window) in (0..).zip(windows) {
                let _ = window.of(&sum)?.f_add_(&output.f_narrow(0, number, 1)?)?;
            }
        }
        Ok((t(sum) / &self.weights).value()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::Kind;

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

    #[test]
    fn windows_in_which_nothing_is_made_are_left_out_and_the_rest_is_an_average() {
        let windows = Windows { side: 8, overlap: 2, batch: 3 };
        let device = tch::Device::Cpu;
        let generated = Tensor::ones([2, 1, 20, 14], (Kind::Float, device));
        let all = windows.cut(&generated).unwrap();
        assert_eq!(all.windows.len(), 2 * 3 * 2);
        let y = torch_ext::randn_keyed(&[1, 2], &[3, 20, 14], device).unwrap();
        let same = |y: &Tensor, _: &Tensor| Ok(y.shallow_clone());
        let off = (all.denoise(&y, &y, &same).unwrap() - &y).abs().max().double_value(&[]);
        assert!(off < 1e-6, "an average of the same is the same: {off}");

        // One pixel of the second image, which two windows share.
        let corner = generated.zeros_like();
        let _ = corner.get(1).get(0).get(19).get(7).fill_(1.0);
        let few = windows.cut(&corner).unwrap();
        assert_eq!(few.windows.len(), 2);
        let made = few.denoise(&y, &y, &same).unwrap();
        assert_eq!(made.get(0).abs().max().double_value(&[]), 0.0);
        assert!((made - &y).get(1).narrow(1, 12, 8).abs().max().double_value(&[]) < 1e-6);
    }
}
