//! The one error type of the crate. Messages are lowercase, name the object and the remedy.

use std::fmt::Display;
use std::path::Path;

/// What can go wrong with a dataset of outputs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A place that is no dataset of outputs, or whose files contradict its manifest.
    #[error("outputs {place}: {message}")]
    Outputs {
        /// The place of the dataset, or a shard of it.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A shard that Parquet cannot read.
    #[error("shard {shard}: {source}")]
    Parquet {
        /// The shard's file.
        shard: String,
        /// The library's answer.
        source: parquet::errors::ParquetError,
    },
    /// A shard that cannot be written.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// A place that cannot be read or written.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn outputs(place: impl Display, message: impl Into<String>) -> Self {
        Self::Outputs { place: place.to_string(), message: message.into() }
    }

    pub(crate) fn parquet(
        shard: impl Display,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        let shard = shard.to_string();
        move |source| Self::Parquet { shard, source }
    }

    /// No folder for files on their way to a store.
    pub(crate) fn staging(source: std::io::Error) -> Self {
        let path = std::env::temp_dir();
        storage::Error::Io { doing: "create a folder in", path, source }.into()
    }

    pub(crate) fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| storage::Error::Io { doing: "create folder", path, source }.into()
    }

    /// True where the user's arguments are at fault, not the machine or the data.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_usage(),
            Self::Storage(error) => error.is_usage(),
            Self::Outputs { .. } | Self::Parquet { .. } => false,
        }
    }

    /// True where an object store did not answer: the next time it may.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_outage(),
            Self::Storage(error) => error.is_outage(),
            Self::Outputs { .. } | Self::Parquet { .. } => false,
        }
    }
}
