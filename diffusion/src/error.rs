//! The one error type of this crate.

/// What can go wrong in the diffusion library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration that cannot work.
    #[error("{key} is {value}, allowed: {allowed}")]
    Config {
        /// The key as it stands in the file, `model.attention` say.
        key: &'static str,
        /// The value that was given.
        value: String,
        /// What is allowed instead.
        allowed: String,
    },
    /// Tensors, keys or buffers that do not fit together.
    #[error("{0}")]
    Shape(String),
    /// A weight file that cannot be read or written, or belongs to another network.
    #[error("weights `{path}`: {message}")]
    Weights {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Weights that hold values that are NaN or infinite.
    #[error(
        "weights `{path}`: `{tensor}` is not finite, {} of {of} values ({nan} NaN, {infinite} infinite): \
         the file is damaged, or the training diverged before it was written; take an earlier one",
        nan + infinite
    )]
    NonFinite {
        /// The file.
        path: String,
        /// The first tensor that is not finite.
        tensor: String,
        /// How many of its values are NaN.
        nan: i64,
        /// How many of them are infinite.
        infinite: i64,
        /// How many values it has.
        of: usize,
    },
    /// A reverse process whose network gave values that are NaN or infinite: there is no picture.
    #[error(
        "the network gave values that are NaN or infinite at step {step} of {total}, first for image \
         {image} of the batch"
    )]
    LostImage {
        /// The step, counted from 1.
        step: usize,
        /// Steps in all.
        total: usize,
        /// Which image of the batch, counted from 0: the first of those lost first.
        image: usize,
    },
    /// A checkpoint that cannot be written or read, or is not the one that was written.
    #[error("checkpoint `{path}`: {problem}")]
    Checkpoint {
        /// The folder, or the file in it.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// libtorch refused an operation (out of memory, say); the text is its own.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The callback of a reverse process asked to stop.
    #[error("stopped before the last step")]
    Stopped,
}

impl Error {
    pub(crate) fn config(
        key: &'static str,
        value: impl std::fmt::Display,
        allowed: impl Into<String>,
    ) -> Error {
        Error::Config { key, value: value.to_string(), allowed: allowed.into() }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Error {
        torch_ext::Error::from(error).into()
    }
}

impl From<torch_ext::Error> for Error {
    fn from(error: torch_ext::Error) -> Error {
        match error {
            torch_ext::Error::Torch(text) => Error::Torch(text),
            other => Error::Shape(other.to_string()),
        }
    }
}
