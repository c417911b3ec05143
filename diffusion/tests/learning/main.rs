//! Training, restoring and weight files with a small network: one binary, so that one link serves all tests.
#![allow(clippy::unwrap_used)]

mod files;
mod objective;
mod restoring;
mod small;
