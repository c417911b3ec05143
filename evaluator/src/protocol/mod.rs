//! The paper's protocol: tables as files, filled from the registry.
//!
//! - [`Table`] is what the paper fixes: which images, which task, which systems, its own numbers.
//! - [`Profile`] is what a laboratory has: where those images, runs and others' outputs are, and which
//!   extractors it looks through.
//! - [`Request`] is one row of one part under a profile: what to sample, what to score, under which label.
//! - [`Filled`] is a table with the paper's numbers and those of the registry.

mod compare;
mod filled;
mod profile;
mod render;
mod request;
mod table;

pub use filled::{Filled, Here, TrainedRun};
pub use profile::{Extractors, Profile};
pub use render::{Format, grid, notes, render};
pub use request::{Request, Work};
pub use table::{Table, TablePart, TableRow};
