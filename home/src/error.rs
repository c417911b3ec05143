//! The one error of this crate.

/// What can go wrong with the home.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No variable says where it is.
    #[error("set PALETTE_HOME to a folder to keep things in")]
    Unset,
    /// A folder whose name is no text: the database and every address keep names as text.
    #[error("{0:?} is no UTF-8: set PALETTE_HOME to a folder whose name is")]
    NotText(std::path::PathBuf),
    /// The private Postgres cannot be found, made or started.
    #[error("private postgres: {0}")]
    Postgres(String),
    /// A file or folder of ours.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }
}
