//! The one error type of the crate. Messages are lowercase, name the object and the remedy.

use std::path::{Path, PathBuf};

use crate::NoPlace;

/// What can go wrong with a place and its files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was tried, such as `open`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// More open files than the process or the machine may have. Nothing is wrong with the file.
    #[error(
        "open {path}: too many open files (this process may have {limit}); raise the limit (`ulimit -n`, \
         LimitNOFILE of systemd) or end other programs"
    )]
    OpenFiles {
        /// The file that was to be opened.
        path: PathBuf,
        /// Files that the process may have open.
        limit: u64,
    },
    /// An object store that does not do what it is asked.
    #[error("{doing} {place}: {message}")]
    Store {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// Address of the object.
        place: String,
        /// The store's answer.
        message: String,
    },
    /// A file that is longer than what it should be could ever be.
    #[error("{place}: {message}")]
    TooLong {
        /// The folder or prefix that it lies in.
        place: String,
        /// Which file, and how long.
        message: String,
    },
    /// A place that another process is writing to.
    #[error("{place}: another ingest is writing here; wait for it or choose another place")]
    Taken {
        /// The folder or address.
        place: String,
    },
    /// A place that must not be written to.
    #[error("{place}: {message}")]
    Refused {
        /// The folder or address.
        place: String,
        /// Why, and what to do.
        message: String,
    },
    /// A text that is no address.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

impl Error {
    /// True where the address is at fault, or may not be used so, and not the machine or the network:
    /// trying again helps nobody.
    pub fn is_usage(&self) -> bool {
        use std::io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::Refused { .. } | Self::NoPlace(_) => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), NotADirectory | PermissionDenied | ReadOnlyFilesystem)
            }
            Self::OpenFiles { .. }
            | Self::Store { .. }
            | Self::Taken { .. }
            | Self::TooLong { .. } => false,
        }
    }

    /// True where the system does not let this user look: whether anything is there is not known.
    pub fn is_denied(&self) -> bool {
        let denied = std::io::ErrorKind::PermissionDenied;
        matches!(self, Self::Io { source, .. } if source.kind() == denied)
    }

    /// True where the machine or the store fell short, which says nothing of the file.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::OpenFiles { .. } | Self::Store { .. })
    }

    /// True where an object store did not answer, or not with what was asked for, where files cannot be
    /// opened for want of descriptors, and where another process has the place: the next time it may be
    /// otherwise.
    pub fn is_outage(&self) -> bool {
        self.is_shortage() || matches!(self, Self::Taken { .. })
    }
}

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What was tried with which file, for the system's answer.
    pub(crate) fn io(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
