//! File systems of a test's own.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, of a given size in bytes.
pub struct Disk(PathBuf);

impl Disk {
    /// None, with a line that says so, where this user may not make one.
    pub fn new(place: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&place).unwrap();
        let disk = Self(place);
        let options = format!("size={size},mode=755");
        if disk.mount(&["-t", "tmpfs", "-o", &options, "tmpfs"]) {
            return Some(disk);
        }
        println!("skipped: this user cannot mount a file system");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Mounts it with other options.
    pub fn remount(&self, options: &str) {
        assert!(self.mount(&["-o", &format!("remount,{options}")]), "{options}");
    }

    /// Fills it to the brim.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    /// Takes away what fills it.
    pub fn make_room(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let output = Command::new("mount").args(arguments).arg(&self.0).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
