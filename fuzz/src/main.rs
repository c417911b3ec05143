//! The driver: libFuzzer around one target, `PALETTE_FUZZ_TARGET`. `scripts/fuzz.py` runs them in turn.
//! Where `PALETTE_FUZZ_SEEDS` names a folder, the target's sound inputs are written there first, so that
//! libFuzzer finds them when it is given that folder.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use fuzz::{Guard, Target, quiet, scratch};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

#[global_allocator]
static GUARD: Guard = Guard::new();

static TARGET: OnceLock<(&'static Target, TempDir)> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("PALETTE_FUZZ_TARGET").unwrap_or_default();
        let target = Target::find(&name).unwrap_or_else(|| {
            let names: Vec<&str> = Target::all().iter().map(|target| target.name).collect();
            panic!("PALETTE_FUZZ_TARGET is `{name}`, allowed: {}", names.join(", "))
        });
        if let Some(folder) = std::env::var_os("PALETTE_FUZZ_SEEDS") {
            for (number, seed) in (target.seeds)().iter().enumerate() {
                let path = Path::new(&folder).join(format!("seed-{number}"));
                std::fs::write(path, seed).expect("the folder of the seeds takes files");
            }
        }
        // libFuzzer saves the input of a process that aborts.
        quiet(|| std::process::abort());
        GUARD.limit(target.memory);
        let _ = TARGET.set((target, scratch().expect("a scratch folder")));
    },
    |bytes: &[u8]| {
        let (target, scratch) = TARGET.get().expect("set before the first input");
        target.feed(bytes, scratch.path()).expect("a scratch folder");
    }
);
