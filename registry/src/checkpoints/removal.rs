//! The files of a checkpoint that retires: removed where they are provably its own. A row names its folder by an
//! address, and who wrote the row may have named another's.

use storage::Place;

use crate::{Error, Result};

/// The file that makes the folder of a checkpoint complete: written last, removed first.
const SEAL: &str = "state.json";

/// A checkpoint to remove, as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The address of its run's folder.
    pub run_uri: String,
    /// Its step.
    pub step: i64,
    /// The address of its own folder.
    pub uri: String,
    /// SHA-256 of its `state.json`.
    pub digest: String,
}

impl Removal {
    /// Removes the files; that they are gone already is no error.
    ///
    /// # Errors
    /// When the folder is not where its run keeps that step, is a link or reached by one in the place of the run's
    /// folder, holds anything but plain files, or has another `state.json` than the registered one: then nothing is
    /// removed. When a file cannot be removed.
    pub fn carry_out(&self) -> Result<()> {
        let refused = |why: &str| Error::Failed(format!("{}: {why}: not removed", self.uri));
        let run = Place::stored(&self.run_uri).map_err(storage::Error::from)?;
        let place = Place::stored(&self.uri).map_err(storage::Error::from)?;
        if run.join(&format!("step-{:08}", self.step)).ok().as_ref() != Some(&place) {
            return Err(refused("is not where its run keeps this step"));
        }
        if run.local().is_some_and(|folder| folder.is_symlink()) {
            return Err(refused("lies behind a link in the place of its run's folder"));
        }
        Ok(storage::folder::remove(&place, SEAL, &self.digest)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn write(folder: &Path) -> String {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("model.safetensors"), "weights").unwrap();
        std::fs::write(folder.join(SEAL), "state").unwrap();
        storage::atomic::sha256(b"state")
    }

    #[test]
    fn only_what_is_provably_that_checkpoint_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let digest = write(&home.path().join("run/step-00000005"));
        let good =
            Removal { run_uri: path("run"), step: 5, uri: path("run/step-00000005"), digest };
        // Foreign folders that are flat too.
        let stranger = write(&home.path().join("other/step-00000005"));
        write(&home.path().join("photographs"));
        std::fs::write(home.path().join("photographs/dog.jpg"), "").unwrap();
        symlink(home.path().join("run"), home.path().join("link")).unwrap();
        symlink(home.path().join("other/step-00000005"), home.path().join("run/step-00000007"))
            .unwrap();
        std::fs::create_dir(home.path().join("run/step-00000009")).unwrap();
        std::fs::write(home.path().join("run/step-00000009/dog.jpg"), "").unwrap();
        for (removal, why) in [
            (Removal { uri: path("photographs"), ..good.clone() }, "not where its run keeps"),
            (
                Removal { uri: path("other/step-00000005"), ..good.clone() },
                "not where its run keeps",
            ),
            (Removal { step: 6, ..good.clone() }, "not where its run keeps"),
            (Removal { uri: path("run/../run/step-00000005"), ..good.clone() }, ""),
            (
                Removal { run_uri: path("link"), uri: path("link/step-00000005"), ..good.clone() },
                "behind a link",
            ),
            (
                Removal {
                    step: 7,
                    uri: path("run/step-00000007"),
                    digest: stranger,
                    ..good.clone()
                },
                "plain files",
            ),
            (Removal { step: 9, uri: path("run/step-00000009"), ..good.clone() }, "no state.json"),
            (Removal { digest: "0".repeat(64), ..good.clone() }, "another state.json"),
        ] {
            let error = removal.carry_out().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("not removed"), "{removal:?}: {error}");
        }
        for kept in [
            "photographs/dog.jpg",
            "other/step-00000005/state.json",
            "run/step-00000005/state.json",
        ] {
            assert!(home.path().join(kept).exists(), "{kept}");
        }
        good.carry_out().unwrap();
        assert!(!home.path().join("run/step-00000005").exists());
        good.carry_out().unwrap();
    }
}
