//! What an exported file says of its network, as JSON in the safetensors file's own description: with
//! it weights come back as what they were, not as what such weights usually are.
use super::Format;
use crate::{DiffusionConfig, Error, ModelConfig, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// The network alone: what versions before [`Description`] wrote, and what they read.
const MODEL: &str = "palette.model";
/// The whole description.
const KEY: &str = "palette.checkpoint";
const VERSION: u32 = 1;

/// A network and its training, as far as sampling and further training need them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Whose names the tensors have.
    pub format: Format,
    /// The network.
    pub model: ModelConfig,
    /// Objective and schedules.
    pub diffusion: DiffusionConfig,
    /// Height and width of the images in pixels.
    pub image_size: [u32; 2],
    /// Optimizer steps done.
    pub step: u64,
    /// Of the run's configuration what says for what the network was trained: its name, tasks, precision.
    pub trained: Value,
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    description: Description,
}

/// What a file says of itself.
pub(super) enum Found {
    /// Everything.
    Whole(Box<Description>),
    /// The network only.
    Model(ModelConfig),
    /// Nothing.
    Nothing,
}

impl Description {
    /// As it is written beside the tensors.
    pub(super) fn entries(&self) -> Result<HashMap<String, String>> {
        let json = |error: serde_json::Error| Error::Shape(format!("a description: {error}"));
        let versioned = Versioned { version: VERSION, description: self.clone() };
        Ok(HashMap::from([
            (MODEL.to_owned(), serde_json::to_string(&self.model).map_err(json)?),
            (KEY.to_owned(), serde_json::to_string(&versioned).map_err(json)?),
        ]))
    }
}

/// What the description of the file at `path` says.
pub(super) fn read(entries: &HashMap<String, String>, path: &Path) -> Result<Found> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let unread = |key: &str, error: serde_json::Error| {
        wrong(format!("its description `{key}` cannot be read: {error}"))
    };
    if let Some(text) = entries.get(KEY) {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text).map_err(|error| unread(KEY, error))?;
        if version > VERSION {
            return Err(wrong(format!(
                "its description has version {version}, this program reads versions up to \
                 {VERSION}: update it"
            )));
        }
        let Versioned { description, .. } =
            serde_json::from_str(text).map_err(|error| unread(KEY, error))?;
        return Ok(Found::Whole(Box::new(description)));
    }
    match entries.get(MODEL) {
        Some(text) => {
            serde_json::from_str(text).map(Found::Model).map_err(|error| unread(MODEL, error))
        }
        None => Ok(Found::Nothing),
    }
}
