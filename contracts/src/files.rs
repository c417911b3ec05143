//! The files that make a folder complete. Each is written last, so a folder that has it is whole.

/// Makes a dataset of photographs or of outputs complete.
pub use pipeline::dataset::MANIFEST;

/// Makes a checkpoint complete.
pub use diffusion::checkpoint::LAST as STATE;

/// Says from where the outputs in a folder are; written first, by the job that makes them. Without a
/// [`MANIFEST`] beside it that job has not finished.
pub const ORIGIN: &str = "job.json";
