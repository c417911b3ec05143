//! Every `unsafe` block of every crate says why it is sound. Clippy looks for the comments; a crate with lints of its
//! own could leave that out.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::path::{Path, PathBuf};

const LINT: &str = "undocumented_unsafe_blocks";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Folders of crates, those too that are no members of the workspace.
fn crates() -> impl Iterator<Item = PathBuf> {
    let folders = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|folder| folder.join("Cargo.toml").is_file())
}

/// The Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_blocks_without_a_reason_are_denied_in_every_crate() {
    let denied = format!("{LINT} = \"deny\"");
    let has = |manifest: &str, line: &str| manifest.lines().any(|own| own == line);
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(has(&workspace, &denied), "Cargo.toml of the workspace");
    let mut count = 0;
    for folder in crates() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let inherited = manifest.contains("\n[lints]\nworkspace = true\n");
        assert!(inherited || has(&manifest, &denied), "{}", folder.display());
        count += 1;
    }
    assert!(count > 20, "{count} crates were found");
}

#[test]
fn no_source_takes_the_denial_back() {
    let mut files = Vec::new();
    for folder in crates() {
        sources(&folder, &mut files);
    }
    assert!(files.len() > 500, "{} files were found", files.len());
    for file in files.iter().filter(|file| !file.ends_with(file!())) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains(LINT), "{}", file.display());
    }
}
