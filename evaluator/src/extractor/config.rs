//! The configuration of an extractor, a TOML file: which TorchScript, what it takes, what it gives.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use contracts::ConfigError;
use serde::Deserialize;
use tch::{Kind, TchError, Tensor};
use terminal::Usage;

use crate::scores::{Basis, Score, Section, With};

/// What an extractor is, as its file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What reports call it.
    pub name: String,
    /// The TorchScript file, from the configuration's folder on.
    file: PathBuf,
    /// Its sha256, hexadecimal.
    pub sha256: String,
    /// The scores that are taken through it.
    pub scores: Vec<Score>,
    /// What it takes: `[B,3,H,W]`, RGB.
    pub input: Input,
    /// The shorter side is brought to this many pixels first (antialiased bicubic).
    pub resize: Option<u32>,
    /// Then the middle square of this many pixels is cut out.
    pub crop: Option<u32>,
    /// Images at once.
    pub batch: Option<usize>,
    /// Its features, `[B,width]`.
    pub features: Option<Output>,
    /// Its answer, `[B,width]`.
    pub logits: Option<Output>,
    /// Feature maps, `[B,C,H,W]`.
    pub maps: Option<Maps>,
    /// What it gives for the probe picture.
    pub check: Option<Check>,
}

/// What a network takes for a value of 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// The byte itself.
    Uint8,
    /// The same number as f32.
    Float255,
    /// f32 of 0 to 1.
    Unit,
    /// f32 of −1 to 1.
    Signed,
    /// f32, less ImageNet's mean and by its deviation, as torchvision's classifiers want it.
    Imagenet,
}

/// Where an output lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Place among the tensors that the network gives, from 0.
    #[serde(default)]
    pub output: usize,
    /// Numbers for one picture.
    pub width: i64,
    /// They begin here within the tensor; left out where they are all of it.
    pub start: Option<i64>,
    /// What `forward` takes after the pictures.
    #[serde(default)]
    pub arguments: Vec<bool>,
    /// Of an answer: it is of probabilities, not of logits.
    #[serde(default)]
    pub probabilities: bool,
}

/// Where feature maps lie.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maps {
    /// Places among the tensors that the network gives.
    pub outputs: Vec<usize>,
    /// What `forward` takes after the pictures.
    #[serde(default)]
    pub arguments: Vec<bool>,
}

/// What the network gives for the probe picture, by whoever made it: its first numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Side of the probe picture in pixels, as the network gets it.
    pub side: u32,
    /// First features.
    #[serde(default)]
    pub features: Vec<f64>,
    /// First numbers of the answer.
    #[serde(default)]
    pub logits: Vec<f64>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// For a file that cannot be read and for contradictions, naming the key.
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = contracts::read(path).map_err(Usage::of)?;
        match config.contradiction() {
            None => Ok(config),
            Some(error) => Err(Usage::of(error.of(path.display().to_string())).into()),
        }
    }

    fn contradiction(&self) -> Option<ConfigError> {
        let refuse = |key: &str, value: &dyn std::fmt::Display, allowed: &str| {
            Some(ConfigError::value(key, value, allowed))
        };
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex(&self.sha256) {
            return refuse("sha256", &self.sha256, "64 hexadecimal digits");
        }
        for (key, side) in [("resize", self.resize), ("crop", self.crop)] {
            if let Some(side) = side.filter(|side| !(8..=2048).contains(side)) {
                return refuse(key, &side, "8 to 2048 pixels");
            }
        }
        if let (Some(resize), Some(crop)) = (self.resize, self.crop)
            && crop > resize
        {
            return refuse("crop", &crop, &format!("at most resize, {resize}"));
        }
        if let Some(batch) = self.batch.filter(|batch| !(1..=4096).contains(batch)) {
            return refuse("batch", &batch, "1 to 4096");
        }
        for (key, output) in [("features", &self.features), ("logits", &self.logits)] {
            let Some(Output { width, start, .. }) = output else { continue };
            if !(1..=16_384).contains(width) {
                return refuse(&format!("{key}.width"), width, "1 to 16384");
            }
            if let Some(start) = start.filter(|start| !(0..=65_536).contains(start)) {
                return refuse(&format!("{key}.start"), &start, "0 to 65536");
            }
        }
        let claims = || Score::claims().map(Score::name).collect::<Vec<_>>().join(", ");
        if self.scores.is_empty() {
            let allowed = format!("what it is for: {}", claims());
            return refuse("scores", &"empty", &allowed);
        }
        let other = |message: String| Some(ConfigError::other("scores", message));
        self.scores.iter().find_map(|score| {
            let Basis::Extractor { section, claim, .. } = score.about().basis else {
                return other(format!("{score} needs no extractor; possible: {}", claims()));
            };
            if claim != *score {
                return other(format!("{score} comes with {claim}: name that"));
            }
            let there = match section {
                Section::Features => self.features.is_some(),
                Section::Logits => self.logits.is_some(),
                Section::Maps => self.maps.is_some(),
            };
            if there {
                return None;
            }
            other(format!("the score {score} needs a section [{}]", section.name()))
        })
    }

    /// The TorchScript file.
    pub fn file(&self, config: &Path) -> PathBuf {
        config.parent().unwrap_or(Path::new("")).join(&self.file)
    }

    /// Refuses extractors that claim the same score.
    ///
    /// # Errors
    /// Names both.
    pub fn check_roles<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<()> {
        let mut taken: Vec<(Score, &str)> = Vec::new();
        for config in all {
            for &score in &config.scores {
                if let Some((_, other)) = taken.iter().find(|(one, _)| *one == score) {
                    bail!(Usage::new(format!(
                        "{score} is claimed by two extractors, {other} and {}: take it out of one's \
                         `scores`",
                        config.name
                    )));
                }
                taken.push((score, &config.name));
            }
        }
        Ok(())
    }

    /// True where a score is taken through it: one that it claims, or one that comes with it.
    pub fn gives(&self, score: Score) -> bool {
        score.claim().is_some_and(|claim| self.scores.contains(&claim))
    }

    /// The scores that are taken through it.
    pub fn given(&self) -> impl Iterator<Item = Score> {
        Score::ALL.into_iter().filter(|score| self.gives(*score))
    }

    /// What its scores compare with.
    pub fn compares(&self, with: With) -> bool {
        self.given().any(|score| {
            matches!(score.about().basis, Basis::Extractor { with: own, .. } if own == with)
        })
    }

    /// What is done to a picture before the network, in words.
    pub fn rule(&self) -> String {
        let resize =
            self.resize.map(|side| format!("shorter side to {side} (antialiased bicubic)"));
        let crop = self.crop.map(|side| format!("middle {side}x{side}"));
        let parts: Vec<String> = [resize, crop].into_iter().flatten().collect();
        if parts.is_empty() { "as it is".to_owned() } else { parts.join(", ") }
    }
}

impl Input {
    /// Bytes `[B,3,H,W]` as the network takes them.
    pub(super) fn of_bytes(self, bytes: &Tensor) -> Result<Tensor, TchError> {
        let float = || bytes.f_to_kind(Kind::Float);
        let channels = |values: [f32; 3]| {
            Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1])?.f_to_device(bytes.device())
        };
        match self {
            Self::Uint8 => Ok(bytes.shallow_clone()),
            Self::Float255 => float(),
            Self::Unit => float()?.f_div_scalar(255.0),
            Self::Signed => float()?.f_div_scalar(127.5)?.f_sub_scalar(1.0),
            Self::Imagenet => float()?
                .f_div_scalar(255.0)?
                .f_sub(&channels([0.485, 0.456, 0.406])?)?
                .f_div(&channels([0.229, 0.224, 0.225])?),
        }
    }
}
