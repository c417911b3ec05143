//! The private Postgres: a cluster of the server's own programs under the home folder, on a unix
//! socket only, started by whichever command needs it first. It keeps running between commands.
//!
//! Layout under `PALETTE_HOME/postgres`: `data` (the cluster), `run` (the socket), `log`, `lock`.
//! Starting and stopping happen under an exclusive lock of `lock`; a cluster is made with its database
//! beside and renamed, so that `data` is always whole. Who can enter `run` is who can connect: its mode is
//! 0700, so the cluster trusts the role that a client names there, and there alone: over TCP, where somebody
//! turns that on, it asks for a password.

mod environment;
mod plain;
mod programs;
mod server;

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};
use sha2::{Digest, Sha256};

pub use environment::shut_out_options;
pub use programs::Programs;
pub use server::Server;

use crate::{Error, Home, Result};

/// Role and database of the private cluster.
pub const NAME: &str = "palette";

/// The length that the name of a unix socket may have, with its final zero.
const SOCKET_LIMIT: usize = 107;

/// Who the server runs as: it refuses root.
#[derive(Clone, Debug)]
struct ServerUser {
    name: String,
    uid: Uid,
    gid: Gid,
    /// True when this process must change to that user for it.
    other: bool,
}

impl ServerUser {
    /// The current user; for root `postgres`, or else `nobody`.
    fn current() -> Result<Self> {
        let uid = nix::unistd::geteuid();
        if !uid.is_root() {
            let gid = nix::unistd::getegid();
            return Ok(Self { name: uid.to_string(), uid, gid, other: false });
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Ok(Self { name: user.name, uid: user.uid, gid: user.gid, other: true });
            }
        }
        Err(Error::Postgres(
            "root cannot run it and there is no user `postgres` or `nobody`: add one".into(),
        ))
    }

    /// A new folder that only the server's user enters.
    fn own_folder(&self, path: &Path) -> Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let found = std::fs::symlink_metadata(path).map_err(Error::io(path))?;
                if self.other && found.is_dir() && found.uid() == 0 {
                    // Made by another command that has not given it away yet, or never will.
                    return self.give(path);
                }
                if !found.is_dir() || found.uid() != self.uid.as_raw() {
                    return Err(Error::Postgres(format!(
                        "{} must be a folder of user {}, but is user {}'s: `chown -R {} {}`, or \
                         set PALETTE_HOME to another folder",
                        path.display(),
                        self.name,
                        found.uid(),
                        self.name,
                        path.display()
                    )));
                }
                Ok(())
            }
            Err(error) => Err(not_writable(path, &error)),
        }
    }

    /// Makes a folder of ours the server's user's, and closes it to everybody else whatever the umask was.
    fn give(&self, path: &Path) -> Result<()> {
        let folder = plain::folder(path).map_err(Error::io(path))?;
        let found = folder.metadata().map_err(Error::io(path))?;
        if self.other && found.uid() == self.uid.as_raw() {
            // Another command has given it away meanwhile.
            return Ok(());
        }
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(Error::Postgres(format!(
                "{} was replaced by a folder of user {} while it was made",
                path.display(),
                found.uid()
            )));
        }
        folder.set_permissions(PermissionsExt::from_mode(0o700)).map_err(Error::io(path))?;
        if self.other {
            let (user, group) = (self.uid.as_raw(), self.gid.as_raw());
            std::os::unix::fs::fchown(&folder, Some(user), Some(group)).map_err(Error::io(path))?;
        }
        Ok(())
    }

    /// Checks that the server's user can pass through every parent of `path`.
    fn can_reach(&self, path: &Path) -> Result<()> {
        if !self.other {
            return Ok(());
        }
        for parent in path.ancestors().skip(1) {
            let found = std::fs::metadata(parent).map_err(Error::io(parent))?;
            let bit = match (found.uid() == self.uid.as_raw(), found.gid() == self.gid.as_raw()) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if found.permissions().mode() & bit == 0 {
                return Err(Error::Postgres(format!(
                    "as root it runs as user {}, who cannot enter {}: let others pass (`chmod o+x {1}`), \
                     set PALETTE_HOME to a folder that all may reach (such as /var/lib/palette), or \
                     set DATABASE_URL",
                    self.name,
                    parent.display()
                )));
            }
        }
        Ok(())
    }
}

/// The folders of the private cluster.
#[derive(Clone, Debug)]
struct Folders {
    home: Home,
    root: PathBuf,
}

impl Folders {
    fn new(home: &Home) -> Self {
        Self { home: home.clone(), root: home.postgres() }
    }

    /// Refuses a path that the shell, by which `pg_ctl` starts the server, or the server's settings would read as
    /// something else.
    fn demand_plain(&self) -> Result<()> {
        let special = |byte: &u8| b"'\"\\`$,".contains(byte) || byte.is_ascii_control();
        match self.root.as_os_str().as_encoded_bytes().iter().any(special) {
            false => Ok(()),
            true => Err(Error::Postgres(format!(
                "cannot lie in {:?}: choose a home (PALETTE_HOME) without quotes, backslashes, commas, `$`, \
                 backquotes and control characters in its path",
                self.root
            ))),
        }
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Where the socket is: beside the data, or, where that name is too long for a socket, a folder
    /// in the temporary folder whose name follows from the home's.
    fn socket(&self) -> PathBuf {
        let beside = self.root.join("run");
        if beside.as_os_str().len() + "/.s.PGSQL.5432.lock".len() < SOCKET_LIMIT {
            return beside;
        }
        let digest = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("palette-{digits}");
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(runtime)
                if !nix::unistd::geteuid().is_root()
                    && runtime.is_dir()
                    && runtime.as_os_str().len() < 50 =>
            {
                runtime.join(name)
            }
            _ => Path::new("/tmp").join(name),
        }
    }
}

/// The message for a folder that cannot be made.
fn not_writable(path: &Path, error: &std::io::Error) -> Error {
    Error::Postgres(format!(
        "cannot write {}: {error}; set PALETTE_HOME to a folder that you may write, or DATABASE_URL",
        path.display()
    ))
}
