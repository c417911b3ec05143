//! The trainer as its users and the scheduler call it: one binary, so that one link serves all tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod checkpoints;
mod evaluating;
mod house;
mod main_job;
mod measuring;
mod object_store;
mod pictures;
mod resume;
mod sampling;
mod training;
mod weights;
