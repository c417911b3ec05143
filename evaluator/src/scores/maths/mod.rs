//! What scores are computed by: no files, no networks, no queue. Everything is in f64, from pixels that
//! were decoded and features that were extracted.
//!
//! - [`Sums`] over the generated pixels; [`structure`]: PSNR, SSIM and MS-SSIM of two pictures.
//! - [`Moments`] and [`frechet`], [`Sketch`] and [`kernel`]: distances of two sets of features.
//! - [`InceptionScore`]: the spread of a classifier's answers.

pub mod frechet;
mod generated;
mod inception;
pub mod kernel;
mod moments;
pub mod structure;

pub use generated::Sums;
pub use inception::InceptionScore;
pub use kernel::Sketch;
pub use moments::{Groups, Moments};
