//! What the tests of the program share.

use std::path::{Path, PathBuf};
use std::process::Command;

pub use testkit::s3::Server;
pub use testkit::{fixtures, python, run_ok};

/// The program under test.
pub fn pipeline() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pipeline"))
}

/// Runs a command that must fail with this status; gives the line of its error.
pub fn fails_with(command: &mut Command, status: i32) -> String {
    let stderr = testkit::failed(command, status);
    stderr.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>().join("\n")
}

/// The place of an address that is one.
pub fn place(text: &str) -> storage::Place {
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
        let bytes = pictures::png(&pipeline::scenes::scene(number, side)).unwrap();
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

/// The most memory that this process has had, in bytes; 0 where the system does not tell.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}
