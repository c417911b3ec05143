//! Files that somebody named and that are read as a whole: not every name is one of a file. A pipe would be waited
//! for, a device read without end.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// Opens a file to be read, and gives its length.
///
/// # Errors
/// As [`File::open`], and for what is no regular file, at once: no writer of a pipe is waited for.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    // Of regular files the flag changes nothing; a pipe opens without a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let what = match metadata.is_dir() {
        _ if metadata.is_file() => return Ok((file, metadata.len())),
        true => "it is a folder, not a file",
        false => "it is a pipe or a device, not a file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [file, fifo] = ["file", "fifo"].map(|name| folder.path().join(name));
        std::fs::write(&file, "12345").unwrap();
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert_eq!(open(&file).unwrap().1, 5);
        for (path, what) in [
            (fifo.as_path(), "a pipe or a device"),
            (Path::new("/dev/zero"), "a pipe or a device"),
            (folder.path(), "a folder"),
        ] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
