//! Pictures that are told apart by their names: those of a folder, matched with the keys of a dataset.
//! A name is a path within the folder or a key, without the ending of an image file.

mod file;
mod matching;

use std::fs;
use std::path::{Path, PathBuf};

pub use file::file_name;
pub use matching::{Endings, Found, Names};

use crate::{Error, Result};

/// Endings of image files.
pub const ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "webp", "jpe", "jfif", "jif", "pjpeg", "pjp"];
/// Folders within folders, at most.
const DEPTH: usize = 16;

/// Whether this is the ending of an image file, in upper or lower case.
pub fn is_ending(ending: &str) -> bool {
    ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

/// A name without the ending of an image file.
pub fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if is_ending(ending) => stem,
        _ => name,
    }
}

/// The image files below a folder with their names, in the order of the names.
///
/// # Errors
/// Where a folder cannot be read, lies too deep (a link may be a loop), or a picture has a name that is no UTF-8.
pub fn pictures(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    collect(folder, "", DEPTH, &mut all)?;
    all.sort();
    Ok(all)
}

/// `prefix` is the folder's path within the root, with a slash.
fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    all: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))? {
        let path = entry.map_err(Error::io("read folder", folder))?.path();
        let refused = |message: &str| Error::Refused {
            place: crate::error::printable(path.display().to_string()),
            message: message.to_owned(),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_folder = path.is_dir();
        let plain = stem(&name);
        if !is_folder && plain.len() == name.len() {
            continue;
        }
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(refused("its name is no UTF-8: rename it, so that it can be told by name"));
        }
        if !is_folder {
            all.push((format!("{prefix}{plain}"), path));
        } else if depth == 0 {
            return Err(refused("more than 16 folders lie in each other: is a link a loop?"));
        } else {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, all)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_folders_are_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("z/y")).unwrap();
        for name in ["b.png", "a.JPG", "z/y/c.webp", "note.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<String> =
            pictures(folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "z/y/c"]);
    }

    #[test]
    fn no_picture_is_left_out_in_silence() {
        use std::os::unix::ffi::OsStrExt;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
        let refused = || pictures(folder.path()).unwrap_err().to_string();
        fs::write(at(b"a.png"), "").unwrap();
        fs::write(at(b"note\xe9.txt"), "").unwrap();
        assert_eq!(pictures(folder.path()).unwrap().len(), 1, "a note is no picture");
        fs::write(at(b"caf\xe9.png"), "").unwrap();
        assert!(refused().contains("no UTF-8"), "{}", refused());
        fs::remove_file(at(b"caf\xe9.png")).unwrap();
        fs::create_dir(at(b"caf\xe9")).unwrap();
        assert!(refused().contains("no UTF-8"), "{}", refused());
        fs::remove_dir(at(b"caf\xe9")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at(b"loop")).unwrap();
        assert!(refused().contains("a loop"), "{}", refused());
    }
}
