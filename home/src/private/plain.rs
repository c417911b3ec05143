//! Files and folders of the server where another user may have put links in their place: as root, what a link leads
//! to would be written, given away or shown.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a folder that is no link.
pub(crate) fn folder(path: &Path) -> std::io::Result<File> {
    opened(path, File::options().read(true), OFlag::O_DIRECTORY)
}

/// Opens a file that is no link, or makes it for its user alone.
pub(super) fn made(path: &Path) -> std::io::Result<File> {
    let file = opened(
        path,
        File::options().create(true).truncate(false).write(true).mode(0o600),
        OFlag::empty(),
    )?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is no regular file")),
    }
}

/// The text of a file from this byte on, at most its last 64 KiB; empty where there is no file, or a link.
pub(super) fn end(path: &Path, from: u64) -> String {
    const MOST: u64 = 64 << 10;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = opened(path, File::options().read(true), OFlag::empty())?;
        let length = file.metadata().map(|file| if file.is_file() { file.len() } else { 0 })?;
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(MOST))))?;
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        Ok(text)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn opened(path: &Path, options: &mut OpenOptions, also: OFlag) -> std::io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | also;
    options.custom_flags(flags.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed_and_files_are_read_from_their_end() {
        let all = std::env::temp_dir().join(format!("palette-plain-{}", std::process::id()));
        std::fs::create_dir(&all).unwrap();
        let (file, link) = (all.join("file"), all.join("link"));
        std::fs::write(&file, "0123456789").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!((end(&file, 7).as_str(), end(&link, 0).as_str()), ("789", ""));
        assert!(made(&file).is_ok() && made(&link).is_err());
        symlink(&all, all.join("folder")).unwrap();
        assert!(folder(&all).is_ok() && folder(&all.join("folder")).is_err());
        assert!(folder(&file).is_err());
        std::fs::remove_dir_all(&all).unwrap();
    }
}
