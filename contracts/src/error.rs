//! The one error type of the crate.

use crate::ConfigError;

/// Why something that the programs agree on cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is asked for cannot be done; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// Stored data that is not what it should be.
    #[error("{what} is damaged: {message}")]
    Damaged {
        /// What was read.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// Stored data of a later version of the project.
    #[error(
        "{what} has version {version}, this {program} reads versions up to {known}: update {program}"
    )]
    Newer {
        /// What was read.
        what: String,
        /// The version that it has.
        version: u64,
        /// The latest version that is read.
        known: u64,
        /// The program to update.
        program: &'static str,
    },
    /// A text that is no address.
    #[error(transparent)]
    Place(#[from] storage::NoPlace),
    /// A place that cannot be used or read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A dataset that cannot be read or made.
    #[error(transparent)]
    Data(#[from] pipeline::Error),
}

impl Error {
    /// Whether this is wrong use: trying again changes nothing, so a program ends with status 2 and a
    /// job is not queued again.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Data(error) => error.is_usage(),
            Self::Storage(error) => error.is_usage(),
            _ => true,
        }
    }

    /// True where a store did not answer: the next time it may.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Data(error) => error.is_outage(),
            Self::Storage(error) => error.is_outage(),
            _ => false,
        }
    }
}

/// Result with the crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
