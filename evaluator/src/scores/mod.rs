//! The scores as numbers: no files, no networks, no queue. Everything is computed in f64 from what the
//! caller has decoded or extracted.
//!
//! - [`Moments`] and [`frechet`]: FID of any features.
//! - [`InceptionScore`], [`kernel`]: the spread of a classifier's answers; KID.
//! - [`structure`]: PSNR, SSIM and MS-SSIM of two pictures; [`Sums`] over the generated pixels only.
//! - [`interval`]: bootstrap and jackknife.

pub mod frechet;
pub mod generated;
pub mod inception;
pub mod interval;
pub mod kernel;
pub mod moments;
pub mod structure;

pub use generated::Sums;
pub use inception::InceptionScore;
pub use interval::{Estimate, Interval};
pub use moments::Moments;
