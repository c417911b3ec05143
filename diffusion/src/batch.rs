//! A batch of images on the device, normalised, and the condition that the network sees.
use crate::noise::{self, Purpose};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};
use torch_ext::t;

/// B training pairs on the host, as the loader gives them.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// Height of the images.
    pub height: usize,
    /// Width of the images.
    pub width: usize,
    /// What is to come out, `[B,H,W,3]`; bytes 0 to 255 stand for -1 to 1.
    pub target: &'a [u8],
    /// The degraded image, `[B,H,W,3]`.
    pub source: &'a [u8],
    /// 1 where pixels are generated, else 0; `[B,H,W]`.
    pub mask: &'a [u8],
    /// Per image: whether the masked region is a hole.
    pub hole: &'a [bool],
}

/// B training pairs on the device.
#[derive(Debug)]
pub struct DeviceBatch {
    /// What is to come out, f32 `[B,3,H,W]` in `[-1,1]`.
    pub target: Tensor,
    /// The degraded image, f32 `[B,3,H,W]` in `[-1,1]`. Where the mask is 0 it is the target's own.
    pub source: Tensor,
    /// 1 where pixels are generated and the loss counts, 0 where they are known; f32 `[B,1,H,W]`.
    pub mask: Tensor,
    /// Per image: whether the masked region is a hole. Its condition is filled with N(0,1) and
    /// its known pixels stay. Without a hole (colorization, JPEG) the source is the condition.
    hole: Vec<bool>,
    /// The same on the device, f32 `[B,1,1,1]`: 1 with a hole, else 0.
    with_hole: Tensor,
}

impl DeviceBatch {
    /// A batch of tensors that are on the device already: `target` and `source` f32 `[B,3,H,W]`, `mask`
    /// f32 `[B,1,H,W]`, one `hole` an image.
    pub fn new(target: Tensor, source: Tensor, mask: Tensor, hole: &[bool]) -> Result<DeviceBatch> {
        let [images, _, height, width] = target.size()[..] else {
            return Err(Error::Shape(format!("images of shape {:?}", target.size())));
        };
        let fits = images == hole.len() as i64 && source.size() == target.size();
        if !fits || mask.size() != [images, 1, height, width] {
            return Err(Error::Shape(format!(
                "a target of shape {:?} has a source of {:?}, a mask of {:?} and {} holes",
                target.size(),
                source.size(),
                mask.size(),
                hole.len()
            )));
        }
        let with_hole = columns(&[flags(hole)], target.device())?.f_select(0, 0)?;
        Ok(DeviceBatch { target, source, mask, hole: hole.to_vec(), with_hole })
    }

    /// Takes a batch as the loader gives it: `target` and `source` u8 `[B,H,W,3]`, `mask` u8 `[B,H,W]` of 0
    /// and 1, one `hole` an image. Bytes 0..=255 become -1..=1.
    pub fn from_u8(
        height: usize,
        width: usize,
        target: &[u8],
        source: &[u8],
        mask: &[u8],
        hole: &[bool],
        device: Device,
    ) -> Result<DeviceBatch> {
        let pixels = Pixels { height, width, target, source, mask, hole };
        Ok(DeviceBatch::upload(&pixels, &[], device)?.0)
    }

    /// Brings images to the device, together with rows of one number an image: all in one copy that
    /// nobody waits for. The rows come out as f32 `[rows,B,1,1,1]`.
    pub(crate) fn upload(
        pixels: &Pixels,
        rows: &[Vec<f32>],
        device: Device,
    ) -> Result<(DeviceBatch, Tensor)> {
        pixels.check()?;
        let Pixels { height, width, target, source, mask, hole } = *pixels;
        let mut all = vec![flags(hole)];
        all.extend_from_slice(rows);
        let small = bytes(&all);
        let there = torch_ext::upload(&[&small, target, source, mask], device)?;

        let mut from = 0;
        let mut next = |length: usize| {
            from += length;
            there.f_narrow(0, (from - length) as i64, length as i64)
        };
        // A copy of its own: the few numbers shall not keep the bytes of the images.
        let numbers = numbers(&next(small.len())?, &all)?;
        let numbers = numbers.f_to_device_(device, Kind::Float, false, true)?;
        let mut planes = |data: &[u8], channels: i64| -> Result<Tensor> {
            let shape = [hole.len() as i64, height as i64, width as i64, channels];
            let pixels = next(data.len())?.f_view(shape)?.f_permute([0, 3, 1, 2])?;
            // Bytes become numbers and pixels become planes in one pass.
            let mut planes = Tensor::f_empty(pixels.size(), (Kind::Float, device))?;
            planes.f_copy_(&pixels)?;
            Ok(planes)
        };
        let image = |mut planes: Tensor| -> Result<Tensor> {
            let _ = planes.f_div_scalar_(127.5)?.f_sub_scalar_(1.0)?;
            Ok(planes)
        };
        let batch = DeviceBatch {
            target: image(planes(target, 3)?)?,
            source: image(planes(source, 3)?)?,
            mask: planes(mask, 1)?,
            hole: hole.to_vec(),
            with_hole: numbers.f_select(0, 0)?,
        };
        Ok((batch, numbers.f_narrow(0, 1, rows.len() as i64)?))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.hole.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.hole.is_empty()
    }

    /// Per image: whether its masked region is a hole, filled with noise in the condition; its known
    /// pixels stay.
    pub fn hole(&self) -> &[bool] {
        &self.hole
    }

    /// Whether any image has a hole.
    pub fn has_hole(&self) -> bool {
        self.hole.contains(&true)
    }

    /// The condition `[B,3,H,W]`: (1−m)·source + m·N(0,1) for an image with a hole, else the source.
    /// The fill of image i is a function of `keys[i]`.
    pub fn condition(&self, keys: &[u64]) -> Result<Tensor> {
        self.check_keys(keys)?;
        if !self.has_hole() {
            return Ok(self.source.shallow_clone());
        }
        let fill = noise::normal(keys, Purpose::Fill, &self.source.size()[1..], self.device())?;
        Ok(self.source.f_lerp_tensor(&fill, &self.holes()?)?)
    }

    /// What the network's output stands for: the output itself, or with `residual` its sum with the
    /// source, whose holes count as grey (0).
    pub(crate) fn answer(&self, output: Tensor, residual: bool) -> Result<Tensor> {
        if !residual {
            return Ok(output);
        }
        let given = self.source.f_lerp_tensor(&self.source.f_zeros_like()?, &self.holes()?)?;
        Ok((t(output) + given).value()?)
    }

    /// The image where it is generated, `known` where it is not: m·image + (1−m)·known for images
    /// with a hole, else the image.
    pub fn keep_known(&self, known: &Tensor, image: &Tensor) -> Result<Tensor> {
        if !self.has_hole() {
            return Ok(image.shallow_clone());
        }
        Ok(known.f_lerp_tensor(image, &self.generated()?)?)
    }

    /// 1 where pixels are generated: the mask for images with a hole, else 1; `[B,1,H,W]`.
    pub fn generated(&self) -> Result<Tensor> {
        let without = (1.0 - t(&self.with_hole)).value()?;
        Ok(self.mask.f_maximum(&without)?)
    }

    /// 1 in holes, `[B,1,H,W]`; all 0 for images without.
    fn holes(&self) -> Result<Tensor> {
        Ok((t(&self.mask) * &self.with_hole).value()?)
    }

    pub(crate) fn check_keys(&self, keys: &[u64]) -> Result<()> {
        check_keys(self.len(), keys)
    }

    /// The device that the batch is on.
    pub fn device(&self) -> Device {
        self.target.device()
    }
}

impl Pixels<'_> {
    fn check(&self) -> Result<()> {
        let Pixels { height, width, target, source, mask, hole } = *self;
        let (images, pixels) = (hole.len(), height.saturating_mul(width));
        let expected = pixels.saturating_mul(images);
        let fits = images > 0 && pixels > 0 && mask.len() == expected;
        if fits && target.len() == 3 * mask.len() && source.len() == target.len() {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "a batch of {images} images of {height}×{width} needs {} bytes of target and source and \
             {expected} of mask, not {}, {} and {}",
            expected.saturating_mul(3),
            target.len(),
            source.len(),
            mask.len()
        )))
    }
}

/// Whether there is one key an image.
pub(crate) fn check_keys(images: usize, keys: &[u64]) -> Result<()> {
    if keys.len() == images {
        return Ok(());
    }
    Err(Error::Shape(format!("{images} images need one key each, not {}", keys.len())))
}

/// Rows of one number an image on the device, f32 `[rows,B,1,1,1]`.
pub(crate) fn columns(rows: &[Vec<f32>], device: Device) -> Result<Tensor> {
    numbers(&torch_ext::upload(&[&bytes(rows)], device)?, rows)
}

/// The bytes of these rows as f32 `[rows,B,1,1,1]`.
fn numbers(bytes: &Tensor, rows: &[Vec<f32>]) -> Result<Tensor> {
    let images = rows.first().map_or(0, Vec::len);
    Ok(bytes.f_view_dtype(Kind::Float)?.f_view([rows.len() as i64, images as i64, 1, 1, 1])?)
}

fn bytes(rows: &[Vec<f32>]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|number| number.to_ne_bytes()).collect()
}

fn flags(hole: &[bool]) -> Vec<f32> {
    hole.iter().map(|&hole| f32::from(u8::from(hole))).collect()
}

/// Images f32 `[B,3,H,W]` in `[-1,1]` as bytes `[B,H,W,3]`: clamped, rounded to nearest.
pub fn to_u8(images: &Tensor) -> Result<Vec<u8>> {
    let bytes = ((t(images.f_detach()?) + 1.0) * 127.5)
        .map(Tensor::f_round)
        .map(|levels| levels.f_clamp(0.0, 255.0))
        .map(|levels| levels.f_to_kind(Kind::Uint8))
        .map(|bytes| bytes.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_to_device(Device::Cpu))
        .value()?;
    Ok(Vec::<u8>::try_from(&bytes.f_flatten(0, -1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(hole: &[bool]) -> DeviceBatch {
        let pixels: Vec<u8> = (0..hole.len() * 3 * 16).map(|i| (i * 5 % 256) as u8).collect();
        let mask: Vec<u8> = (0..hole.len() * 16).map(|i| u8::from(i % 16 < 8)).collect();
        DeviceBatch::from_u8(4, 4, &pixels, &pixels, &mask, hole, Device::Cpu).unwrap()
    }

    #[test]
    fn bytes_survive_the_way_there_and_back() {
        let pixels: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        let mask = vec![1; 256];
        let batch =
            DeviceBatch::from_u8(8, 16, &pixels, &pixels, &mask, &[true; 2], Device::Cpu).unwrap();
        assert_eq!((batch.target.size(), batch.target.is_contiguous()), (vec![2, 3, 8, 16], true));
        // Green of the fourth pixel of the second image.
        let green = batch.target.double_value(&[1, 1, 0, 3]);
        assert!((green - ((255.0 - 131.0) / 127.5 - 1.0)).abs() < 1e-6, "{green}");
        assert_eq!(to_u8(&batch.target).unwrap(), pixels);
    }

    #[test]
    fn holes_are_filled_and_the_rest_stays() {
        let batch = batch(&[true, false]);
        let condition = batch.condition(&[1, 2]).unwrap();
        let off = |i: i64, from: i64| {
            let (a, b) = (condition.get(i), batch.source.get(i));
            (a - b).narrow(1, from, 2).abs().max().double_value(&[])
        };
        assert!(off(0, 0) > 0.1, "the hole is not filled");
        assert_eq!((off(0, 2), off(1, 0), off(1, 2)), (0.0, 0.0, 0.0));
        let swapped = batch.condition(&[1, 9]).unwrap();
        assert_eq!(swapped.get(0), condition.get(0), "the fill depends on the neighbour's key");
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let bytes = [0_u8; 48];
        let call = |height, mask: &[u8], hole: &[bool]| {
            DeviceBatch::from_u8(height, 4, &bytes, &bytes, mask, hole, Device::Cpu).is_err()
        };
        assert!(call(5, &bytes[..16], &[true]));
        assert!(call(4, &bytes[..15], &[true]));
        assert!(call(4, &bytes[..16], &[]));
        assert!(call(usize::MAX, &bytes[..16], &[true; 3]));
        assert!(batch(&[true]).condition(&[]).is_err());
    }
}
