//! What the set-up and the benchmarks take from the package index is named by its digest.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files of this folder whose names end so, and of those below it.
fn files(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ends));
        } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn pip_installs_nothing_without_a_digest() {
    let scripts = [
        files(&root().join("scripts"), &[".sh", ".py"]),
        files(&root().join("benches"), &[".sh", ".py"]),
    ];
    let mut seen = 0;
    for script in scripts.concat() {
        let text = std::fs::read_to_string(&script).unwrap();
        // A command goes on behind `\` and, in Python, behind a comma.
        let text = text.replace("\\\n", " ").replace(",\n", ", ");
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let installs = line.contains("pip install")
                || line.contains("pip\" install")
                || line.contains("*PIP, \"install\"");
            // `lock.sh` asks the index for the digests themselves, and a dry run takes nothing.
            if installs && !script.ends_with("lock.sh") && !line.contains("--dry-run") {
                seen += 1;
                assert!(line.contains("--require-hashes"), "{}: {line}", script.display());
            }
        }
    }
    assert!(seen >= 5, "only {seen} calls of pip were found");
}

#[test]
fn each_lock_names_a_digest_for_all_that_it_holds() {
    let locks =
        [files(&root().join("scripts"), &[".lock"]), files(&root().join("benches"), &[".lock"])]
            .concat();
    assert_eq!(locks.len(), 6, "{locks:?}");
    for lock in locks {
        let text = std::fs::read_to_string(&lock).unwrap().replace("\\\n", " ");
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            assert!(
                line.contains("==") && line.contains("--hash=sha256:"),
                "{}: {line}",
                lock.display()
            );
            assert!(!line.contains("://"), "{}: {line}", lock.display());
        }
    }
}
