//! The scores: one file each, and one line each in `registry.rs`.
//!
//! A file has a type with [`Measure`]: what the score is called, what it is taken from, how it is
//! computed. Everything else (what an extractor's configuration may claim, columns of tables, JSON, details,
//! what is printed) follows from the registry. There are two ways to be computed:
//!
//! - **by output**: each output has a value of its own, from its pixels ([`Measure::compare`]) or from what an
//!   extractor sees ([`Measure::look`]); the score is their mean ([`Measure::total`]);
//! - **by set**: a [`Tally`] takes in what an extractor sees of the first output of each input.
//!
//! `maths/` holds what they compute with.

mod accuracy;
mod diversity;
mod error;
mod fool_rate;
mod frechet;
mod generated_psnr;
mod inception;
mod input_error;
mod kernel;
mod likeness;
mod lpips;
pub mod maths;
mod ms_ssim;
mod output;
mod perceptual;
mod perceptual_squared;
mod psnr;
mod registry;
mod ssim;
mod value;

use anyhow::Result;
use tch::Device;

use crate::extractor::Seen;
use maths::{Moments, Sketch};

pub use output::{Output, Own, Owns, Pixels};
pub use psnr::MOST as MOST_PSNR;
pub use registry::Score;
pub use value::{Estimate, Interval, Value, reach};

/// What a score is and how it is computed.
pub trait Measure: Sync {
    /// Its names and where it comes from.
    fn about(&self) -> About;

    /// The own value of an output, from its pixels.
    fn compare(&self, _pixels: &Pixels) -> Option<Own> {
        None
    }

    /// The own values of B outputs, from what the extractor sees of them and, row by row, of their
    /// references.
    ///
    /// # Errors
    /// Those of libtorch.
    fn look(&self, _outputs: &Seen, _references: Option<&Seen>) -> Result<Vec<f64>> {
        Ok(Vec::new())
    }

    /// What an output adds to the mean; none leaves it out.
    fn counted(&self, own: Own, _output: &Output) -> Option<Own> {
        Some(own)
    }

    /// The score of a task from what its outputs add: their mean over inputs, with its interval.
    fn total(&self, owns: &Owns) -> Option<Value> {
        owns.over_inputs().map(Value::Interval)
    }

    /// What takes a set of images in, where the score is not a mean of own values.
    ///
    /// # Errors
    /// Those of libtorch.
    fn tally(&self, _setting: &Setting) -> Result<Option<Box<dyn Tally>>> {
        Ok(None)
    }

    /// An output's cells in the file of details, one a name of [`About::details`].
    fn cells(&self, _output: &Output, own: Option<Own>) -> Vec<String> {
        let value = own.and_then(Own::value);
        let cell = || value.map_or(String::new(), |value| format!("{value:.6}"));
        self.about().details.iter().map(|_| cell()).collect()
    }
}

/// Takes in a set of images: of each input its first output.
pub trait Tally: Send {
    /// Takes in what the extractor sees of these images and, where the score compares with them, of
    /// their references.
    ///
    /// # Errors
    /// Those of libtorch.
    fn add(&mut self, names: &[&str], outputs: &Seen, references: Option<&Seen>) -> Result<()>;

    /// The score of the set, compared with `reference` in place of the references; none of too few images.
    ///
    /// # Errors
    /// Where eigenvalues do not converge.
    fn finish(self: Box<Self>, reference: Option<&Statistics>) -> Result<Option<Value>>;
}

/// What a tally is made for.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Inputs, so images that will come.
    pub inputs: u64,
    /// Numbers of a feature and of an answer; 0 where the extractor gives none.
    pub features: i64,
    /// Classes of an answer.
    pub classes: i64,
    /// Answers are probabilities, not logits.
    pub probabilities: bool,
    /// Where features are.
    pub device: Device,
    /// Splits of the Inception Score.
    pub splits: u32,
    /// Images in a subset of KID.
    pub subset: usize,
}

/// What FID and KID need of a set that many systems are compared with.
pub struct Statistics {
    /// Of all features.
    pub moments: Moments,
    /// Some of the features.
    pub sketch: Sketch,
}

/// Names of a score, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// In tables' files, extractors' configurations and CSV.
    pub name: &'static str,
    /// In the JSON of scores.
    pub key: &'static str,
    /// What it is taken from.
    pub basis: Basis,
    /// How `evaluator run` prints it.
    pub line: Line,
    /// How tables print it; none where it is not a column of tables.
    pub column: Option<Heading>,
    /// Its columns in the file of details.
    pub details: &'static [&'static str],
}

/// A line that `evaluator run` prints.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The score.
    pub name: &'static str,
    /// What it is of, and its unit.
    pub of: &'static str,
    /// By how much it is multiplied.
    pub factor: f64,
    /// Digits behind the point.
    pub digits: usize,
    /// It depends on how many scales of MS-SSIM the pictures are large enough for.
    pub scales: bool,
}

/// A column of tables.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// The score, with its unit.
    pub text: &'static str,
    /// Which side is better.
    pub better: Better,
    /// By how much it is multiplied.
    pub factor: f64,
    /// Digits behind the point.
    pub digits: usize,
}

/// The better side of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
}

/// What a score is taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// The pixels that were to be generated, of outputs of sampling jobs.
    Generated,
    /// Whole pictures.
    Pictures,
    /// What an extractor sees.
    Extractor {
        /// What of it.
        section: Section,
        /// What is compared with.
        with: With,
        /// The score by which an extractor's configuration claims it: itself, or the one it comes with.
        claim: Score,
    },
    /// The answers to a study.
    Study {
        /// For how long pairs were shown.
        seconds: f64,
    },
}

/// What an extractor gives, by its section in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Features `[B,D]`.
    Features,
    /// A classifier's answer `[B,C]`.
    Logits,
    /// Feature maps `[B,C,H,W]`.
    Maps,
}

impl Section {
    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Logits => "logits",
            Self::Maps => "maps",
        }
    }
}

/// What outputs are compared with through an extractor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Nothing,
    /// Each with its own reference.
    Reference,
    /// All together with all references, or with the distribution that was named in their place.
    Distribution,
}
