//! What a machine may lack. A test that wants it is skipped there, with a line that says so.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that has these modules: that of `.venv`, which `make test` fills, or `python3`.
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let imports = modules.iter().map(|module| format!("import {module}\n")).collect::<String>();
    let found =
        [root.join(".venv/bin/python"), PathBuf::from("python3")].into_iter().find(|python| {
            let output = Command::new(python).args(["-c", &imports]).output();
            output.is_ok_and(|output| output.status.success())
        });
    if found.is_none() {
        println!("skipped: no python3 with {}; see scripts/python.sh", modules.join(", "));
    }
    found
}

/// The folder of fixtures, which `PALETTE_FIXTURES` names.
pub fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("PALETTE_FIXTURES").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: PALETTE_FIXTURES is not set");
    }
    folder
}

/// The program PgBouncer.
pub fn pgbouncer() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("pgbouncer")).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: no pgbouncer; see scripts/pgbouncer.sh");
    }
    found
}

/// The command that runs another in name spaces of its own, by these options of `unshare`.
pub fn separate(options: &[&str]) -> Option<String> {
    let tried = Command::new("unshare").args(options).arg("true").output();
    if tried.is_ok_and(|output| output.status.success()) {
        return Some(format!("unshare {}", options.join(" ")));
    }
    println!("skipped: this user cannot run `unshare {}`", options.join(" "));
    None
}
