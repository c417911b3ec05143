//! What is only read: a path of this machine, a file or prefix of an object store, a file that a web
//! server has. [`Source`] is its address; [`Source::open`] gives what is far away as a [`FarFile`] or a
//! [`FarFolder`].
//!
//! Always holds: all that is read of one file is of one file, the one that was there when it was opened;
//! memory is bounded whatever a server sends; passwords and queries of an address are neither printed nor
//! stored.

mod objects;
mod origin;
mod reader;
mod retry;
mod web;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Url;

use crate::place::{decoded, scheme};
use crate::store::Remote;
use crate::{Error, NoPlace, Place, Result, roots};
pub use objects::FarFolder;
pub use reader::{FarFile, FarReader, FarReaders};

/// Where something lies that is read and never written.
#[derive(Clone, PartialEq, Eq)]
pub struct Source(Where);

#[derive(Clone, PartialEq, Eq)]
enum Where {
    Local(PathBuf),
    Store(Place),
    Web(Url),
}

/// How far one goes to read what is far away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// A connection over which nothing came for so long is given up and made again.
    pub stall: Duration,
    /// After so long without a further byte, whatever was tried, reading ends.
    pub patience: Duration,
    /// Whether files may come unencrypted (`http://`) from other machines.
    pub plain_http: bool,
}

impl Default for Reach {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { stall: seconds(30), patience: seconds(300), plain_http: false }
    }
}

/// What is far away, once it was looked up.
#[derive(Clone)]
pub enum Far {
    /// One file.
    File(FarFile),
    /// A prefix of an object store with files below it.
    Folder(FarFolder),
}

/// What went wrong with the reading of a source. Libraries between a reader and its user turn errors into
/// their own, or take them for damage of the file; what really happened is kept here.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failed: bool,
    error: Option<Error>,
}

impl Fault {
    /// True once the reading has failed; nothing is read from then on.
    pub fn is_set(&self) -> bool {
        self.state().failed
    }

    /// The error; once.
    pub fn take(&self) -> Option<Error> {
        self.state().error.take()
    }

    /// Keeps an error, the first one; gives what readers pass on for it.
    fn set(&self, error: Error) -> std::io::Error {
        let text = error.to_string();
        let mut state = self.state();
        if !state.failed {
            *state = State { failed: true, error: Some(error) };
        }
        std::io::Error::other(text)
    }

    /// An error where the reading has failed before.
    fn check(&self) -> std::io::Result<()> {
        match self.is_set() {
            true => Err(std::io::Error::other("the reading of the source has failed")),
            false => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// The path, where the source is on this machine.
    pub fn local(&self) -> Option<&Path> {
        match &self.0 {
            Where::Local(path) => Some(path),
            Where::Store(_) | Where::Web(_) => None,
        }
    }

    /// The last part of the address, as the name of a file; empty for an address without one.
    pub fn name(&self) -> String {
        let last = |path: &str| path.rsplit('/').find(|part| !part.is_empty()).map(str::to_owned);
        match &self.0 {
            Where::Local(path) => {
                path.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Where::Store(place) => place.name().to_owned(),
            Where::Web(url) => {
                let name = last(url.path()).unwrap_or_default();
                let name = decoded(&name).unwrap_or(name);
                last(&name).unwrap_or_default()
            }
        }
    }

    /// Looks up what is far away.
    ///
    /// # Errors
    /// For a source on this machine, one that is not there or must not be read, and a server whose files
    /// cannot be read safely: it has to say how long a file is, and by what one notices that it changed.
    pub fn open(&self, reach: &Reach) -> Result<Far> {
        let fault = Fault::default();
        if self.local().is_none() {
            roots::demand_read(&self.to_string())?;
        }
        match &self.0 {
            Where::Local(_) => Err(Error::Refused {
                place: self.to_string(),
                message: "is on this machine, not far away".to_owned(),
            }),
            Where::Web(url) => web::open(url, self.to_string(), *reach, fault).map(Far::File),
            Where::Store(place) => {
                let remote = Remote::open(place)?;
                if let Some(meta) = remote.itself()? {
                    let client = remote.streaming()?;
                    let name = self.to_string();
                    return Ok(Far::File(objects::file(client, meta, name, *reach, fault)));
                }
                FarFolder::open(remote, self.to_string(), *reach, fault).map(Far::Folder)
            }
        }
    }
}

/// A path of this machine, taken as it is.
impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self(Where::Local(path))
    }
}

impl FromStr for Source {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let wrong = |reason: &str| NoPlace::no_source(text, reason);
        match scheme(text) {
            Some((name, rest)) if ["http", "https"].contains(&&*name.to_ascii_lowercase()) => {
                if !rest.starts_with("//") {
                    return Err(wrong("one `/` is missing"));
                }
                let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
                match url.path().trim_matches('/').is_empty() {
                    true => Err(wrong("it names a server and no file of it")),
                    false => Ok(Self(Where::Web(url))),
                }
            }
            of_scheme => {
                let place: Place = text.parse().map_err(NoPlace::of_source)?;
                Ok(Self(match (place.local(), of_scheme) {
                    (Some(_), None) => Where::Local(PathBuf::from(text)),
                    (Some(path), Some(_)) => Where::Local(path.to_owned()),
                    (None, _) => Where::Store(place),
                }))
            }
        }
    }
}

/// Without what may be secret; a path as it was typed.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::Local(path) => write!(f, "{}", path.display()),
            Where::Store(place) => write!(f, "{place}"),
            Where::Web(url) => f.write_str(&secrets::address(url.as_str())),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    #[test]
    fn sources_are_paths_objects_and_files_of_the_web() {
        assert_eq!(source("a/b.tar").local(), Some(Path::new("a/b.tar")));
        assert_eq!(source("file:///a%20b.tar").local(), Some(Path::new("/a b.tar")));
        for (text, name) in [
            ("s3://b/x/train.tar", "train.tar"),
            ("https://host/x/train.tar?sig=1#x", "train.tar"),
            ("HTTP://host/a%20b.tar/", "a b.tar"),
            ("https://host/a%2Fb.tar", "b.tar"),
            ("/data/train.tar", "train.tar"),
        ] {
            assert_eq!(source(text).name(), name, "{text}");
        }
        for (text, reason) in [
            ("https:/host/x", "one `/` is missing"),
            ("https://host", "no file of it"),
            ("https://host/?a/b", "no file of it"),
            ("https://", "empty host"),
            ("ftp://a/b", "`ftp://` is not known"),
            ("s3://bucket", "prefix is missing"),
            ("", "empty"),
        ] {
            let message = text.parse::<Source>().unwrap_err().to_string();
            let ends = message.ends_with("or https://HOST/PATH");
            assert!(message.contains(reason) && ends, "{text}: {message}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = source("https://me:hunter2@host:8443/a/b.tar?X-Amz-Signature=hunter2#hunter2");
        assert_eq!(secret.to_string(), "https://host:8443/a/b.tar");
        assert_eq!(format!("{secret:?}"), "Source(https://host:8443/a/b.tar)");
        let wrong = "https://me:hunter2@host:99999/a?hunter2".parse::<Source>().unwrap_err();
        assert!(!format!("{wrong} {wrong:?}").contains("hunter2"), "{wrong}");
    }
}
