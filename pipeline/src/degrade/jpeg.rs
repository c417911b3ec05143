//! JPEG restoration: the source went through JPEG at a low quality, 4:2:0, standard tables.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Degradation, Degraded};
use crate::Result;
use crate::config::{range, within};
use crate::image::jpeg::{Codec, round_trip};
use random::Rng;

/// Blocks and colour bleeding of strong JPEG compression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jpeg {
    /// Qualities from and to, both included; the paper's open interval (5, 30) in whole numbers.
    pub quality: [u8; 2],
    /// P(Q) is proportional to exp(−Q / decay).
    pub decay: f64,
    /// Who encodes and decodes: `libjpeg-turbo`, as everybody's images did, or `jpeg-encoder`.
    pub codec: Codec,
}

impl Default for Jpeg {
    fn default() -> Self {
        Self { quality: [6, 29], decay: 10.0, codec: Codec::default() }
    }
}

/// The compression of an evaluation: `10`, `10:jpeg-encoder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compression {
    /// Quality, 1 to 100.
    pub quality: u8,
    /// Who encodes and decodes.
    pub codec: Codec,
}

impl Default for Compression {
    fn default() -> Self {
        Self { quality: 10, codec: Codec::default() }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.quality)?;
        if self.codec != Codec::default() {
            write!(f, ":{}", self.codec)?;
        }
        Ok(())
    }
}

impl Degradation for Jpeg {
    const HOLE: bool = false;
    const FORMS: &'static str = "jpeg:Q with Q from 1 to 100, jpeg:Q:jpeg-encoder";
    type Form = Compression;

    fn validate(&self, table: &str) -> Result<()> {
        range(&format!("{table}.quality"), self.quality, 1, 100)?;
        within(&format!("{table}.decay"), self.decay, 0.1, 1e6)
    }

    fn train(&self, target: &RgbImage, rng: &mut Rng) -> Result<Degraded> {
        Ok(Degraded::whole(round_trip(target, self.draw_quality(rng), self.codec)?))
    }

    fn form(text: &str) -> Option<Compression> {
        let (quality, codec) = match text.split_once(':') {
            None => (text, Codec::default()),
            Some((quality, codec)) => (quality, codec.parse().ok()?),
        };
        let quality = quality.parse().ok().filter(|quality| (1..=100).contains(quality))?;
        Some(Compression { quality, codec })
    }

    fn evaluate(form: Compression, target: &RgbImage, _: u64, _: &str) -> Result<Degraded> {
        Ok(Degraded::whole(round_trip(target, form.quality, form.codec)?))
    }
}

impl Jpeg {
    /// Draws a quality with P(Q) ∝ exp(−Q / decay).
    pub fn draw_quality(&self, rng: &mut Rng) -> u8 {
        let [low, high] = self.quality;
        let weights = (0..=high - low).map(|above| (-f64::from(above) / self.decay).exp());
        low + rng.weighted(weights) as u8
    }
}
