//! Where the programs are. For the tests of a crate cargo builds the programs of that crate and of no
//! other; so the rest must have been built before, as `make test` does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// The file of one of our programs, by its name.
///
/// # Panics
/// Where it is not built, or is older than a source that it was built from.
pub fn program(name: &str) -> PathBuf {
    static FOUND: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let program = folder().join(name);
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !found.contains(name) {
        if let Some(fault) = fault(&program) {
            panic!("{} {fault}: run `cargo build --release --workspace --bins`", program.display());
        }
        found.insert(name.to_owned());
    }
    program
}

/// The folder of the programs: the test that runs lies in `deps` beside them.
fn folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// What is wrong with a program's file.
fn fault(program: &Path) -> Option<String> {
    let Some(built) = modified(program) else { return Some("is not built".to_owned()) };
    let sources = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let newer =
        self::sources(&sources).find(|source| modified(source).is_some_and(|at| at > built));
    newer.map(|source| format!("is older than {}", source.display()))
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

/// The files that a program was built from, from the line `PROGRAM: SOURCE SOURCE …` that cargo writes
/// beside it, where a space in a name is `\ `. Those of git say of what commit a program is, and change
/// nothing of what it does.
fn sources(line: &str) -> impl Iterator<Item = PathBuf> {
    let files = line.split_once(": ").map_or("", |(_, files)| files).replace("\\ ", "\0");
    let files: Vec<_> =
        files.split_whitespace().map(|file| PathBuf::from(file.replace('\0', " "))).collect();
    files.into_iter().filter(|file| file.iter().all(|part| part != ".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_an_old_program_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(fault(&path("program")).unwrap(), "is not built");
        for file in ["program", "old.rs", "new one.rs"] {
            std::fs::write(path(file), "").unwrap();
        }
        assert_eq!(fault(&path("program")), None, "without a list nothing is known");
        let at = |file: &str, seconds| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options()
                .append(true)
                .open(path(file))
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        at("old.rs", 1);
        at("program", 2);
        at("new one.rs", 3);
        let list = |file: &str| {
            let escaped = path(file).to_str().unwrap().replace(' ', "\\ ");
            let line =
                format!("{}: {} {escaped}\n", path("program").display(), path("gone").display());
            std::fs::write(path("program.d"), line).unwrap();
        };
        list("old.rs");
        assert_eq!(fault(&path("program")), None);
        std::fs::create_dir(path(".git")).unwrap();
        std::fs::write(path(".git/HEAD"), "").unwrap();
        list(".git/HEAD");
        assert_eq!(fault(&path("program")), None, "a commit alone makes no program old");
        list("new one.rs");
        assert!(fault(&path("program")).unwrap().ends_with("new one.rs"));
    }
}
