//! What the tests of all crates share. Only tests depend on it, and it depends on none of our crates:
//! programs are processes, and tables are read by `psql`.
//!
//! | module | gives |
//! |---|---|
//! | [`House`] | a folder with a home (`PALETTE_HOME`) and a private Postgres of its own, and commands in it |
//! | `training` | in a house: photographs, a configuration, a run, its checkpoint, all in seconds |
//! | [`Process`], [`until`] | what is started, signalled and killed; waiting with a deadline |
//! | [`Terminal`] | a terminal that can be stopped |
//! | [`program`] | where the built programs are; fails where one is missing or old |
//! | [`s3`] | a real S3 server |
//! | [`Slurm`] | a real Slurm, whose hosts are this machine |
//! | [`gpus`] | a stand-in for the driver's library, so that a host has GPUs |
//! | [`hostile`] | picture files that try to take a program down |
//! | [`mutant`] | damaged copies of a file, each by its seed |
//! | [`Browser`] | a headless Chromium |
//! | [`ControlRoom`] | `scheduler room` in a house, and its pages in a browser |
//! | [`http`] | one request over a plain connection |
//! | [`canary`] | whether a program prints or keeps secrets |
//! | [`named`] | whether options that name a file replace nothing that is none |
//! | [`examples`] | whether those that help ends with are true |
//! | [`python`], [`fixtures`], [`separate`] | what a machine may lack; then a test says that it is skipped |
//! | [`test_device`] | the device under test |
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod browser;
pub mod canary;
mod command;
pub mod examples;
pub mod gpus;
pub mod hostile;
mod house;
pub mod http;
mod mutant;
pub mod named;
mod optional;
mod process;
mod programs;
mod room;
pub mod s3;
mod slurm;
mod terminal;
mod training;

pub use browser::Browser;
pub use command::{failed, psql, run_ok, text};
pub use house::{House, test_device};
pub use mutant::mutant;
pub use nix::sys::signal::Signal;
pub use optional::{fixtures, pgbouncer, python, separate};
pub use process::{Process, alive, until};
pub use programs::program;
pub use room::{ControlRoom, Look};
pub use slurm::Slurm;
pub use terminal::Terminal;
