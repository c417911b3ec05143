//! Places for files: folders of this machine and prefixes of object stores (`s3://`, `gs://`).
//! Knows nothing of what the files hold, of datasets, runs or queues.
//!
//! - [`Place`] is the address of such a place, [`Store`] the place itself; its calls block.
//! - [`folder`] publishes, fetches and removes small folders that are complete or not there, such as
//!   checkpoints; [`cache`] is where the fetched ones of object stores are kept.
//! - [`atomic`] writes files of this machine whole or not at all.

pub mod atomic;
pub mod cache;
mod error;
pub mod folder;
mod place;
mod store;

pub use error::{Error, Result};
pub use place::{NoPlace, Place, Scheme, local_path};
pub use store::{Claim, Ranges, Store, Traffic, traffic};
