//! The one error type of the crate. Messages are lowercase, name the object and the remedy.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// What can go wrong between an archive and a batch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration that cannot be used.
    #[error("{key} is {value}, allowed: {allowed}")]
    Config {
        /// Full name of the key, such as `data.image_size`.
        key: String,
        /// The value as written.
        value: String,
        /// What is allowed.
        allowed: String,
    },
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
    /// Bytes that are no usable image; the text is `kind: detail`.
    #[error("{0}")]
    Image(String),
    /// A place that is no dataset, or whose files contradict its manifest.
    #[error("dataset {place}: {message}")]
    Dataset {
        /// The dataset's folder.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A row of a shard that cannot be read.
    #[error("shard {shard}, row {row}{}: {message}", digest_text(.digest))]
    Record {
        /// The shard's file.
        shard: PathBuf,
        /// Row within the shard, from 0.
        row: u64,
        /// Digest that the manifest promises for the row, where it could be read.
        digest: Option<String>,
        /// What is wrong.
        message: String,
    },
    /// A shard that Parquet cannot read or write.
    #[error("shard {path}: {source}")]
    Parquet {
        /// The shard's file.
        path: PathBuf,
        /// The library's answer.
        source: parquet::errors::ParquetError,
    },
    /// More open files than the process or the machine may have. Nothing is wrong with the file.
    #[error(transparent)]
    OpenFiles(storage::Error),
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
    /// An archive or folder that cannot be ingested.
    #[error("source {place}: {message}")]
    Source {
        /// The archive or folder.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A place that another process is writing to.
    #[error(transparent)]
    Taken(storage::Error),
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
    NoPlace(#[from] storage::NoPlace),
}

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A text on one line: names of files may hold anything.
pub(crate) fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn digest_text(digest: &Option<String>) -> String {
    digest.as_ref().map(|digest| format!(" (sha256 {digest})")).unwrap_or_default()
}

impl Error {
    pub(crate) fn config(
        key: impl Into<String>,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Config { key: key.into(), value: value.to_string(), allowed: allowed.into() }
    }

    pub(crate) fn io(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn parquet(
        path: impl AsRef<Path>,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Parquet { path, source }
    }

    pub(crate) fn dataset(place: impl Display, message: impl Into<String>) -> Self {
        Self::Dataset { place: place.to_string(), message: message.into() }
    }

    pub(crate) fn source(place: impl AsRef<Path>, message: impl Into<String>) -> Self {
        let place = place.as_ref().display().to_string();
        Self::Source { place: printable(place), message: printable(message.into()) }
    }

    /// True where the machine or the store fell short, which says nothing of the data: open files ran out,
    /// or a store did not answer.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::OpenFiles(_) | Self::Store { .. })
    }

    /// The shortage behind what Parquet could not read, where there is one.
    pub(crate) fn shortage(error: ParquetError) -> Result<Self, ParquetError> {
        use parquet::errors::ParquetError::External;
        let External(inner) = error else { return Err(error) };
        let inner = match inner.downcast::<std::io::Error>() {
            Ok(inner) => inner,
            Err(inner) => return Err(External(inner)),
        };
        let is_ours =
            |cause: &(dyn std::error::Error + Send + Sync + 'static)| cause.is::<storage::Error>();
        if !inner.get_ref().is_some_and(is_ours) {
            return Err(External(inner));
        }
        match inner.into_inner().map(|inner| inner.downcast::<storage::Error>()) {
            Some(Ok(error)) => Ok(Self::from(*error)),
            // Not reached: it was looked at above.
            Some(Err(other)) => Err(External(other)),
            None => Err(ParquetError::General("cannot be read".into())),
        }
    }

    /// True where the user's configuration or arguments are at fault, not the machine or the data.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config { .. } | Self::Refused { .. } | Self::NoPlace(_))
    }

    /// True where an object store did not answer, files cannot be opened for want of descriptors, or another
    /// process has the place: the next time it may be otherwise.
    pub fn is_outage(&self) -> bool {
        self.is_shortage() || matches!(self, Self::Taken(_))
    }
}

/// What went wrong with a place is told in its own words; a file that is too long contradicts what a
/// dataset is.
impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Io { doing, path, source } => Self::Io { doing, path, source },
            storage::Error::Store { doing, place, message } => {
                Self::Store { doing, place, message }
            }
            error @ storage::Error::OpenFiles { .. } => Self::OpenFiles(error),
            storage::Error::TooLong { place, message } => Self::Dataset { place, message },
            taken @ storage::Error::Taken { .. } => Self::Taken(taken),
            storage::Error::Refused { place, message } => Self::Refused { place, message },
            storage::Error::NoPlace(error) => Self::NoPlace(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_open_files_is_no_damage() {
        let short = storage::Error::OpenFiles { path: "/data/x.parquet".into(), limit: 64 };
        let error = ParquetError::from(std::io::Error::other(short));
        let error = Error::shortage(error).unwrap();
        assert!(error.is_shortage() && error.to_string().contains("ulimit -n"), "{error}");
        let end = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "past the end");
        assert!(Error::shortage(ParquetError::from(end)).is_err());
        assert!(Error::shortage(ParquetError::General("no page".into())).is_err());
    }
}
