//! The four tasks of the paper.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What the network is asked to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Grey to colour.
    Colorization,
    /// A hole inside the image.
    Inpainting,
    /// Missing borders.
    Uncropping,
    /// Blocks and colour bleeding of strong JPEG compression.
    Jpeg,
}

impl Task {
    /// All tasks, in the paper's order.
    pub const ALL: [Self; 4] = [Self::Colorization, Self::Inpainting, Self::Uncropping, Self::Jpeg];

    /// True where a masked region is to be generated and the rest of the source is known (the
    /// device fills the masked region with noise); false where the whole image is generated.
    pub fn has_hole(self) -> bool {
        matches!(self, Self::Inpainting | Self::Uncropping)
    }

    /// The name as written in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Colorization => "colorization",
            Self::Inpainting => "inpainting",
            Self::Uncropping => "uncropping",
            Self::Jpeg => "jpeg",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|task| task.name() == text).ok_or_else(|| {
            Error::config(
                "task",
                format!("`{text}`"),
                "colorization, inpainting, uncropping or jpeg",
            )
        })
    }
}
