//! From archives of photographs to batches: ingest into shards, exact sample order, degradations,
//! loader. Ends at the batch: it draws no sheets, keeps no outputs, and knows nothing of networks,
//! queues or devices.
//!
//! Always holds: what a sample of a stream looks like is a function of (seed, position) alone.

mod config;
pub mod dataset;
pub mod degrade;
mod error;
mod generation;
pub mod image;
pub mod ingest;
mod loader;
pub mod masks;
pub mod names;
pub mod order;
pub mod scenes;
mod text;

pub use config::{Crop, DataConfig, DatasetRef, ImageSize, OnBadSample};
pub use dataset::{Dataset, Record};
pub use degrade::{DegradationConfig, Degraded, Evaluation, Task};
pub use error::{Error, Result};
pub use generation::{GENERATION, check_generation, is_changed};
pub use loader::{Batch, Loader, Skipped, Stages, Stream};
pub use order::Shuffle;
