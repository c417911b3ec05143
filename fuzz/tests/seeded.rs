//! Each target on its seeds, on a few hundred damaged copies of each, and on all that was ever found. Seeded, so
//! that a failure comes again; `PALETTE_MUTANTS` takes more (CONTRIBUTING.md).
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::fs;
use std::path::Path;

use fuzz::Target;
use testkit::mutant;

/// Damaged copies of each seed.
fn mutants() -> u64 {
    std::env::var("PALETTE_MUTANTS").map_or(40, |count| count.parse().unwrap())
}

fn each(feed: impl Fn(&Target, &Path)) {
    fuzz::quiet(|| ());
    let scratch = fuzz::scratch().unwrap();
    for target in Target::all() {
        feed(target, scratch.path());
    }
}

#[test]
fn damaged_files_are_values_or_errors() {
    each(|target, scratch| {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            target.feed(seed, scratch).unwrap();
            for count in 0..mutants() {
                println!("{} {number} {count}", target.name);
                target.feed(&mutant(seed, count), scratch).unwrap();
            }
        }
    });
}

#[test]
fn what_was_found_once_is_found_no_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    each(|target, scratch| {
        let Ok(files) = fs::read_dir(folder.join(target.name)) else { return };
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            target.feed(&fs::read(&path).unwrap(), scratch).unwrap();
        }
    });
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || Target::find(&name).is_some(), "{name} is no target");
    }
}
