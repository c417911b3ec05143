//! The secret that sessions are signed with. It is kept, so that open pages go on when the server is started again.

use std::fs::{File, Permissions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use home::Home;
use sha2::{Digest, Sha256};

/// A secret of 32 bytes.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// From the system's random numbers.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// One that was kept.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// That of this home, made where there is none: of all servers that have this home, which take each other's
    /// sessions for their own.
    ///
    /// # Errors
    /// Those of the file system; where others may read the file, or it holds something else.
    pub fn kept(home: &Home) -> std::io::Result<Self> {
        let folder = home.path().join("room");
        let path = folder.join("key");
        if let Some(key) = Self::read(&path)? {
            return Ok(key);
        }
        home.make(&folder)?;
        let key = Self::random();
        let beside = Beside(folder.join(format!("key.{:016x}", rand::random::<u64>())));
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside.0)?;
        // Whatever the umask takes away.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&key.0)?;
        file.sync_all()?;
        // Whole or not at all, and never over that of another server which was quicker.
        match std::fs::hard_link(&beside.0, &path) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Self::read(&path)?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn read(path: &Path) -> std::io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = |why: &str| Err(Error::new(ErrorKind::InvalidData, why.to_owned()));
        let meta = file.metadata()?;
        if !meta.is_file() {
            return wrong("not a file");
        }
        if meta.permissions().mode() & 0o077 != 0 {
            return wrong("others may read it: remove it, and everybody logs in again");
        }
        let mut bytes = Vec::new();
        file.take(33).read_to_end(&mut bytes)?;
        match bytes.try_into() {
            Ok(bytes) => Ok(Some(Self(bytes))),
            Err(_) => wrong("not a key of 32 bytes: remove it, and everybody logs in again"),
        }
    }

    /// The HMAC-SHA-256 of a text for a purpose.
    pub fn sign(&self, purpose: &str, text: &[u8]) -> String {
        let pad = |byte: u8| {
            let mut block = [byte; 64];
            block.iter_mut().zip(self.0).for_each(|(block, key)| *block ^= key);
            Sha256::new_with_prefix(block)
        };
        let inner = pad(0x36).chain_update(purpose).chain_update([0]).chain_update(text).finalize();
        URL_SAFE_NO_PAD.encode(pad(0x5c).chain_update(inner).finalize())
    }
}

/// A file that is removed when the value ends.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Without the secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_signature_is_hmac() {
        // RFC 4231 has keys of other lengths; this is `openssl dgst -sha256 -mac hmac` of `p\0text` with 32 bytes of 0x0b.
        let sign = Key::new([0x0b; 32]).sign("p", b"text");
        assert_eq!(sign, "kB6sjXwreb2DNDHQuSVHSL-LF8YKLRX2phEcRee76gU");
        assert_ne!(sign, Key::new([0x0b; 32]).sign("q", b"text"));
    }

    #[test]
    fn a_home_has_one_key_whoever_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path()).unwrap();
        let made: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| Key::kept(&home).unwrap().0)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(made.iter().all(|key| *key == made[0]));
        let path = folder.path().join("room/key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path().join("room")).unwrap().count(), 1);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(Key::kept(&home).unwrap_err().to_string().contains("others may read it"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(Key::kept(&home).is_err());
    }
}
