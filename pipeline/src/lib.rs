//! From archives of photographs to batches: ingest into shards, exact sample order, degradations,
//! loader; also what is drawn from them, sheets. Knows nothing of networks,
//! queues or devices.
//!
//! Always holds: what a sample of a stream looks like is a function of (seed, position) alone.

pub mod chart;
mod config;
pub mod dataset;
pub mod degrade;
mod error;
pub mod image;
pub mod ingest;
mod loader;
pub mod masks;
pub mod names;
pub mod order;
pub mod scenes;
pub mod sheet;

pub use config::{Crop, DataConfig, DatasetRef, ImageSize, OnBadSample};
pub use dataset::{Dataset, Record};
pub use degrade::{DegradationConfig, Degraded, Evaluation, Task};
pub use error::{Error, Result};
pub use loader::{Batch, Loader, Skipped, Stages, Stream};
pub use order::Shuffle;
pub use storage::{Place, Store, atomic, folder};
