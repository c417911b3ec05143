//! Addresses are parsed by `storage::Place` and `storage::Source` alone: nothing else in the workspace looks at their text.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// What code that parses addresses itself looks like, and what to do instead.
const PATTERNS: [(&str, &str); 8] = [
    ("starts_with(\"s3", "ask `Place::remote`"),
    ("starts_with(\"gs", "ask `Place::remote`"),
    ("starts_with(\"http", "parse a `Source`"),
    ("starts_with(\"file:", "parse a `Place`"),
    ("strip_prefix(\"file:", "parse a `Place`"),
    ("contains(\"://\")", "parse a `Place`"),
    ("PathBuf::from(uri", "parse a `Place`"),
    ("fn absolute(uri", "`Place` is absolute"),
];

/// Rust files below a folder, without those of tests and builds.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "tests", "storage"].contains(&name) {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn nobody_else_parses_addresses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 100, "the sources are not there: {}", root.display());
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for (pattern, instead) in PATTERNS {
                if line.contains(pattern) {
                    let place = file.strip_prefix(root).unwrap().display();
                    wrong.push(format!("{place}:{}: `{pattern}`: {instead}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
