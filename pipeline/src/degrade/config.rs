//! The table `[data.degradation]`: every number of every degradation, defaults as in the paper.

use serde::{Deserialize, Serialize};

use super::{BoxesConfig, JpegConfig, StrokesConfig, UncropConfig};
use crate::Result;
use crate::config::within;

/// Numbers of the training degradations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DegradationConfig {
    /// Share of the inpainting masks that are free-form strokes; the rest are boxes.
    pub free_form_share: f64,
    /// Free-form strokes.
    pub strokes: StrokesConfig,
    /// Boxes.
    pub boxes: BoxesConfig,
    /// Missing borders.
    pub uncrop: UncropConfig,
    /// JPEG compression.
    pub jpeg: JpegConfig,
}

impl Default for DegradationConfig {
    fn default() -> Self {
        Self {
            free_form_share: 0.6,
            strokes: StrokesConfig::default(),
            boxes: BoxesConfig::default(),
            uncrop: UncropConfig::default(),
            jpeg: JpegConfig::default(),
        }
    }
}

impl DegradationConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        within("data.degradation.free_form_share", self.free_form_share, 0.0, 1.0)?;
        self.strokes.validate()?;
        self.boxes.validate()?;
        self.uncrop.validate()?;
        self.jpeg.validate()
    }
}
