//! The folder that the commands keep things in by themselves, `PALETTE_HOME`: the private
//! Postgres, the folders of jobs, runs. Owns its layout; creates nothing but on demand.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The bit of a folder whose group is that of all that is made in it, which the system hands down to new folders.
const SET_GROUP: u32 = 0o2000;

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
    /// `PALETTE_HOME_MODE=group`, to be read by its group too, which is handed down where the folder above has the
    /// setgid bit. Root's home itself can be passed by all, for the private server is another user's.
    ///
    /// # Errors
    /// Those of the file system; when the variable holds something else.
    pub fn make(&self, folder: &Path) -> std::io::Result<()> {
        let mode = mode()?;
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
        for folder in missing.into_iter().rev() {
            let inside = folder.starts_with(&self.0) && folder != self.0;
            let for_all = if nix::unistd::geteuid().is_root() && !inside { 0o711 } else { 0 };
            let mode = mode | for_all;
            // At once: a command that finds the folder a moment later needs the server's user to pass it.
            match std::fs::DirBuilder::new().mode(mode).create(folder) {
                // Whatever the umask takes away.
                Ok(()) => {
                    let made = opened(folder)?;
                    let inherited = made.metadata()?.permissions().mode() & SET_GROUP;
                    made.set_permissions(PermissionsExt::from_mode(mode | inherited))?;
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
        match File::options().create_new(true).append(true).mode(0o600).open(path) {
            Ok(file) => {
                // Whatever the umask takes away.
                file.set_permissions(PermissionsExt::from_mode(mode))?;
                Ok(file)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                File::options().append(true).open(path)
            }
            Err(error) => Err(error),
        }
    }

    /// What of the home all users of this machine may look into, as earlier versions made it; none where it is closed.
    pub fn is_open(&self) -> Option<Open> {
        let open = |folder: &Path, allowed: u32| {
            let meta = std::fs::symlink_metadata(folder);
            meta.is_ok_and(|meta| {
                meta.is_dir() && meta.permissions().mode() & 0o007 & !allowed != 0
            })
        };
        // Root's home itself can be passed by all, so that the folders in it must be closed.
        let root = nix::unistd::geteuid().is_root();
        let (passed, mode) = if root { (0o001, "o=x") } else { (0, "o=") };
        let within = [self.runs(), self.jobs(), self.0.join("cache")];
        let within = within.iter().filter(|folder| root && open(folder, 0));
        let own = Some((&self.0, mode)).filter(|(home, _)| open(home, passed));
        let all: Vec<_> = own.into_iter().chain(within.map(|folder| (folder, "o="))).collect();
        let list = |of: &dyn Fn(&(&PathBuf, &str)) -> String, between: &str| {
            all.iter().map(of).collect::<Vec<_>>().join(between)
        };
        let chmod = |(path, mode): &(&PathBuf, &str)| {
            format!("chmod {mode} {}", quoted(&path.display().to_string()))
        };
        (!all.is_empty()).then(|| Open {
            text: format!(
                "all users of this machine may look into {}",
                list(&|(path, _)| path.display().to_string(), ", ")
            ),
            remedy: list(&chmod, " && "),
        })
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

/// What of a home is open to all, and the command that closes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// What is open.
    pub text: String,
    /// The command.
    pub remedy: String,
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_look_into_is_said_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("it's")).unwrap();
        assert_eq!(home.is_open(), None, "it is not there");
        home.make(&home.runs()).unwrap();
        assert_eq!(home.is_open(), None);
        for folder in [home.path().to_owned(), home.runs()] {
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let open = home.is_open().unwrap();
        assert!(open.text.contains("it's"), "{open:?}");
        let done = std::process::Command::new("sh").args(["-c", &open.remedy]).status().unwrap();
        assert!(done.success(), "{open:?}");
        assert_eq!(home.is_open(), None);
    }
}
