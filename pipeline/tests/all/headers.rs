//! Tars and zips whose headers lie, with checksums that are right: a change of bytes alone is found by the checksum
//! and reaches nothing behind it.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use random::Rng;
use zip::write::SimpleFileOptions;

use crate::mutants::{mutants, survives};

const BLOCK: usize = 512;
/// Fields of a header: where they begin, and their length; the first four are numbers.
const FIELDS: [(usize, usize); 12] = [
    (100, 8),
    (124, 12),
    (136, 12),
    (386, 12),
    (0, 100),
    (156, 1),
    (157, 100),
    (257, 8),
    (345, 155),
    (398, 12),
    (482, 1),
    (483, 12),
];

fn picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    pipeline::scenes::scene(3, 8).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A member with the header of its kind, which is padded.
fn member(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_path(name).unwrap();
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..rest + 9).find(|all| rest + all.to_string().len() == *all).unwrap();
    format!("{length} {key}={value}\n")
}

/// Members of all kinds; pictures among them.
fn members() -> Vec<Vec<u8>> {
    let (picture, long) = (picture(), format!("a/{}.png", "x".repeat(200)));
    let sparse = [record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0")].concat()
        + &record("GNU.sparse.realsize", "4096")
        + &record("GNU.sparse.name", "b/sparse.png");
    let map = [b"1\n0\n3\n".as_slice(), &[0; BLOCK - 6], b"abc"].concat();
    vec![
        member(b'5', "a/", b""),
        member(b'0', "a/1.png", &picture),
        member(b'L', "././@LongLink", long.as_bytes()),
        member(b'0', "a/short.png", &picture),
        member(b'g', "pax_global", record("comment", "all").as_bytes()),
        member(b'x', "pax", record("path", "b/3.png").as_bytes()),
        member(b'0', "x", &picture),
        member(b'2', "b/link.png", b""),
        member(b'x', "pax", sparse.as_bytes()),
        member(b'0', "y", &map),
        member(b'S', "b/old.png", &[7; 12]),
        member(b'0', "b/4.png", &picture),
    ]
}

fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

/// Changes a field of a header, or the text that a pax header or a long name is, and sets the checksum.
fn change(member: &mut [u8], rng: &mut Rng) {
    let of = |rng: &mut Rng, count: usize| rng.integer(0, count as u32 - 1) as usize;
    let content = member.len() > BLOCK && b"LKgx".contains(&member[156]) && rng.chance(0.5);
    if content {
        let at = BLOCK + of(rng, 60);
        let digits = b"0123456789 =\n\0\xff";
        member[at] = digits[of(rng, digits.len())];
    } else {
        let (from, length) = FIELDS[of(rng, FIELDS.len())];
        let field = &mut member[from..from + length];
        match rng.integer(0, 5) {
            0 => field.fill(b'7'),
            1 => field.fill(0),
            2 => field.fill(0xff),
            // A number of more than its digits, as GNU tar has it.
            3 => {
                field.fill(0);
                field[0] = 0x80;
                let last = field.len() - 1;
                field[of(rng, length).min(last)] |= 0x7f;
            }
            4 => field[length - 1] = b"01234567gxLKSVMNDX"[of(rng, 18)],
            _ => {
                let at = of(rng, length);
                field[at] = rng.integer(0, 255) as u8;
            }
        }
    }
    member[148..156].fill(b' ');
    let sum: u32 = member[..BLOCK].iter().map(|&byte| u32::from(byte)).sum();
    member[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn tars_whose_headers_lie_are_datasets_or_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("mutant.tar"), folder.path().join("out"));
    let sound = members();
    for seed in 0..mutants() / 4 {
        let rng = &mut Rng::new(random::key(&[seed, 0x7461]));
        let mut members = sound.clone();
        for _ in 0..rng.integer(1, 3) {
            let at = rng.integer(0, members.len() as u32 - 1) as usize;
            change(&mut members[at], rng);
        }
        fs::write(&source, tar(&members)).unwrap();
        survives(&source, "folder", &out, &format!("tar {seed}"));
    }
}

#[test]
fn zips_whose_headers_lie_are_datasets_or_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("mutant.zip"), folder.path().join("out"));
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..4 {
        zip.start_file(format!("a/{number}.png"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&picture()).unwrap();
    }
    zip.set_comment("a zip").unwrap();
    let sound = zip.finish().unwrap().into_inner();
    let marks = [b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04"];
    let is_header = |at: &usize| marks.iter().any(|mark| sound[*at..].starts_with(*mark));
    let headers: Vec<usize> = (0..sound.len()).filter(is_header).collect();
    assert_eq!(headers.len(), 9);
    for seed in 0..mutants() / 10 {
        let rng = &mut Rng::new(random::key(&[seed, 0x7a69]));
        let mut bytes = sound.clone();
        for _ in 0..rng.integer(1, 3) {
            let header = headers[rng.integer(0, 8) as usize];
            let at = (header + 4 + 2 * rng.integer(0, 20) as usize).min(bytes.len() - 2);
            let value =
                [0, 1, 8, 0x7fff, 0xffff, rng.integer(0, 0xffff)][rng.integer(0, 5) as usize];
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        fs::write(&source, bytes).unwrap();
        survives(&source, "folder", &out, &format!("zip {seed}"));
    }
}

/// The error of an ingest of a gzipped tar.
fn refused(at: &Path, kind: u8, header: &[u8], times: usize) -> String {
    let mut packed = GzEncoder::new(fs::File::create(at).unwrap(), Compression::fast());
    for _ in 0..times {
        packed.write_all(&member(kind, "long", header)).unwrap();
    }
    packed.write_all(&tar(&[member(b'0', "a/1.png", &picture())])).unwrap();
    packed.finish().unwrap();
    crate::hostile::ingested(at, &at.with_extension("out")).unwrap()
}

#[test]
fn headers_that_are_longer_than_any_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("long.tar.gz");
    let global = |number: usize| record(&format!("key{number}"), &"v".repeat(3 << 20));
    for (kind, header, times, said) in [
        (b'L', vec![b'a'; 80 << 20], 1, "a header of 83886080 bytes, at most 65536 are read"),
        (b'x', vec![b'a'; 80 << 20], 1, "a header of 83886080 bytes, at most 4194304 are read"),
        (b'g', global(1).into_bytes(), 20, "too long a pax header"),
        (b'x', record("path", &"n".repeat(1 << 20)).into_bytes(), 1, "a name of 1048576 bytes"),
    ] {
        let error = refused(&source, kind, &header, times);
        assert!(error.contains(said) && error.contains("long.tar.gz"), "{error}");
        assert!(error.contains("before byte "), "{error}");
    }
}

/// Names are kept, and a packed archive of a megabyte may have a gigabyte of them.
#[test]
fn names_of_an_archive_are_bounded_in_all() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("names.tar.gz");
    let mut packed = GzEncoder::new(fs::File::create(&source).unwrap(), Compression::fast());
    for number in 0..1200 {
        let name = format!("{number}/{}", "n".repeat(60_000));
        packed.write_all(&member(b'L', "././@LongLink", name.as_bytes())).unwrap();
        packed.write_all(&member(b'0', "short", b"text")).unwrap();
    }
    packed.write_all(&tar(&[member(b'0', "a/1.png", &picture())])).unwrap();
    packed.finish().unwrap();
    let error = crate::hostile::ingested(&source, &folder.path().join("out")).unwrap();
    assert!(error.contains("too many long names") && error.contains("names.tar.gz"), "{error}");
}
