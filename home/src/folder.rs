//! The folder that the commands keep things in by themselves, `PALETTE_HOME`: the private
//! Postgres, the folders of jobs, runs. Owns its layout; creates nothing but on demand.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The layout of the home folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// `PALETTE_HOME`, or `$XDG_DATA_HOME/palette`, or `~/.local/share/palette`; for root without
    /// either of the first two `/var/lib/palette`, because the server's user cannot enter `/root`.
    ///
    /// # Errors
    /// When none of `PALETTE_HOME`, `XDG_DATA_HOME` and `HOME` is set, or the folder is not
    /// absolute and the current folder is gone.
    pub fn from_env() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = if let Some(home) = set("PALETTE_HOME") {
            PathBuf::from(home)
        } else if let Some(data) = set("XDG_DATA_HOME") {
            Path::new(&data).join("palette")
        } else if nix::unistd::geteuid().is_root() {
            PathBuf::from("/var/lib/palette")
        } else if let Some(home) = set("HOME") {
            Path::new(&home).join(".local/share/palette")
        } else {
            return Err(Error::Unset);
        };
        Self::at(&path)
    }

    /// The home at this folder.
    ///
    /// # Errors
    /// When the path is relative and the current folder is gone; when its name is no UTF-8.
    pub fn at(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).map_err(Error::io(path))?;
        if absolute.to_str().is_none() {
            return Err(Error::NotText(absolute));
        }
        Ok(Self(absolute))
    }

    /// Makes a folder of the home, and those above it that are missing: for its user alone, or, where
    /// `PALETTE_HOME_MODE=group`, to be read by its group too. Root's home itself can be passed by all, for the
    /// private server is another user's.
    ///
    /// # Errors
    /// Those of the file system; when the variable holds something else.
    pub fn make(&self, folder: &Path) -> std::io::Result<()> {
        let mode = mode()?;
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
        for folder in missing.into_iter().rev() {
            let inside = folder.starts_with(&self.0) && folder != self.0;
            let for_all = if nix::unistd::geteuid().is_root() && !inside { 0o711 } else { 0 };
            match std::fs::DirBuilder::new().mode(0o700).create(folder) {
                // Whatever the umask takes away.
                Ok(()) => {
                    opened(folder)?.set_permissions(PermissionsExt::from_mode(mode | for_all))?
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Opens a log in the home, to be written on at its end; a new one is read by whom [`Home::make`] lets in.
    ///
    /// # Errors
    /// Those of the file system; when `PALETTE_HOME_MODE` is neither `private` nor `group`.
    pub fn log(&self, path: &Path) -> std::io::Result<File> {
        let mode = mode()? & 0o660;
        File::options().create(true).append(true).mode(mode).open(path)
    }

    /// The folder itself, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the private Postgres lies in.
    pub fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    /// What the folders of runs lie in.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// Where the checkpoints of a run go when its submitter names no other place.
    pub fn run(&self, short: &str) -> PathBuf {
        self.runs().join(short)
    }

    /// Copies of checkpoints that lie in object stores.
    pub fn checkpoint_cache(&self) -> PathBuf {
        self.0.join("cache/checkpoints")
    }

    /// Statistics of sets that many systems are compared with, by what they depend on.
    pub fn statistics(&self) -> PathBuf {
        self.0.join("cache/statistics")
    }

    /// The working folders of attempts.
    pub fn jobs(&self) -> PathBuf {
        self.0.join("jobs")
    }

    /// The working folder of an attempt; its `log` lies in it.
    pub fn attempt(&self, job_short: &str, number: i32) -> PathBuf {
        self.jobs().join(job_short).join(format!("attempt-{number}"))
    }
}

/// The mode of the home's folders.
fn mode() -> std::io::Result<u32> {
    const VARIABLE: &str = "PALETTE_HOME_MODE";
    match std::env::var_os(VARIABLE).as_deref().and_then(|mode| mode.to_str()) {
        None | Some("" | "private") => Ok(0o700),
        Some("group") => Ok(0o750),
        Some(other) => {
            let message = format!("{VARIABLE} is `{other}`: private or group");
            Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message))
        }
    }
}

/// A folder that is no link.
fn opened(folder: &Path) -> std::io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_DIRECTORY;
    File::options().read(true).custom_flags(flags.bits()).open(folder)
}
