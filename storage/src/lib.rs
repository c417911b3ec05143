//! Places for files: folders of this machine and prefixes of object stores (`s3://`, `gs://`); and what is
//! only read, files of web servers too.
//! Knows nothing of what the files hold, of datasets, runs or queues.
//!
//! - [`Place`] is the address of such a place, [`Store`] the place itself; its calls block.
//! - [`Source`] is where something lies that is read only: a place, or a file that a web server has
//!   (`https://`); it is read as it comes, and taken up again where a connection breaks.
//! - [`folder`] publishes, fetches and removes small folders that are complete or not there, such as
//!   checkpoints; [`cache`] is where the fetched ones of object stores are kept.
//! - [`atomic`] writes files of this machine whole or not at all, [`named`] what a person named in an option, which
//!   may be a link, a device or a pipe.
//! - [`limited`] reads small files up to a limit.
//! - [`regular`] opens regular files only, not the pipes and devices that a name may lead to.
//! - [`names`] says what people may call things.

pub mod atomic;
pub mod cache;
mod calls;
mod error;
pub mod folder;
mod landlock;
pub mod limited;
pub mod named;
pub mod names;
mod place;
pub mod regular;
pub mod roots;
mod source;
mod store;

pub use error::{Error, Result};
pub use place::{NoPlace, Place, Scheme, local_path};
pub use source::{Far, FarFile, FarFolder, FarReader, FarReaders, Fault, Reach, Source};
pub use store::{Claim, Ranges, Store, Traffic, traffic};
