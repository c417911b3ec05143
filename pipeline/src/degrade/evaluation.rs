//! The degradations of the paper's evaluation: fixed, or drawn from a fixed seed and the record's
//! key, so that every model sees the same pairs.

use std::fmt;
use std::str::FromStr;

use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use super::{Degraded, StrokesConfig, area, fill, grey, jpeg, punch, strokes, uncrop, whole};
use crate::random::{Rng, key, text_key};
use crate::{Error, Result, Task};

/// One evaluation degradation; as text `colorization`, `inpainting:free-form-10-20`,
/// `inpainting:center`, `uncropping:right-half`, `jpeg:10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Evaluation {
    /// Grey to colour.
    Colorization,
    /// Free-form holes that cover `bin` percent of the image, from and to.
    FreeForm {
        /// Percent of the image, from and to.
        bin: [u8; 2],
    },
    /// A square hole in the middle; `size` is its side in pixels of a 256×256 image and scales
    /// with the image.
    Center {
        /// Side in pixels at 256.
        size: u32,
    },
    /// The right half is missing.
    RightHalf,
    /// JPEG at one quality.
    Jpeg {
        /// Quality, 1 to 100.
        quality: u8,
    },
}

/// Draws of a mask before the area nearest to the bin is taken as it is.
const TRIES: u64 = 10_000;

impl Evaluation {
    /// What the paper reports first for a task.
    pub fn default_for(task: Task) -> Self {
        match task {
            Task::Colorization => Self::Colorization,
            Task::Inpainting => Self::FreeForm { bin: [20, 30] },
            Task::Uncropping => Self::RightHalf,
            Task::Jpeg => Self::Jpeg { quality: 10 },
        }
    }

    /// The task that it belongs to.
    pub fn task(self) -> Task {
        match self {
            Self::Colorization => Task::Colorization,
            Self::FreeForm { .. } | Self::Center { .. } => Task::Inpainting,
            Self::RightHalf => Task::Uncropping,
            Self::Jpeg { .. } => Task::Jpeg,
        }
    }

    /// Degrades a target; what is random depends on `seed` and the record's `key` alone.
    ///
    /// # Errors
    /// When the JPEG codec refuses the image (sides over 65535).
    pub fn apply(self, target: &RgbImage, seed: u64, key: &str) -> Result<Degraded> {
        let (width, height) = target.dimensions();
        Ok(match self {
            Self::Colorization => whole(grey::grey(target)),
            Self::FreeForm { bin } => punch(target, free_form(bin, width, height, seed, key)),
            Self::Center { size } => punch(target, center(size, width, height)),
            Self::RightHalf => punch(target, uncrop::right_half(width, height)),
            Self::Jpeg { quality } => whole(jpeg::round_trip(target, quality)?),
        })
    }
}

/// Strokes as in training, drawn again until their area lies in the bin.
fn free_form(bin: [u8; 2], width: u32, height: u32, seed: u64, name: &str) -> GrayImage {
    let config = StrokesConfig::default();
    let [low, high] = bin.map(|percent| f64::from(percent) / 100.0);
    let middle = (low + high) / 2.0;
    let mut best: Option<(f64, GrayImage)> = None;
    for attempt in 0..TRIES {
        let rng = &mut Rng::new(key(&[seed, 0x6576_616c, text_key(name), attempt]));
        let mask = strokes::mask(&config, width, height, rng);
        let part = area(&mask);
        if part >= low && part < high {
            return mask;
        }
        let distance = (part - middle).abs();
        if best.as_ref().is_none_or(|(nearest, _)| distance < *nearest) {
            best = Some((distance, mask));
        }
    }
    best.map(|(_, mask)| mask).unwrap_or_else(|| GrayImage::new(width, height))
}

fn center(size: u32, width: u32, height: u32) -> GrayImage {
    let side = |length: u32| {
        let scaled = (f64::from(length) * f64::from(size) / 256.0).round() as u32;
        let hole = scaled.clamp(1, length);
        let from = (length - hole) / 2;
        (from, from + hole)
    };
    let ((left, right), (top, bottom)) = (side(width), side(height));
    let mut mask = GrayImage::new(width, height);
    fill(&mut mask, [left, top, right, bottom], 1);
    mask
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Colorization => "colorization".to_owned(),
            Self::FreeForm { bin } => format!("inpainting:free-form-{}-{}", bin[0], bin[1]),
            Self::Center { size: 128 } => "inpainting:center".to_owned(),
            Self::Center { size } => format!("inpainting:center-{size}"),
            Self::RightHalf => "uncropping:right-half".to_owned(),
            Self::Jpeg { quality } => format!("jpeg:{quality}"),
        };
        f.pad(&text)
    }
}

impl FromStr for Evaluation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::config(
                "evaluation degradation",
                format!("`{text}`"),
                "a task's name for its first, or colorization, inpainting:free-form-10-20 (any \
                 bin from 1 to 60), inpainting:center, inpainting:center-N with N up to 256, \
                 uncropping:right-half, jpeg:Q with Q from 1 to 100",
            )
        })
    }
}

fn parse(text: &str) -> Option<Evaluation> {
    if let Ok(task) = text.parse::<Task>() {
        return Some(Evaluation::default_for(task));
    }
    Some(match text.split_once(':')? {
        ("inpainting", "center") => Evaluation::Center { size: 128 },
        ("inpainting", rest) => {
            if let Some(size) = rest.strip_prefix("center-") {
                let size = size.parse().ok().filter(|size| (1..=256).contains(size))?;
                return Some(Evaluation::Center { size });
            }
            let (low, high) = rest.strip_prefix("free-form-")?.split_once('-')?;
            let bin: [u8; 2] = [low.parse().ok()?, high.parse().ok()?];
            (bin[0] < bin[1] && bin[0] >= 1 && bin[1] <= 60)
                .then_some(Evaluation::FreeForm { bin })?
        }
        ("uncropping", "right-half") => Evaluation::RightHalf,
        ("jpeg", quality) => {
            let quality = quality.parse().ok().filter(|quality| (1..=100).contains(quality))?;
            Evaluation::Jpeg { quality }
        }
        _ => return None,
    })
}

impl TryFrom<String> for Evaluation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Evaluation> for String {
    fn from(evaluation: Evaluation) -> Self {
        evaluation.to_string()
    }
}
