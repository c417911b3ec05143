//! The folder that a dataset is made in: claimed by one process, worked on in `.ingest/`, published
//! in the end. Until then a finished dataset that is to be replaced stays as it is.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::dataset::{MANIFEST, Manifest};
use crate::{Error, Result, atomic};

const WORK: &str = ".ingest";
const REJECTS: &str = "rejects.parquet";

/// A claimed folder; the claim ends with the process at the latest.
pub(super) struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Place {
    /// Claims the folder and clears what an unfinished ingest has left in it.
    pub(super) fn claim(folder: &Path, overwrite: bool) -> Result<Self> {
        let refused = |message: &str| Error::Refused {
            place: folder.display().to_string(),
            message: message.to_owned(),
        };
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(Error::io("create folder", &data))?;
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused(
                    "another ingest is writing here; wait for it or choose another folder",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        if folder.join(MANIFEST).exists() && !overwrite {
            return Err(refused(
                "already holds a finished dataset; choose another folder, or say --overwrite",
            ));
        }
        let work = folder.join(WORK);
        if work.exists() {
            fs::remove_dir_all(&work).map_err(Error::io("clear", &work))?;
        }
        fs::create_dir(&work).map_err(Error::io("create folder", &work))?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Where shard `number` is written.
    pub(super) fn staged(&self, number: usize) -> PathBuf {
        self.folder.join(WORK).join(format!("{number:05}.parquet"))
    }

    /// Where the rejects are written.
    pub(super) fn staged_rejects(&self) -> PathBuf {
        self.folder.join(WORK).join(REJECTS)
    }

    /// Gives everything its final name, the manifest last. From the removal of an old manifest to the
    /// writing of the new one the folder is no dataset, and says so.
    pub(super) fn publish(&self, manifest: &Manifest) -> Result<()> {
        let old = self.folder.join(MANIFEST);
        if old.exists() {
            fs::remove_file(&old).map_err(Error::io("remove", &old))?;
            atomic::sync_folder(&old)?;
        }
        self.clear_shards()?;
        for (number, shard) in manifest.shards.iter().enumerate() {
            let path = self.folder.join(&shard.file);
            fs::rename(self.staged(number), &path).map_err(Error::io("rename into", &path))?;
        }
        let rejects = self.folder.join(REJECTS);
        atomic::rename(&self.staged_rejects(), &rejects)?;
        atomic::sync_folder(&self.folder.join("data").join(MANIFEST))?;
        manifest.write(&self.folder)?;
        let work = self.folder.join(WORK);
        fs::remove_dir(&work).map_err(Error::io("remove", &work))
    }

    /// Removes shards of an older or unfinished dataset; other files are left alone.
    fn clear_shards(&self) -> Result<()> {
        let data = self.folder.join("data");
        for entry in fs::read_dir(&data).map_err(Error::io("read folder", &data))? {
            let path = entry.map_err(Error::io("read folder", &data))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_shard(&name) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// `SPLIT-00000-of-00012.parquet`.
fn is_shard(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".parquet") else { return false };
    let mut parts = stem.rsplitn(4, '-');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| part.len() >= 5 && part.bytes().all(|b| b.is_ascii_digit()))
    };
    number(parts.next())
        && parts.next() == Some("of")
        && number(parts.next())
        && parts.next().is_some()
}
