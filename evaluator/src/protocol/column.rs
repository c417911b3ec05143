//! The columns that tables may have, and where their numbers come from.

use serde::{Deserialize, Serialize};

use crate::scores::{Estimate, Interval};
use crate::scoring::Scores;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Column {
    /// Fréchet distance.
    Fid,
    /// Kernel distance, in thousandths.
    Kid,
    /// Inception Score.
    Is,
    /// Top-1 accuracy of a classifier, in percent.
    Ca,
    /// Perceptual distance, L2 of features.
    Pd,
    /// The same squared.
    PdSquared,
    /// LPIPS-like distance.
    Lpips,
    /// PSNR of whole pictures, dB.
    Psnr,
    /// SSIM of whole pictures.
    Ssim,
    /// Multi-scale SSIM of whole pictures.
    MsSsim,
    /// Multi-scale SSIM between the outputs of an input.
    Likeness,
    /// Fool rate of a study, shown for 3 seconds, in percent.
    #[serde(rename = "fool-3s")]
    Fool3,
    /// The same shown for 5 seconds.
    #[serde(rename = "fool-5s")]
    Fool5,
}

impl Column {
    /// Its heading, with an arrow to the better side.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Fid => "FID ↓",
            Self::Kid => "KID·10³ ↓",
            Self::Is => "IS ↑",
            Self::Ca => "CA % ↑",
            Self::Pd => "PD ↓",
            Self::PdSquared => "PD² ↓",
            Self::Lpips => "LPIPS-like ↓",
            Self::Psnr => "PSNR ↑",
            Self::Ssim => "SSIM ↑",
            Self::MsSsim => "MS-SSIM ↑",
            Self::Likeness => "likeness of outputs ↓",
            Self::Fool3 => "fool rate % (3 s) ↑",
            Self::Fool5 => "fool rate % (5 s) ↑",
        }
    }

    /// Digits behind the point.
    pub fn digits(self) -> usize {
        match self {
            Self::Ssim | Self::MsSsim | Self::Likeness | Self::Lpips => 3,
            Self::Pd | Self::PdSquared | Self::Fid | Self::Kid | Self::Is => 2,
            _ => 1,
        }
    }

    /// The display time, of fool rates.
    pub fn seconds(self) -> Option<f64> {
        match self {
            Self::Fool3 => Some(3.0),
            Self::Fool5 => Some(5.0),
            _ => None,
        }
    }

    /// Its number among scores; none where they do not have it, and for fool rates.
    pub fn of(self, scores: &Scores) -> Option<Interval> {
        let spread = |Estimate { mean, deviation }| Interval {
            value: mean,
            low: mean - deviation,
            high: mean + deviation,
        };
        match self {
            Self::Fid => scores.fid,
            Self::Kid => scores.kid.map(|one| spread(one).times(1000.0)),
            Self::Is => scores.inception.map(spread),
            Self::Ca => scores.accuracy.map(|one| one.times(100.0)),
            Self::Pd => scores.perceptual,
            Self::PdSquared => scores.perceptual_squared,
            Self::Lpips => scores.lpips,
            Self::Psnr => scores.picture_psnr,
            Self::Ssim => scores.ssim,
            Self::MsSsim => scores.ms_ssim,
            Self::Likeness => scores.diversity_ms_ssim.as_ref().map(|one| one.mean),
            Self::Fool3 | Self::Fool5 => None,
        }
    }
}
