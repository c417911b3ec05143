//! Datasets of sampling outputs: one shard a chunk, each written whole by whichever worker made it,
//! in any order; the manifest last. Columns `source`, `mask`, `output`, `reference` are images in
//! the Hugging Face convention, so that what reads shards reads these.
//!
//! Always holds: a place without its manifest is no finished dataset; what is in memory does not grow
//! with the number of rows. The column `task` holds the evaluation (`jpeg:5`), so that two of one task are
//! two; datasets of version 1 name the task alone, and their reader finds out which it was. Places may be folders or prefixes of object stores.

mod dataset;
mod error;
mod row;
mod variant;
mod writer;

pub use dataset::{OutputDataset, OutputManifest};
pub use error::{Error, Result};
pub use row::{OutputImage, OutputName, OutputRow};
pub use variant::Variant;
pub use writer::{ChunkWriter, OutputWriter};
