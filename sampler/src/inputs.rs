//! Pictures of one's own: which files they are, and what of them goes to the network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{GrayImage, RgbImage};
use pipeline::Task;
use pipeline::degrade::{Degraded, area, colorization};
use pipeline::image::{self as picture, Full, Limits, Window};
use pipeline::masks::{self, Drawn, MaskOptions, MaskSet, Taken};
use pipeline::names::{ENDINGS, is_ending};
use serde::{Deserialize, Serialize};
use storage::atomic;
use terminal::Usage;

use crate::given::Given;

/// A picture file.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    // Outputs are called by it, and what is said of them is text.
    let with_key = |path: PathBuf| match path.file_stem().unwrap_or_default().to_str() {
        Some(key) => Ok(Input { key: key.to_owned(), path }),
        None => Err(Usage::new(format!("{path:?} has a name that is no UTF-8: rename it"))),
    };
    let inputs = paths.into_iter().map(with_key).collect::<Result<Vec<Input>, _>>()?;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Where they are to be made anew.
    pub masks: Masks,
}

/// Where pictures are to be made anew.
pub enum Masks {
    /// Everywhere, or beside what is there.
    None,
    /// Where these say so.
    Given(MaskSet),
    /// Where the pictures themselves are transparent.
    Erased(MaskOptions),
}

/// A picture that was read.
pub struct Picture {
    /// The picture upright and in its frame.
    pub framed: RgbImage,
    /// What goes to the network.
    pub degraded: Degraded,
    /// What comes back as it was.
    pub given: Given,
    /// SHA-256 of the file.
    pub digest: String,
    /// What the mask was taken for.
    pub mask: Option<Taken>,
    /// What of the file cannot be kept, a line each.
    pub lost: Vec<String>,
}

impl Reader {
    /// A picture upright, and where it is to be made anew. For colorization its own colours are
    /// dropped; behind a mask nothing is looked at.
    ///
    /// # Errors
    /// When file or mask cannot be read, or are not of one size.
    pub fn read(&self, input: &Input) -> Result<Picture> {
        let bytes = picture::read(&input.path, &Limits::DECODE)?;
        let full = picture::decode_full(&bytes)?;
        let frame = |picture: &RgbImage| match self.framing {
            Framing::Own => Ok(picture.clone()),
            Framing::ShortSide(side) => picture::shrink(picture, side),
            Framing::Square(side) => picture::fit(picture, side, Window::CENTER),
        };
        let framed = frame(&full.flat)?;
        let is_deep = full.more.as_ref().is_some_and(|more| more.color().bytes_per_pixel() > 4);
        let mut lost = full.lost.clone();
        let mut given = match self.framing {
            Framing::Own => Given::of(&full),
            _ => {
                lost.extend(is_deep.then(|| "its 16 bits, because it is scaled".to_owned()));
                Given::framed(&full, &framed, frame)?
            }
        };
        if self.task == Task::Colorization && given.drop_profile() {
            lost.push("its colour profile: colours are made as sRGB".to_owned());
        }
        let mask = self.mask(input, &full)?;
        let degraded = match &mask {
            None => Degraded::whole(self.source(framed.clone())),
            Some(taken) => {
                // Scaled and cut as the picture is.
                let mask = masks::cover(&taken.mask, framed.width(), framed.height());
                check_hole(&mask)?;
                Degraded::hole(&framed, mask)
            }
        };
        let digest = atomic::sha256(&bytes);
        Ok(Picture { framed, degraded, given, digest, mask, lost })
    }

    /// The mask in the picture's own size.
    fn mask(&self, input: &Input, full: &Full) -> Result<Option<Taken>> {
        if !self.task.has_hole() {
            return Ok(None);
        }
        let taken = match &self.masks {
            Masks::None => return Ok(None),
            Masks::Given(masks) => {
                let name = input.path.file_name().unwrap_or_default().to_string_lossy();
                masks.own_size(0, &name)?
            }
            Masks::Erased(options) => {
                let erased = Given::of(full).erased().ok_or_else(|| {
                    let message = format!(
                        "--mask is needed for {}, or a picture out of which the hole was erased: \
                         nothing of this one is transparent",
                        self.task
                    );
                    Usage::new(message)
                })?;
                let taken = options.taken(erased, Drawn::Erased);
                taken.map_err(|why| Usage::new(format!("its transparency marks {why}")))?
            }
        };
        let (mask, size) = (taken.mask.dimensions(), full.flat.dimensions());
        if mask != size {
            let ((mw, mh), (w, h)) = (mask, size);
            let message = format!("the mask is {mw}×{mh}, the picture {w}×{h}");
            return Err(Usage::new(message).into());
        }
        Ok(Some(taken))
    }

    fn source(&self, picture: RgbImage) -> RgbImage {
        match self.task {
            Task::Colorization => colorization::grey(&picture),
            _ => picture,
        }
    }
}

/// An error where a hole is gone, or is all that is left, after the picture was scaled and cut.
fn check_hole(mask: &GrayImage) -> Result<(), Usage> {
    let part = area(mask);
    match part > 0.0 && part < 1.0 {
        true => Ok(()),
        false => {
            let marks = if part > 0.0 { "everything" } else { "nothing" };
            Err(Usage::new(format!(
                "the mask marks {marks} of what is left after scaling and cutting"
            )))
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
