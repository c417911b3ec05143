//! A stand-in for the driver's library NVML, compiled from `nvml.c` beside this file, so that the real
//! crate and the real worker are tested where there is no GPU. What it shows is a text that a test
//! writes and changes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library in a folder of its own.
pub struct Driver {
    folder: tempfile::TempDir,
}

impl Driver {
    /// With these cards, a line each as `nvml.c` says.
    pub fn new(cards: &str) -> Self {
        let driver = Self { folder: tempfile::tempdir().unwrap() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nvml.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(driver.library())
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(compiled.unwrap().success(), "the stand-in for NVML does not compile");
        driver.show(cards);
        driver
    }

    /// What to give as PALETTE_NVML.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// Shows other cards from now on.
    pub fn show(&self, cards: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, cards).unwrap();
        std::fs::rename(new, self.folder.path().join("cards")).unwrap();
    }
}
