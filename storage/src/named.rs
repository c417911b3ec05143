//! Files that a person named in an option (`--out`, `--csv`, `--picture`).
//!
//! A regular file, or nothing there, is replaced whole or not at all; of a link, what it leads to, and the link
//! stays. A device, a FIFO, or an open file of this process (`/dev/stdout`, `/dev/fd/3`) is written to as it
//! is: nothing is made beside it, and nothing takes its place.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result, atomic, local_path};

/// Links that are followed before they are taken for a ring, as Linux has it.
const MOST_LINKS: usize = 40;

/// What a name stands for.
#[derive(Debug, PartialEq)]
enum Target {
    /// A regular file or nothing; the path leads through no link at its end.
    File(PathBuf),
    /// A device, a FIFO.
    Stream,
    /// An open file of this process.
    Open(u32),
}

/// Writes what an option names.
///
/// # Errors
/// Wrong use where it can hold no file (a folder, a socket, a disk); those of writing it. What a regular file
/// held is unharmed then. A closed standard output is an error of `BrokenPipe`, another reader that went away
/// is none, so that only the former passes for an end that is meant.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let (mut stream, number) = match target(path)? {
        Target::File(file) => match atomic::write(&file, bytes) {
            Err(Error::Io { source, .. }) if is_mounted(&source) => {
                let file = OpenOptions::new().write(true).truncate(true).open(&file);
                (file.map_err(Error::io("write", path))?, None)
            }
            written => return written,
        },
        Target::Stream => (open(path)?, None),
        Target::Open(number) => (descriptor(path, number)?, Some(number)),
    };
    stream.write_all(bytes).map_err(|error| match (error.kind(), number) {
        (ErrorKind::BrokenPipe, number) if number != Some(1) => {
            let gone = std::io::Error::other("its reader closed it before all was written");
            Error::io("write", path)(gone)
        }
        _ => Error::io("write", path)(error),
    })
}

/// Makes sure that [`write()`] can make what an option names, by a file beside it that is removed again; what is not
/// replaced as a whole is left alone.
///
/// # Errors
/// As [`write()`].
pub fn probe(path: &Path) -> Result<()> {
    let Target::File(file) = target(path)? else { return Ok(()) };
    let beside = atomic::beside(&file);
    File::create(&beside).map_err(Error::io("write", path))?;
    fs::remove_file(&beside).map_err(Error::io("write", path))
}

/// Whether a rename failed because a file of another place is mounted there, as containers do: that one file is
/// meant, and takes the bytes as it is.
fn is_mounted(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ResourceBusy
}

/// Has `write` make the file that an option names at the path that it is given, for forms that cannot be written
/// in one go; then puts it in place. `/dev/null` takes it too.
///
/// # Errors
/// Wrong use where that is neither a regular file nor nothing; those of `write`, and of moving the file.
pub fn write_by<T, E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let found = target(path)?;
    refuse_stream(path, &found)?;
    let (beside, file) = match found {
        Target::File(file) => (atomic::beside(&file), Some(file)),
        _ => (atomic::beside(&std::env::temp_dir().join("palette")), None),
    };
    let made = write(&beside).and_then(|made| {
        if let Some(file) = &file {
            File::open(&beside)
                .and_then(|open| open.sync_all())
                .and_then(|()| atomic::liken(&beside, file))
                .map_err(Error::io("sync", &beside))?;
            atomic::rename(&beside, file)?;
        }
        Ok(made)
    });
    if made.is_err() || file.is_none() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&beside);
    }
    made
}

/// A path of this machine that may hold a file, for the command line.
///
/// # Errors
/// Where it is an address of an object store, a folder, a socket or a disk.
pub fn file(text: &str) -> Result<PathBuf, String> {
    let path = local_path(text)?;
    // What else is wrong with it shows when it is written.
    match target(&path) {
        Err(Error::Refused { message, .. }) => Err(message),
        _ => Ok(path),
    }
}

/// As [`file()`], for forms that are not written in one go and so want a regular file ([`write_by`]): said before
/// the work is done.
///
/// # Errors
/// As [`file()`]; also where it is a FIFO, an open file of this process or a device, unless that is `/dev/null`.
pub fn whole_file(text: &str) -> Result<PathBuf, String> {
    let path = file(text)?;
    match target(&path) {
        Ok(found) => refuse_stream(&path, &found).map(|()| path).map_err(|error| error.to_string()),
        Err(_) => Ok(path),
    }
}

/// Refuses what takes bytes only in their order.
fn refuse_stream(path: &Path, target: &Target) -> Result<()> {
    match target {
        Target::File(_) => Ok(()),
        Target::Stream if is_null(path) => Ok(()),
        Target::Stream | Target::Open(_) => {
            let why = "is no regular file, and this form is not written in one go: name a file";
            Err(refused(path, why))
        }
    }
}

/// True where the name stands for this process's standard output: nothing else should be printed there.
pub fn is_stdout(path: &Path) -> bool {
    target(path).is_ok_and(|target| target == Target::Open(1))
}

/// True where the name stands for a regular file, or for one that can be made.
pub fn is_file(path: &Path) -> bool {
    target(path).is_ok_and(|target| matches!(target, Target::File(_)))
}

fn target(path: &Path) -> Result<Target> {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(refused(path, "names a folder: name a file"));
    }
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Some(number) = number(&at) {
            return Ok(Target::Open(number));
        }
        let found = match fs::symlink_metadata(&at) {
            Ok(found) => found,
            // What cannot be looked at shows when it is written.
            Err(_) => return Ok(Target::File(at)),
        };
        let kind = found.file_type();
        if kind.is_symlink() {
            let to = fs::read_link(&at).map_err(Error::io("read link", &at))?;
            at = at.parent().unwrap_or(Path::new("")).join(to);
        } else if kind.is_dir() {
            return Err(refused(path, "is a folder: name a file"));
        } else if kind.is_socket() {
            return Err(refused(path, "is a socket, which takes no file: name a file"));
        } else if kind.is_block_device() {
            return Err(refused(path, "is a disk, which is not overwritten: name a file"));
        } else if kind.is_file() {
            return Ok(Target::File(at));
        } else {
            return Ok(Target::Stream);
        }
    }
    Err(refused(path, "leads through too many links: name the file itself"))
}

/// The number of an open file of this process: `/dev/fd/3`, `/proc/self/fd/3`.
fn number(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = path.parent()?.canonicalize().ok()?;
    let own = Path::new("/proc").join(std::process::id().to_string()).join("fd");
    (folder == own).then_some(number)
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))
}

/// The open file itself where the standard library hands it out, so that its position is kept; else opened
/// again to be written at its end.
fn descriptor(path: &Path, number: u32) -> Result<File> {
    let own = Path::new("/proc/self/fd").join(number.to_string());
    if !own.exists() && !own.is_symlink() {
        return Err(refused(
            path,
            "is not open in this process: open it in the shell, as in `3>file`",
        ));
    }
    if !is_writable(number) {
        return Err(refused(path, "is open for reading only: name another"));
    }
    let standard = match number {
        1 => std::io::stdout().as_fd().try_clone_to_owned(),
        2 => std::io::stderr().as_fd().try_clone_to_owned(),
        _ => return OpenOptions::new().append(true).open(own).map_err(Error::io("open", path)),
    };
    standard.map(File::from).map_err(Error::io("open", path))
}

/// Whether an open file may be written to; what cannot be known shows when it is written.
fn is_writable(number: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    // The last octal digit: 0 is reading, 1 writing, 2 both.
    flags.and_then(|flags| flags.trim().chars().last()).is_none_or(|last| !"04".contains(last))
}

fn is_null(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.rdev());
    device(path).is_some_and(|own| own != 0 && Some(own) == device(Path::new("/dev/null")))
}

fn refused(path: &Path, message: &str) -> Error {
    Error::Refused { place: path.display().to_string(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_link_leads_to_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("far")).unwrap();
        fs::write(path("far/old"), "old").unwrap();
        symlink("far/old", path("near")).unwrap();
        symlink("near", path("link")).unwrap();
        symlink("far/new", path("dangling")).unwrap();
        let before = fs::metadata(path("far/old")).unwrap().ino();
        write(&path("link"), b"fresh").unwrap();
        write(&path("dangling"), b"first").unwrap();
        assert_eq!(fs::read(path("far/old")).unwrap(), b"fresh");
        assert_eq!(fs::read(path("far/new")).unwrap(), b"first");
        assert_ne!(before, fs::metadata(path("far/old")).unwrap().ino(), "not replaced whole");
        assert!(path("link").is_symlink() && path("near").is_symlink());
        assert!(path("dangling").is_symlink());
        assert_eq!(fs::read_dir(path("far")).unwrap().count(), 2, "something was left behind");
    }

    #[test]
    fn who_may_read_a_file_may_read_the_one_in_its_place_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        for mode in [0o600, 0o640, 0o444] {
            fs::write(&file, "old").unwrap();
            fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            write(&file, b"new").unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, mode);
            write_by(&file, |at| fs::write(at, "newer").map_err(Error::io("write", at))).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, mode);
            assert_eq!(fs::read(&file).unwrap(), b"newer");
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_fifo_is_written_through_and_a_reader_that_leaves_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = |length: usize| {
            let fifo = fifo.clone();
            std::thread::spawn(move || {
                let mut read = Vec::new();
                let file = File::open(fifo).unwrap();
                file.take(length as u64).read_to_end(&mut read).unwrap();
                read
            })
        };
        let all = reader(usize::MAX >> 1);
        write(&fifo, b"through").unwrap();
        assert_eq!(all.join().unwrap(), b"through");
        let short = reader(1);
        let error = write(&fifo, &[7; 1 << 20]).unwrap_err().to_string();
        short.join().unwrap();
        assert!(error.contains("fifo") && error.contains("its reader closed it"), "{error}");
        assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let refused = write_by(&fifo, |_| Ok::<_, Error>(())).unwrap_err();
        assert!(refused.is_usage(), "{refused}");
    }

    #[test]
    fn the_null_device_takes_everything_and_stays() {
        let null = Path::new("/dev/null");
        write(null, b"gone").unwrap();
        let beside = write_by(null, |beside| {
            fs::write(beside, "x").map(|()| beside.to_owned()).map_err(Error::io("write", beside))
        });
        assert!(!beside.unwrap().exists());
        assert!(fs::metadata(null).unwrap().file_type().is_char_device());
    }

    #[test]
    fn what_holds_no_file_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let ring = folder.path().join("ring");
        symlink("ring", &ring).unwrap();
        let slash = folder.path().join("new/");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let cases = [folder.path(), &ring, &slash, &socket, Path::new("/dev/fd/987654")];
        for path in cases {
            let error = write(path, b"").unwrap_err();
            assert!(error.is_usage(), "{error}");
        }
        assert!(file(folder.path().to_str().unwrap()).is_err());
        assert_eq!(file("new.csv"), Ok("new.csv".into()));
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [fifo.to_str().unwrap(), "/dev/stdout", "/dev/full"] {
            assert!(file(path).is_ok(), "{path}");
            assert!(whole_file(path).unwrap_err().contains("name a file"), "{path}");
        }
        assert_eq!(whole_file("/dev/null"), Ok("/dev/null".into()));
        assert_eq!(whole_file("new.pt"), Ok("new.pt".into()));
    }

    #[test]
    fn the_open_files_of_this_process_are_known_by_all_their_names() {
        for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(is_stdout(Path::new(name)), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        symlink("/dev/stdout", folder.path().join("out")).unwrap();
        assert!(is_stdout(&folder.path().join("out")));
        assert!(!is_stdout(Path::new("/dev/null")) && !is_stdout(Path::new("1")));
    }
}
