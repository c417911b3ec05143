//! Whether an option that names a file leaves what is there what it is: devices, FIFOs, links.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::text;

/// Runs `command`, which writes what begins with `magic` to the path that it is given, with all that such a path
/// may be. A form that is not written in one go (`streams` is false) is refused by what is no file.
pub fn check(magic: &[u8], ending: &str, streams: bool, command: impl Fn(&Path) -> Command) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(format!("{name}{ending}"));
    let ok = |at: &Path| {
        let output = command(at).output().unwrap();
        assert!(output.status.success(), "{}: {}", at.display(), text(&output.stderr));
        output.stdout
    };
    let made = |at: &Path| {
        let bytes = fs::read(at).unwrap();
        assert!(bytes.starts_with(magic), "{}", at.display());
    };

    fs::write(path("old"), "old").unwrap();
    fs::create_dir(folder.path().join("far")).unwrap();
    fs::write(path("far/target"), "old").unwrap();
    symlink(path("far/target"), path("link")).unwrap();
    symlink(path("far/new"), path("dangling")).unwrap();
    for name in ["old", "link", "dangling", "none"] {
        ok(&path(name));
        made(&path(name));
    }
    assert!(path("link").is_symlink() && path("dangling").is_symlink(), "a link was replaced");
    assert!(path("far/target").is_file() && path("far/new").is_file());

    ok(Path::new("/dev/null"));
    let null = fs::metadata("/dev/null").unwrap().file_type();
    assert!(null.is_char_device(), "/dev/null was replaced");

    mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
    if streams {
        let reader = read_all(path("fifo"));
        ok(&path("fifo"));
        assert!(reader.join().unwrap().starts_with(magic));
        assert!(ok(Path::new("/dev/stdout")).starts_with(magic));
        let piped = text(&ok(Path::new("/dev/fd/1")));
        assert!(!piped.contains("/dev/fd/1"), "something else is printed there: {piped}");
    } else {
        refused(&command, &path("fifo"));
    }
    assert!(fs::metadata(path("fifo")).unwrap().file_type().is_fifo(), "a FIFO was replaced");
    refused(&command, &folder.path().join("far"));

    let left = |entry: fs::DirEntry| entry.file_name().into_string().unwrap().contains("part");
    let all = [folder.path(), &folder.path().join("far")].map(|at| fs::read_dir(at).unwrap());
    assert!(!all.into_iter().flatten().any(|entry| left(entry.unwrap())), "unfinished files");
}

/// Makes a FIFO; gives who reads what is written to it, once.
pub fn fifo(at: PathBuf) -> std::thread::JoinHandle<Vec<u8>> {
    mkfifo(&at, Mode::S_IRWXU).unwrap();
    read_all(at)
}

fn read_all(fifo: PathBuf) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut read = Vec::new();
        File::open(fifo).unwrap().read_to_end(&mut read).unwrap();
        read
    })
}

fn refused(command: &impl Fn(&Path) -> Command, at: &Path) {
    let output = command(at).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{}: {said}", at.display());
    assert!(said.contains("name a file"), "{said}");
}
