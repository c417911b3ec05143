//! A real S3 server (moto) on loopback, and the program that is told where it is.

use std::process::Command;

#[path = "../../../storage/tests/s3/mod.rs"]
mod server;

pub use server::{Server, python, run_ok};

impl Server {
    /// The program under test.
    pub fn pipeline(&self) -> Command {
        let mut command = super::pipeline();
        self.with(&mut command);
        command
    }
}
