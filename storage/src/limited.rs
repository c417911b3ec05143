//! Small files of this machine that are read whole, such as configurations and tables: up to a limit, whatever is
//! there by the name. A length that the system tells is asked of regular files only: devices and pipes have none.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

/// Opens a file, also a pipe such as the shell's `<(…)`, without waiting for one that nobody writes to.
///
/// # Errors
/// As [`File::open`]; for a folder.
fn open(path: &Path) -> Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory, "a folder, not a file"));
    }
    // Reading waits again: a pipe that somebody writes to may have nothing yet.
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// The bytes of a file; the caller's message names it.
///
/// # Errors
/// When it cannot be read or has more than `most` bytes, of which no more are read.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(path)?;
    let metadata = file.metadata()?;
    let too_long = || {
        let message = format!("it has more than {most} bytes, too many for what it should be");
        Error::new(ErrorKind::FileTooLarge, message)
    };
    if metadata.is_file() && metadata.len() > most {
        return Err(too_long());
    }
    let pipe = metadata.file_type().is_fifo();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if pipe && bytes.is_empty() {
        return Err(Error::new(ErrorKind::UnexpectedEof, "it is a pipe that nobody wrote to"));
    }
    if bytes.len() as u64 > most {
        return Err(too_long());
    }
    Ok(bytes)
}

/// As [`read`], of text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    let not_text = |_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(read(path, most)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_read_of_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/zero"), 1000).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&pipe, 4).unwrap_err().to_string().contains("nobody"));
        let mut command = std::process::Command::new("sh");
        let command = command.args(["-c", "printf 1 > \"$0\""]).arg(&pipe);
        // Held open, so that the writer comes through before there is a reader.
        let held = File::options().read(true).write(true).open(&pipe).unwrap();
        assert!(command.status().unwrap().success());
        let mut opened = open(&pipe).unwrap();
        let mut byte = [0];
        opened.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"1");
        drop(held);
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
