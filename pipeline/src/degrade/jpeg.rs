//! JPEG restoration: the source went through JPEG at a low quality, 4:2:0, standard tables.

use image::RgbImage;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use serde::{Deserialize, Serialize};

use crate::config::{range, within};
use crate::random::Rng;
use crate::{Error, Result};

/// Numbers of the JPEG degradation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JpegConfig {
    /// Qualities from and to, both included; the paper's open interval (5, 30) in whole numbers.
    pub quality: [u8; 2],
    /// P(Q) is proportional to exp(−Q / decay).
    pub decay: f64,
}

impl Default for JpegConfig {
    fn default() -> Self {
        Self { quality: [6, 29], decay: 10.0 }
    }
}

impl JpegConfig {
    pub(super) fn validate(&self) -> Result<()> {
        range("data.degradation.jpeg.quality", self.quality, 1, 100)?;
        within("data.degradation.jpeg.decay", self.decay, 0.1, 1e6)
    }
}

/// Draws a quality with P(Q) ∝ exp(−Q / decay).
pub fn draw_quality(config: &JpegConfig, rng: &mut Rng) -> u8 {
    let [low, high] = config.quality;
    let weights = (0..=high - low).map(|above| (-f64::from(above) / config.decay).exp());
    low + rng.weighted(weights) as u8
}

/// The image after JPEG at `quality` (1 to 100) and back: 4:2:0 with averaged chroma, as libjpeg.
///
/// # Errors
/// When a side is longer than JPEG can say (65535).
pub fn round_trip(target: &RgbImage, quality: u8) -> Result<RgbImage> {
    crate::image::decode_jpeg(&encode(target, quality)?)
}

/// The image as JPEG at `quality` (1 to 100): 4:2:0 with averaged chroma, standard tables.
///
/// # Errors
/// When a side is longer than JPEG can say (65535).
pub fn encode(target: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let long = |_| Error::Image(format!("too large: {:?} for a JPEG", target.dimensions()));
    let width = u16::try_from(target.width()).map_err(long)?;
    let height = u16::try_from(target.height()).map_err(long)?;
    let mut bytes = Vec::with_capacity(target.as_raw().len() / 8 + 1024);
    let mut encoder = Encoder::new(&mut bytes, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(target.as_raw(), width, height, ColorType::Rgb)
        .map_err(|error| Error::Image(format!("not encodable: {error}")))?;
    Ok(bytes)
}
