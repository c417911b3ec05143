//! Removing the file of a picture: by its name, which is its digest, and only where it has that content.

use storage::{Place, Store};

use crate::pictures::picture_address;
use crate::{Error, Result};

/// Longest file that is looked at, as the table's constraint has it.
const LONGEST: u64 = 256 << 20;

/// Removes the file of a picture of a run; that it is gone already is no error.
///
/// # Errors
/// When the run's folder is a link, or the file has other content than its name says: then it is left. When it cannot
/// be removed.
pub fn remove_picture(run_uri: &str, digest: &str) -> Result<()> {
    let (place, file) = picture_address(run_uri, digest)?;
    let run = Place::stored(run_uri).map_err(storage::Error::from)?;
    let is_link = |place: &Place| place.local().is_some_and(|folder| folder.is_symlink());
    if is_link(&run) || is_link(&place) {
        return Err(Error::Failed(format!("{place} lies behind a link: {file} is not removed")));
    }
    let store = Store::open(&place)?;
    match store.read(&file, LONGEST)? {
        None => Ok(()),
        Some(bytes) if storage::atomic::sha256(&bytes) == digest => Ok(store.remove(&file)?),
        Some(_) => Err(Error::Failed(format!(
            "{place}/{file} is not the picture of that digest: not removed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_that_content_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let digest = storage::atomic::sha256(b"a picture");
        std::fs::create_dir_all(run.join("pictures")).unwrap();
        let file = run.join(format!("pictures/{digest}.png"));
        let uri = run.to_str().unwrap();

        std::fs::write(&file, "a letter").unwrap();
        assert!(remove_picture(uri, &digest).unwrap_err().to_string().contains("not removed"));
        for wrong in ["../state", "", &digest.to_uppercase(), &digest[1..]] {
            assert!(remove_picture(uri, wrong).unwrap_err().to_string().contains("SHA-256"));
        }
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&run, &link).unwrap();
        std::fs::write(&file, "a picture").unwrap();
        let behind = remove_picture(link.to_str().unwrap(), &digest).unwrap_err().to_string();
        assert!(behind.contains("behind a link"), "{behind}");
        assert!(file.exists());

        remove_picture(uri, &digest).unwrap();
        assert!(!file.exists());
        remove_picture(uri, &digest).unwrap();
    }
}
