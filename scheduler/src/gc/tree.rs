//! Files under the home: what they take, and how they are removed without ever leaving it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use home::Home;
use registry::{Error, Result};

/// What a file or a folder with all that is in it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Lengths of the files together.
    pub bytes: u64,
    /// When anything of it was changed for the last time.
    pub changed: SystemTime,
}

/// Measures a file or a folder; none where there is nothing. Links count as themselves.
pub(super) fn size(path: &Path) -> Result<Option<Size>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let changed = meta.modified().map_err(Error::io(path))?;
    let mut all = Size { bytes: 0, changed };
    if !meta.is_dir() {
        all.bytes = meta.len();
        return Ok(Some(all));
    }
    for entry in entries(path)? {
        // What vanished meanwhile takes nothing.
        if let Some(inner) = size(&entry)? {
            all.bytes += inner.bytes;
            all.changed = all.changed.max(inner.changed);
        }
    }
    Ok(Some(all))
}

/// What lies directly in a folder, by name; nothing where there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Error::io(folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// True for a folder that is no link to one.
pub(super) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Refuses a path that does not lie in the home, or to which a link below the home leads.
pub(super) fn inside(home: &Home, path: &Path) -> Result<()> {
    let refused = |why: &str| Error::Invalid(format!("{}: {why}", path.display()));
    let below = path.strip_prefix(home.path()).map_err(|_| refused("lies outside of the home"))?;
    let mut at = home.path().to_owned();
    for part in below.components() {
        let Component::Normal(name) = part else { return Err(refused("is no plain path")) };
        at.push(name);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_symlink() => {
                let message = format!("{} is a link, which is not followed", at.display());
                return Err(refused(&message));
            }
            Ok(_) => {}
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(Error::io(&at)(error)),
        }
    }
    Ok(())
}

/// Removes a file or folder of the home; that it is gone already is no error. A folder that people or
/// programs may look for is hidden first, so that nobody takes what is left of it for the whole.
pub(super) fn remove(home: &Home, path: &Path) -> Result<()> {
    inside(home, path)?;
    let hidden = hidden(path);
    inside(home, &hidden)?;
    gone(fs::remove_dir_all(&hidden), &hidden)?;
    if !is_folder(path) {
        return gone(fs::remove_file(path), path);
    }
    fs::rename(path, &hidden).map_err(Error::io(path))?;
    gone(fs::remove_dir_all(&hidden), &hidden)
}

/// Where what is being removed lies meanwhile.
pub(super) fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.starts_with('.') {
        true => path.to_owned(),
        false => path.with_file_name(format!(".{name}.removed")),
    }
}

fn gone(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if !is_missing(&error) => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_home_is_touched_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("home")).unwrap();
        let outside = folder.path().join("outside/step");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        fs::create_dir_all(home.path().join("runs/a")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), home.path().join("runs/link"))
            .unwrap();
        let refused = |path: PathBuf| remove(&home, &path).unwrap_err().to_string();
        assert!(refused(outside.clone()).ends_with("lies outside of the home"));
        assert!(refused(home.path().join("../outside/step")).ends_with("is no plain path"));
        for link in ["runs/link/step", "runs/link"] {
            let error = refused(home.path().join(link));
            assert!(error.ends_with("runs/link is a link, which is not followed"), "{error}");
        }
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");

        // A link within what is removed goes, what it points to stays.
        std::os::unix::fs::symlink(&outside, home.path().join("runs/a/link")).unwrap();
        fs::write(home.path().join("runs/a/file"), "four").unwrap();
        let link = outside.as_os_str().len() as u64;
        assert_eq!(size(&home.path().join("runs/a")).unwrap().unwrap().bytes, 4 + link);
        fs::create_dir_all(home.path().join("runs/.a.removed")).unwrap();
        remove(&home, &home.path().join("runs/a/file")).unwrap();
        remove(&home, &home.path().join("runs/a")).unwrap();
        remove(&home, &home.path().join("runs/a")).unwrap();
        assert_eq!(entries(&home.path().join("runs")).unwrap().len(), 1);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");
    }
}
