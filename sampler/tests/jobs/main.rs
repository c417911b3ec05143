//! The sampler as its users and the scheduler call it: one binary, so that one link serves all tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod given;
mod hostile;
mod pictures;
mod sampling;
mod shared;
mod tries;
mod weights;
