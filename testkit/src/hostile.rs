//! Hostile picture files: they make a decoder panic, ask for memory or time, or are not regular files. Every program
//! that reads pictures must refuse each of them in one line that names the file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;

use crate::{House, program, text};

pub mod files;

/// WebP of under a kilobyte that made the decoder panic.
pub const PANICS: [&[u8]; 4] = [
    include_bytes!("hostile/05345.webp"),
    include_bytes!("hostile/06029.webp"),
    include_bytes!("hostile/06961.webp"),
    include_bytes!("hostile/09823.webp"),
];

/// Writes the files into a folder, each as `NAME.png`, which no decoder looks at.
pub fn pictures(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("text".into(), b"\x1b[2Jno picture\n".to_vec()),
        ("scans".into(), scans()),
        ("restarts".into(), [&jpeg(8, [9000, 9000])[..], &[0xff, 0xd0].repeat(1 << 19)].concat()),
        ("twelve-bits".into(), jpeg(12, [16, 16])),
        ("large-jpeg".into(), jpeg(8, [65_535, 65_535])),
        ("segments".into(), segments()),
        ("large-png".into(), png([65_535, 65_535])),
        ("cut-png".into(), png([64, 64])),
        ("large-webp".into(), webp([16_384, 16_384], &[])),
        ("large-frame".into(), webp([8, 8], &chunk(b"VP8 ", &lossy([16_383, 16_383])))),
        ("large-frame-cut".into(), webp([8, 8], &chunk(b"VP8 ", &lossy([16_383, 16_383]))[..20])),
        ("large-frame-animated".into(), animated([8, 8], [16_383, 16_383])),
        ("chunks".into(), webp([8, 8], b"VP8 \xff\xff\xff\xff\x10\x20\0")),
    ];
    let panics = PANICS.iter().enumerate();
    files.extend(panics.map(|(number, bytes)| (format!("panic-{number}"), bytes.to_vec())));
    let path = |name: &str| folder.join(format!("{name}.png"));
    let mut paths = Vec::new();
    for (name, bytes) in files {
        fs::write(path(&name), bytes).unwrap();
        paths.push(path(&name));
    }
    // A sparse file of 3 GB, and a pipe without a writer.
    File::create(path("three-gigabytes")).unwrap().set_len(3 << 30).unwrap();
    nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
    paths.extend([path("three-gigabytes"), path("pipe")]);
    paths
}

/// Runs a program under limits of address space (`ulimit -v`, kB) and of CPU time, which does not depend on how busy
/// the host is; a program that waits for ever is killed. The program must refuse the file: status 1 or 2, an error line
/// with the file's name, no text of a panic.
pub fn refuses(house: &House, name: &str, arguments: &[&str], file: &Path, kilobytes: u64) {
    let mut command: Command = house
        .shell(&format!("ulimit -v {kilobytes}; ulimit -t 20; exec timeout -s KILL 200 \"$@\""));
    // Each thread's memory has address space of its own otherwise, whatever it takes of it.
    command.env("MALLOC_ARENA_MAX", "2");
    command.arg("sh").arg(program(name)).args(arguments).env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    let about = format!("{name} {}: {said}", file.display());
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?} {about}", output.status);
    let file = file.file_name().unwrap().to_str().unwrap();
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(file) && errors[0].len() < 20_000, "{about}");
    assert!(!said.contains('\x1b'), "{about}");
    assert!(!said.contains("panicked") && !said.contains("stack backtrace"), "{about}");
}

/// The head of a grey JPEG, progressive, up to where scans begin.
fn jpeg(bits: u8, [width, height]: [u16; 2]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    file.extend([1; 64]);
    file.extend([0xff, 0xc2, 0, 11, bits]);
    file.extend(height.to_be_bytes().into_iter().chain(width.to_be_bytes()));
    file.extend([1, 1, 0x11, 0]);
    // One code of one bit in either table: no difference, and a run of 2^14 blocks without values.
    for (class, value) in [(0x00, 0x00), (0x10, 0xe0)] {
        file.extend([0xff, 0xc4, 0, 20, class, 1]);
        file.extend([0; 15]);
        file.push(value);
    }
    file
}

/// 5000 scans of 81 megapixels.
fn scans() -> Vec<u8> {
    let mut file = jpeg(8, [9000, 9000]);
    file.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
    file.extend(vec![0; 1125 * 1125 / 8 + 1]);
    for _ in 0..5000 {
        file.extend([0xff, 0xda, 0, 8, 1, 1, 0, 1, 1, 0]);
        file.extend([0; 200]);
    }
    file.extend([0xff, 0xd9]);
    file
}

/// Segments of an application without end, and no picture behind them.
fn segments() -> Vec<u8> {
    let segment = [&[0xff, 0xe5, 0xff, 0xff][..], &[0; 0xfffd]].concat();
    [&[0xff, 0xd8][..], &segment.repeat(500)].concat()
}

/// A PNG that ends within its pixels.
fn png([width, height]: [u32; 2]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
    for (name, body, length) in [(b"IHDR", header, 13), (b"IDAT", vec![0x78, 0x9c, 0xed], 4096u32)]
    {
        let named = [&name[..], &body].concat();
        file.extend(length.to_be_bytes());
        file.extend(&named);
        if name == b"IHDR" {
            file.extend(crc(&named).to_be_bytes());
        }
    }
    file
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

/// A WebP with a canvas of this size, and chunks behind it.
fn webp(canvas: [u32; 2], chunks: &[u8]) -> Vec<u8> {
    extended(0, canvas, chunks)
}

fn extended(flags: u8, canvas: [u32; 2], chunks: &[u8]) -> Vec<u8> {
    let header = [&[flags, 0, 0, 0][..], &sides(canvas)].concat();
    let body = [&b"WEBP"[..], &chunk(b"VP8X", &header), chunks].concat();
    chunk(b"RIFF", &body)
}

/// Each side less one, in three bytes.
fn sides(sides: [u32; 2]) -> Vec<u8> {
    sides.iter().flat_map(|side| (side - 1).to_le_bytes()[..3].to_vec()).collect()
}

/// An animation of one frame whose lossy picture says another size.
fn animated(canvas: [u32; 2], frame: [u16; 2]) -> Vec<u8> {
    let place = [&[0; 6][..], &sides(canvas), &[0; 4]].concat();
    let frame = [&place[..], &chunk(b"VP8 ", &lossy(frame))].concat();
    let chunks = [chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &frame)].concat();
    extended(0b10, canvas, &chunks)
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let padding = &[0][..body.len() % 2];
    [&name[..], &(body.len() as u32).to_le_bytes(), body, padding].concat()
}

/// A lossy key frame of WebP of this size, whose pixels are zeros.
fn lossy([width, height]: [u16; 2]) -> Vec<u8> {
    let first = [0x10, 0x20, 0, 0x9d, 0x01, 0x2a];
    [&first[..], &width.to_le_bytes(), &height.to_le_bytes(), &[0; 4096]].concat()
}
