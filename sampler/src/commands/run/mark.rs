//! What an output says of itself, in a text of its PNG file: what it was made from and how.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use diffusion::SamplingConfig;
use pipeline::Task;
use pipeline::masks::MaskOptions;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::extend::Extension;
use crate::inputs::Masks;

/// The keyword of the text.
pub const KEYWORD: &str = "palette";
/// Longest output that is read for its text.
const LONGEST: u64 = 1 << 30;

/// What all outputs of a command say, and each with its picture and number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark(Map<String, Value>);

/// How outputs are made.
pub struct Making<'a> {
    /// Digest of the weights.
    pub checkpoint: &'a str,
    pub task: Task,
    pub seed: u64,
    pub sampling: &'a SamplingConfig,
    pub masks: &'a Masks,
    pub reading: MaskOptions,
    pub extend: &'a [Extension],
    pub short_side: Option<u32>,
    pub square: bool,
}

impl Mark {
    /// What all outputs of a command say.
    ///
    /// # Errors
    /// When the masks cannot be read.
    pub fn of_all(making: &Making) -> Result<Self> {
        let mask = match making.masks {
            Masks::Given(masks) => Some(masks.digest()?),
            Masks::None | Masks::Erased(_) => None,
        };
        let extend: Vec<String> = making.extend.iter().map(ToString::to_string).collect();
        let all = json!({
            "checkpoint": making.checkpoint,
            "task": making.task,
            "seed": making.seed,
            "process": making.sampling,
            "mask": mask,
            "mask reading": making.task.has_hole().then_some(making.reading),
            "extend": extend,
            "short side": making.short_side,
            "square": making.square,
        });
        Ok(Self(all.as_object().cloned().unwrap_or_default()))
    }

    /// That of the output `sample`, from 0, of a picture.
    pub fn of(&self, key: &str, digest: &str, sample: u32) -> Self {
        let mut mark = self.0.clone();
        mark.insert("key".into(), key.into());
        mark.insert("input".into(), digest.into());
        mark.insert("sample".into(), sample.into());
        Self(mark)
    }

    pub fn text(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// In what the file at `path` differs from an output with this mark; nothing where it is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn difference(&self, path: &Path) -> Result<Option<String>> {
        let context = || path.display().to_string();
        let (opened, length) = storage::regular::open(path).with_context(context)?;
        if length > LONGEST {
            return Ok(Some("is no output of this program".into()));
        }
        let mut file = Vec::with_capacity(length as usize);
        opened.take(LONGEST).read_to_end(&mut file).with_context(context)?;
        let text = pictures::png_text(&file, KEYWORD);
        let found = text.and_then(|text| serde_json::from_str::<Map<String, Value>>(&text).ok());
        let Some(found) = found else { return Ok(Some("is no output of this program".into())) };
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(found.keys()).collect();
        let others: Vec<&str> = keys
            .into_iter()
            .filter(|key| self.0.get(*key) != found.get(*key))
            .map(String::as_str)
            .collect();
        Ok((!others.is_empty()).then(|| format!("was made with another {}", others.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use pictures::PngMeta;

    use super::*;

    #[test]
    fn an_output_is_known_by_what_is_written_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo-1.png");
        let of = |seed: u64| {
            let all = [("seed".to_owned(), seed.into()), ("checkpoint".to_owned(), "ab".into())];
            Mark(all.into_iter().collect()).of("photo", "cd", 0)
        };
        let picture = image::DynamicImage::ImageRgb8(image::RgbImage::new(2, 2));
        let text = vec![(KEYWORD.to_owned(), of(1).text())];
        let write = |text| {
            let meta = PngMeta { profile: None, text };
            std::fs::write(&path, pictures::png_with(&picture, meta).unwrap()).unwrap();
        };
        write(text);
        assert_eq!(of(1).difference(&path).unwrap(), None);
        let other = of(2).difference(&path).unwrap().unwrap();
        assert_eq!(other, "was made with another seed");
        write(Vec::new());
        assert_eq!(of(1).difference(&path).unwrap().unwrap(), "is no output of this program");
    }
}
