//! The files that `sampler run` writes: what they are called, and what they must not replace.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use terminal::Usage;

use crate::inputs::Input;

/// `photo-1.png` for the first sample of `photo.jpg`.
pub fn output(folder: &Path, key: &str, sample: u32) -> PathBuf {
    folder.join(format!("{key}-{}.png", sample + 1))
}

/// `photo-1-process.png`, the denoising of that sample.
pub fn process(folder: &Path, key: &str, sample: u32) -> PathBuf {
    folder.join(format!("{key}-{}-process.png", sample + 1))
}

/// `photo-mask.png`, the picture with its hole marked.
pub fn overlay(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}-mask.png"))
}

/// An error where two outputs would have one name, or one would replace a picture that is read, also one of
/// those beside the inputs.
///
/// # Errors
/// Names both.
pub fn check<'a>(
    outputs: impl Iterator<Item = (&'a Input, PathBuf)>,
    read: &[PathBuf],
) -> Result<(), Usage> {
    let read: HashSet<PathBuf> = read.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut taken: HashMap<PathBuf, &Path> = HashMap::new();
    for (input, path) in outputs {
        let shown = path.display();
        if let Ok(own) = path.canonicalize()
            && read.contains(&own)
        {
            return Err(Usage::new(format!(
                "{shown}, which is read, would be replaced by an output of {}: choose another --out",
                input.path.display()
            )));
        }
        if let Some(other) = taken.insert(path.clone(), &input.path)
            && other != input.path
        {
            return Err(Usage::new(format!(
                "outputs of {} and {} would both be {shown}: rename one of them",
                other.display(),
                input.path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_replace_no_picture_and_no_other_output() {
        let folder = tempfile::tempdir().unwrap();
        let input = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            Input { key: name.trim_end_matches(".png").to_owned(), path }
        };
        let all = [input("a.png"), input("a-1.png"), input("b.png")];
        let read: Vec<PathBuf> = all.iter().map(|input| input.path.clone()).collect();
        let into =
            |out: &Path| check(all.iter().map(|input| (input, output(out, &input.key, 0))), &read);
        let message = into(folder.path()).unwrap_err().to_string();
        assert!(message.contains("a-1.png, which is read"), "{message}");
        // The same folder by another name.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(into(&link).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(into(elsewhere.path()).is_ok());
        let both = [(&all[0], elsewhere.path().join("x")), (&all[2], elsewhere.path().join("x"))];
        let message = check(both.into_iter(), &[]).unwrap_err().to_string();
        assert!(message.contains("would both be"), "{message}");
    }
}
