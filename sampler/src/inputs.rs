//! Pictures of one's own: which files they are, and what of them goes to the network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::RgbImage;
use pipeline::Task;
use pipeline::degrade::{Degraded, colorization};
use pipeline::image::{self as picture, Window};
use pipeline::masks::MaskSet;
use pipeline::names::{ENDINGS, is_ending};
use terminal::Usage;

/// A picture file.
pub struct Input {
    /// The file.
    pub path: PathBuf,
    /// Its name without the ending: that of its outputs, and what its noise depends on.
    pub key: String,
}

/// The picture, or the pictures of a folder by name, not of the folders in it.
///
/// # Errors
/// When there are none, or two differ by their ending alone.
pub fn inputs(input: &Path) -> Result<Vec<Input>> {
    let context = || format!("--input {}", input.display());
    let (mut paths, mut others) = (Vec::new(), Vec::new());
    if std::fs::metadata(input).with_context(context)?.is_dir() {
        for entry in std::fs::read_dir(input).with_context(context)? {
            let path = entry.with_context(context)?.path();
            if is_ending(&path.extension().unwrap_or_default().to_string_lossy()) {
                paths.push(path);
            } else if path.is_file() {
                others.push(entry_name(&path));
            }
        }
        paths.sort();
        if !others.is_empty() {
            others.sort();
            let (count, first) = (others.len(), &others[0]);
            tracing::warn!(
                "{}: {count} files are no pictures by their endings, first {first}",
                context()
            );
        }
    } else {
        paths.push(input.to_owned());
    }
    if paths.is_empty() {
        let message = format!("{}: no picture ({})", context(), ENDINGS.join(", "));
        return Err(Usage::new(message).into());
    }
    let with_key = |path: PathBuf| {
        let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Input { path, key }
    };
    let inputs: Vec<Input> = paths.into_iter().map(with_key).collect();
    let mut names: HashMap<&str, &Path> = HashMap::new();
    for Input { path, key } in &inputs {
        if let Some(other) = names.insert(key, path) {
            let message = format!(
                "{} and {} would both become {key}-1.png: rename one of them",
                other.display(),
                path.display()
            );
            return Err(Usage::new(message).into());
        }
    }
    Ok(inputs)
}

fn entry_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// In which size a picture goes to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Its own.
    Own,
    /// Scaled until the shorter side has so many pixels.
    ShortSide(u32),
    /// The middle square at the network's size.
    Square(u32),
}

/// How pictures are read.
pub struct Reader {
    /// What is to be undone.
    pub task: Task,
    /// Their size.
    pub framing: Framing,
    /// Where they are to be made anew; everywhere without.
    pub masks: Option<MaskSet>,
}

impl Reader {
    /// A picture upright, and where it is to be made anew. For colorization its own colours are
    /// dropped; behind a mask nothing is looked at.
    ///
    /// # Errors
    /// When file or mask cannot be read, or are not of one size.
    pub fn read(&self, input: &Input) -> Result<Degraded> {
        let bytes = std::fs::read(&input.path)?;
        let decoded = picture::decode(&bytes)?;
        let own = picture::apply_orientation(decoded, picture::orientation(&bytes));
        let size = own.dimensions();
        let framed = match self.framing {
            Framing::Own => own,
            Framing::ShortSide(side) => picture::shrink(&own, side)?,
            Framing::Square(side) => picture::fit(&own, side, Window::CENTER)?,
        };
        let Some(masks) = self.masks.as_ref().filter(|_| self.task.has_hole()) else {
            return Ok(Degraded::whole(self.source(framed)));
        };
        let name = input.path.file_name().unwrap_or_default().to_string_lossy();
        let mask = masks.own_size(0, &name)?.dimensions();
        if mask != size {
            let ((mw, mh), (w, h)) = (mask, size);
            let message = format!("the mask is {mw}×{mh}, the picture {w}×{h}");
            return Err(Usage::new(message).into());
        }
        // Scaled and cut as the picture is.
        let mask = masks.mask(0, &name, framed.width(), framed.height())?;
        Ok(Degraded::hole(&framed, mask))
    }

    fn source(&self, picture: RgbImage) -> RgbImage {
        match self.task {
            Task::Colorization => colorization::grey(&picture),
            _ => picture,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_pictures_by_name_and_no_two_of_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        assert!(inputs(folder.path()).is_err_and(|error| error.is::<Usage>()));
        ["b.JPG", "a.png", "notes.txt"].into_iter().for_each(touch);
        std::fs::create_dir(folder.path().join("restored")).unwrap();
        let keys: Vec<String> =
            inputs(folder.path()).unwrap().into_iter().map(|input| input.key).collect();
        assert_eq!(keys, ["a", "b"]);
        touch("a.webp");
        let error = inputs(folder.path()).err().unwrap().to_string();
        assert!(error.contains("a.png") && error.contains("a.webp"), "{error}");
        assert!(inputs(&folder.path().join("none")).is_err());
    }
}
