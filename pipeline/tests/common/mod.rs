//! What the tests of the program share.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

pub mod s3;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use s3::{python, run_ok};

/// The folder of fixtures, or a line that says why the test is skipped.
pub fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("PALETTE_FIXTURES").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: PALETTE_FIXTURES is not set");
    }
    folder
}

/// The program under test.
pub fn pipeline() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pipeline"))
}

/// Runs a command that must fail with this status; gives the line of its error.
pub fn fails_with(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{command:?}: {stderr}");
    stderr.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>().join("\n")
}

/// The place of an address that is one.
pub fn place(text: &str) -> pipeline::Place {
    text.parse().unwrap()
}

/// A folder of classes `a` and `b` with `count` drawn photographs in all.
pub fn scenes_folder(at: &Path, count: u64, side: u32) -> PathBuf {
    let folder = at.join("scenes");
    for class in ["a", "b"] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
    }
    for number in 0..count {
        let class = if number % 2 == 0 { "a" } else { "b" };
        let bytes = pipeline::image::png(&pipeline::scenes::scene(number, side).into()).unwrap();
        std::fs::write(folder.join(class).join(format!("{number:04}.png")), bytes).unwrap();
    }
    folder
}

/// Ingests drawn photographs and gives the dataset's address.
pub fn scenes_dataset(at: &Path, count: u64, side: u32) -> String {
    let source = scenes_folder(at, count, side);
    let out = at.join("dataset");
    let mut options =
        pipeline::ingest::IngestOptions::new(vec![source], place(out.to_str().unwrap()));
    options.shard_bytes = 1 << 16;
    pipeline::ingest::ingest(&options, &|_| {}).unwrap();
    out.to_str().unwrap().to_owned()
}

/// Looks until a condition holds; fails after a minute.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for a minute until {what}");
        std::thread::yield_now();
    }
}
