//! Hostile files of no kind in particular: whatever a program expects under a name, it may find one of these. They go
//! deep, say a lot, are long without taking room, or never end.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use nix::sys::stat::Mode;

/// What a file is, and what makes it at a path.
pub type Kind = (&'static str, fn(&Path));

/// What may stand anywhere.
pub const ANY: &[Kind] = &[
    ("pipe", |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap()),
    ("endless", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
    ("ten-gigabytes", |path| File::create(path).unwrap().set_len(10 << 30).unwrap()),
    ("empty", |path| fs::write(path, "").unwrap()),
    ("controls", |path| fs::write(path, b"\x1b[2J\x1b]0;a\x07\xff\xfe".repeat(9)).unwrap()),
];

/// JSON that goes deep or says much.
pub const JSON: &[Kind] = &[
    ("deep-list", |path| fs::write(path, "[".repeat(DEEP)).unwrap()),
    ("deep-object", |path| fs::write(path, "{\"a\":".repeat(DEEP)).unwrap()),
    ("deep-value", |path| nested(path, "{\"format\":", "[", "]", "}")),
    ("long-number", |path| {
        fs::write(path, format!("{{\"format\":{}}}", "9".repeat(MEGABYTE))).unwrap()
    }),
];

/// TOML of that kind.
pub const TOML: &[Kind] = &[
    ("deep-toml", |path| nested(path, "a = ", "[", "]", "")),
    ("deep-key", |path| fs::write(path, vec!["a"; DEEP].join(".") + " = 1\n").unwrap()),
    ("many-keys", |path| fs::write(path, many_keys()).unwrap()),
    ("long-value", |path| fs::write(path, format!("a = {}", "9".repeat(MEGABYTE - 99))).unwrap()),
];

/// Weights, by their headers.
pub const WEIGHTS: &[Kind] = &[
    ("ten-gigabytes-of-weights", weights_of_ten_gigabytes),
    ("deep-header", |path| {
        fs::write(path, safetensors(&format!("{{\"a\":{}", "[".repeat(DEEP)))).unwrap()
    }),
    ("large-tensor", |path| fs::write(path, safetensors(LARGE)).unwrap()),
    ("pickle", |path| {
        fs::write(path, [&b"\x80\x02"[..], &b"]".repeat(20 * MEGABYTE)].concat()).unwrap()
    }),
];

/// Text.
pub const TEXT: &[Kind] =
    &[("long-line", |path| fs::write(path, "a".repeat(40 * MEGABYTE)).unwrap())];

const DEEP: usize = 100_000;
const MEGABYTE: usize = 1 << 20;
/// A header whose tensor is larger than any memory.
const LARGE: &str = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;

fn nested(path: &Path, before: &str, open: &str, close: &str, after: &str) {
    let text = [before, &open.repeat(DEEP), &close.repeat(DEEP), after].concat();
    fs::write(path, text).unwrap();
}

fn many_keys() -> String {
    (0..60_000).map(|number| format!("a{number}.b.c = 1\n")).collect()
}

/// A safetensors file of this header alone.
pub fn safetensors(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

/// As long as its header says, and of holes.
fn weights_of_ten_gigabytes(path: &Path) {
    let bytes = 10u64 << 30;
    let shape = bytes / 4;
    let header = safetensors(&format!(
        r#"{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,{bytes}]}}}}"#
    ));
    let mut file = File::create(path).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(header.len() as u64 + bytes).unwrap();
}
