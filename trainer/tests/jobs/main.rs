//! The trainer as its users and the scheduler call it: one binary, so that one link serves all tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod checkpoints;
mod data;
mod gangs;
mod go_on;
mod gpu_run;
mod hostile;
mod main_job;
mod measuring;
mod object_store;
mod pictures;
mod ranks;
mod resume;
mod short;
mod terminal;
mod training;
mod weights;
