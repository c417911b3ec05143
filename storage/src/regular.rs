//! Opens regular files only. A name may also lead to a pipe, which would block, or a device, which never ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// Opens a file for reading; returns it with its length.
///
/// # Errors
/// As [`File::open`]; also for anything that is not a regular file. Never blocks on a pipe without a writer.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    // The flag has no effect on regular files; a pipe opens without a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let what = match metadata.is_dir() {
        _ if metadata.is_file() => return Ok((file, metadata.len())),
        true => "a folder, not a regular file",
        false => "a pipe or a device, not a regular file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_none_blocks() {
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
