//! What a hostile file costs the program: each under a limit of memory and of time, and with one line of error that
//! names the file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::parquet::basic::{Compression, GzipLevel, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use flate2::write::GzEncoder;

use crate::hostile::{File, columns, pictures};

/// KiB of address space, of which threads and allocator reserve some hundred MiB; seconds of processor time.
const LIMIT: &str = "ulimit -v 1500000 && ulimit -t 20";

/// Parquet that would take much more than it is.
fn parquets(folder: &Path) -> Vec<PathBuf> {
    let zstd =
        || WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    let gzip = Compression::GZIP(GzipLevel::default());
    let small = || File::read(&pictures(zstd().build(), |row| vec![row as u8; 100]));
    let mut files = Vec::new();
    let mut keep = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        files.push(path);
    };
    let plain = zstd().set_dictionary_enabled(false);
    keep("values.parquet", pictures(plain.build(), |_| vec![0; 20 << 20]));
    let plain = WriterProperties::builder().set_compression(gzip).set_dictionary_enabled(false);
    keep("gzip.parquet", pictures(plain.build(), |_| vec![0; 20 << 20]));
    // Columns within columns, rows, a place in the file, a page's values: the word of the file.
    let mut file = small();
    *file.footer.field(2).unwrap().elements()[0].number(5).unwrap() = (1 << 31) - 1;
    keep("schema.parquet", file.written(true));
    let mut file = small();
    *file.footer.number(3).unwrap() = 1 << 60;
    keep("rows.parquet", file.written(true));
    let mut file = small();
    *columns(&mut file.footer)[0].number(7).unwrap() = -1;
    keep("place.parquet", file.written(false));
    let mut file = small();
    *file.chunks[0][0].0.number(2).unwrap() = (1 << 31) - 1;
    keep("page.parquet", file.written(true));
    files
}

/// A file of ten gigabytes that takes no room.
fn sparse(folder: &Path, name: &str, start: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, start).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(10 << 30).unwrap();
    path
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (name, kind) in [("name.tar.gz", b'L'), ("pax.tar.gz", b'x'), ("all.tar.gz", b'g')] {
        let mut header = tar::Header::new_gnu();
        header.set_size(2 << 30);
        header.as_mut_bytes()[156] = kind;
        header.set_cksum();
        let path = folder.join(name);
        let mut packed =
            GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(header.as_bytes()).unwrap();
        for _ in 0..256 {
            packed.write_all(&vec![b'a'; 1 << 20]).unwrap();
        }
        packed.finish().unwrap();
        files.push(path);
    }
    files.push(sparse(folder, "zeros.tar", b""));
    let mut empty = tar::Header::new_gnu();
    empty.set_path("a/1.png").unwrap();
    empty.set_size(0);
    empty.set_cksum();
    files.push(sparse(folder, "padded.tar", empty.as_bytes()));
    let members = folder.join("members.tar.gz");
    let none = GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
    fs::write(&members, none.repeat(2_000_000)).unwrap();
    files.push(members);
    files
}

#[test]
fn hostile_files_end_in_a_line_within_memory_and_time() {
    let folder = tempfile::tempdir().unwrap();
    for file in parquets(folder.path()).into_iter().chain(archives(folder.path())) {
        let (program, out) = (env!("CARGO_BIN_EXE_pipeline"), folder.path().join("out"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{LIMIT} && exec \"$@\""), "sh", program, "ingest"]);
        command.arg(&file).arg("--out").arg(out).arg("--quiet");
        let output = command.env("RUST_BACKTRACE", "1").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name}: {:?}: {said}", output.status);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: ") && said.contains(name), "{said}");
    }
}
