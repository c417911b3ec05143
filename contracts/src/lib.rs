//! What the programs agree on, so that none of them has to know another: experiments, sampling jobs,
//! evaluations, where outputs are from, which device is used, which files make a folder complete.
//!
//! Everything here is data with its checks, and the arguments that several commands take. There is no SQL
//! and no server, and nothing is printed. What is stored in the database or beside outputs carries the version of its form
//! ([`payload`]).

mod config_error;
pub mod device;
mod error;
pub mod evaluation;
pub mod experiment;
pub mod files;
pub mod origin;
pub mod payload;
mod read;
pub mod sampling;
mod trained;

pub use config_error::{ConfigError, nearest};
pub use device::DeviceChoice;
pub use error::{Error, Result};
pub use evaluation::EvaluationRequest;
pub use experiment::{Experiment, TrainingJob};
pub use origin::Origin;
pub use read::{read, read_text};
pub use sampling::SamplingJob;
pub use trained::Trained;
