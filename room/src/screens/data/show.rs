//! What is done to a photograph before it is shown.

use std::fmt;
use std::str::FromStr;

use pipeline::{Evaluation, Task};
use serde::Deserialize;

use crate::Refusal;

/// What is done to a photograph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Nothing.
    Photograph,
    /// What training does, drawn by a seed, with the paper's numbers.
    Train(Task),
    /// What an evaluation does.
    Evaluate(Evaluation),
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Photograph => f.write_str("photograph"),
            Self::Train(task) => write!(f, "train:{task}"),
            Self::Evaluate(evaluation) => evaluation.fmt(f),
        }
    }
}

impl FromStr for Show {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let refused = |error: pipeline::Error| {
            let text = error.to_string();
            Refusal::bad(text.chars().take(1000).collect::<String>())
        };
        if text.len() > 100 {
            return Err(Refusal::bad("show is too long for a degradation"));
        }
        match text.strip_prefix("train:") {
            Some(task) => task.parse().map(Self::Train).map_err(refused),
            None if text.is_empty() || text == "photograph" => Ok(Self::Photograph),
            None => text.parse().map(Self::Evaluate).map_err(refused),
        }
    }
}

/// What the form offers: what is sent, and what it is called.
pub fn offered() -> Vec<(String, String)> {
    let mut all = vec![("photograph".to_owned(), "photographs as they are".to_owned())];
    all.extend(
        Task::ALL.map(|task| (format!("train:{task}"), format!("{task}, as training draws it"))),
    );
    const EVALUATIONS: [&str; 10] = [
        "colorization",
        "inpainting:free-form-10-20",
        "inpainting:free-form-20-30",
        "inpainting:free-form-30-40",
        "inpainting:center",
        "uncropping:right-half",
        "jpeg:5",
        "jpeg:10",
        "jpeg:20",
        "superresolution:4",
    ];
    all.extend(EVALUATIONS.map(|one| (one.to_owned(), format!("{one}, as in an evaluation"))));
    all
}

/// What a page asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct View {
    /// What is done to the photographs; one that is typed goes before one that is chosen.
    pub show: String,
    /// An evaluation that is typed.
    pub other: String,
    /// The seed of the sample, and of what training draws.
    pub seed: u64,
    /// The page of the sample, from 0.
    pub page: u64,
    /// The side of the pictures in pixels.
    pub size: Option<u32>,
    /// The class of the photographs, by its index.
    #[serde(deserialize_with = "index")]
    pub class: Option<usize>,
}

/// A form sends a field that is empty.
fn index<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(from)?;
    match text.is_empty() {
        true => Ok(None),
        false => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Sides that are offered.
pub const SIZES: [u32; 4] = [64, 128, 256, 512];

impl View {
    /// What is shown.
    ///
    /// # Errors
    /// For what is no degradation.
    pub fn shown(&self) -> Result<Show, Refusal> {
        match self.other.trim() {
            "" => self.show.parse(),
            other => other.parse(),
        }
    }

    /// The side of the pictures, 8 to 1024 pixels.
    ///
    /// # Errors
    /// Out of range.
    pub fn side(&self) -> Result<u32, Refusal> {
        let side = self.size.unwrap_or(128);
        match (8..=1024).contains(&side) {
            true => Ok(side),
            false => Err(Refusal::bad(format!("size is {side}, allowed: 8 to 1024"))),
        }
    }
}
