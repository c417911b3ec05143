//! Scores as they are printed and kept, with what they depend on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scores::{Estimate, Interval};

/// Scores of one task. Those over the generated pixels, of likeness and of perception are over all
/// outputs, their intervals over inputs; FID, KID and the Inception Score are over the first output of
/// each input.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Scores {
    /// Outputs that were compared.
    pub outputs: u64,
    /// Inputs that they belong to.
    #[serde(default)]
    pub inputs: u64,
    /// Mean absolute error over the generated pixels, in levels of 0..255.
    pub mean_absolute_error: Option<f64>,
    /// Peak signal-to-noise ratio over all generated values, in dB.
    pub psnr: Option<f64>,
    /// Mean absolute error of the input itself; none where the input has a hole.
    pub input_mean_absolute_error: Option<f64>,
    /// Mean absolute difference between the first and every other output of an input, in levels; none
    /// where each input has one output.
    #[serde(default)]
    pub diversity: Option<f64>,
    /// Fréchet distance of features, with the interval of a jackknife over ten groups of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fid: Option<Interval>,
    /// Kernel distance of features, with the deviation over subsets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<Estimate>,
    /// Inception Score, with the deviation over splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inception: Option<Estimate>,
    /// Share of outputs whose class a classifier finds, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Interval>,
    /// Mean L2 distance of features between output and reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<Interval>,
    /// Mean of its square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual_squared: Option<Interval>,
    /// Mean distance of feature maps of unit length, as in LPIPS without its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<Interval>,
    /// Mean PSNR of whole pictures, in dB; equal pictures are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_psnr: Option<Interval>,
    /// Mean SSIM of whole pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<Interval>,
    /// Mean multi-scale SSIM of whole pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms_ssim: Option<Interval>,
    /// Likeness of the outputs of an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity_ms_ssim: Option<Diversity>,
    /// Scales of MS-SSIM that the pictures are large enough for, of five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scales: Option<usize>,
}

/// Pairwise multi-scale SSIM between the first and every other output of an input (figure 7 of the paper):
/// the higher, the less diverse.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diversity {
    /// Its mean.
    pub mean: Interval,
    /// How many pairs have which value: 50 bars from 0 to 1.
    pub histogram: Vec<u64>,
}

/// Bars of [`Diversity::histogram`].
pub const BARS: usize = 50;

impl Diversity {
    /// The bar of a value.
    pub fn bar(value: f64) -> usize {
        ((value.clamp(0.0, 1.0) * BARS as f64) as usize).min(BARS - 1)
    }
}

/// What scores depend on beside the pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Depends {
    /// sha256 of what was scored, or of its list of files.
    pub outputs: String,
    /// What FID and KID compare with, and how many images that has; none where it is the references.
    pub distribution: Option<Distribution>,
    /// The square that all pictures were brought to; none where each has its own size.
    pub size: Option<u32>,
    /// Splits of the Inception Score.
    pub splits: u32,
    /// Images in a subset of KID, at most.
    pub kid_subset: usize,
    /// The extractors.
    pub extractors: Vec<Through>,
    /// The program.
    pub version: String,
}

/// What FID and KID compare with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Distribution {
    /// Where it is.
    pub uri: String,
    /// Its sha256.
    pub digest: String,
    /// Images.
    pub images: u64,
}

/// An extractor and what was taken through it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Through {
    /// Its name.
    pub name: String,
    /// sha256 of its file.
    pub sha256: String,
    /// What is done to a picture before it.
    pub rule: String,
    /// The scores.
    pub scores: Vec<String>,
}

/// What had no partner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Matching {
    /// References without an output.
    pub missing: u64,
    /// The first of them.
    pub first_missing: Vec<String>,
    /// Outputs without a reference, which were not scored.
    pub surplus: u64,
    /// The first of them.
    pub first_surplus: Vec<String>,
}

impl Matching {
    /// Of these names.
    pub fn new(missing: &[String], surplus: &[String]) -> Self {
        let first = |names: &[String]| names.iter().take(10).cloned().collect();
        Self {
            missing: missing.len() as u64,
            first_missing: first(missing),
            surplus: surplus.len() as u64,
            first_surplus: first(surplus),
        }
    }

    /// A line for people; none where all have partners.
    pub fn note(&self) -> Option<String> {
        let of = |count: u64, what: &str, first: &[String]| {
            let name = first.first().map_or("", String::as_str);
            (count > 0).then(|| format!("{count} {what} (the first is `{name}`)"))
        };
        let parts: Vec<String> = [
            of(self.missing, "references have no output", &self.first_missing),
            of(self.surplus, "outputs have no reference and are not scored", &self.first_surplus),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// How long scoring took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    /// Outputs a second, from the first to the last.
    pub outputs_per_second: f64,
    /// Seconds from the first to the last output.
    pub seconds: f64,
    /// The share of them in which the extractors worked.
    pub extractor_share: f64,
    /// Seconds for eigenvalues, subsets and resamples afterwards.
    pub closing_seconds: f64,
}

impl Timing {
    /// Of so many outputs.
    pub fn new(outputs: u64, looking: Duration, wall: Duration, closing: Duration) -> Self {
        let seconds = wall.as_secs_f64().max(1e-9);
        Self {
            outputs_per_second: outputs as f64 / seconds,
            seconds,
            extractor_share: looking.as_secs_f64() / seconds,
            closing_seconds: closing.as_secs_f64(),
        }
    }
}
