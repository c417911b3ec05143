//! The pipeline as its users and the trainer call it: one binary, so that one link serves all tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ceilings;
mod common;
mod cut;
mod headers;
mod hostile;
mod hostile_files;
mod hostile_pictures;
mod ingest;
mod layouts;
mod loader;
mod masks;
mod messages;
mod mutants;
mod named;
mod odd_pixels;
mod readers;
mod remote;
mod sources;
mod store;
mod thrift;
