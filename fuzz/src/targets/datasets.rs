//! Datasets of ours that come from elsewhere: the manifest, shards, rejects, and outputs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::ImageFormat;
use outputs::{OutputDataset, OutputRow, OutputWriter};
use pipeline::Dataset;
use pipeline::ingest::{IngestOptions, ingest};
use pipeline::masks::{StoredMasks, store};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{parquet, parquet_seeds, picture, place, write};
use crate::{SOME, Target};

pub const MANIFEST: Target = Target {
    name: "manifest",
    about: "manifest.json of a dataset",
    memory: SOME,
    run: |bytes, scratch| {
        let sound = sound();
        sound.lay(scratch);
        write(&scratch.join("manifest.json"), bytes);
        read(scratch);
    },
    seeds: || {
        let manifest = &sound().manifest;
        let mut cut = manifest.clone();
        cut["cut"] = serde_json::json!({
            "base": "base", "digest": "00", "how": "rows 0..1", "rows": [0],
        });
        vec![manifest.to_string().into_bytes(), cut.to_string().into_bytes()]
    },
};

pub const SHARD: Target = Target {
    name: "shard",
    about: "a shard of a dataset whose manifest has its digest",
    memory: SOME,
    run: |bytes, scratch| {
        let sound = sound();
        sound.lay(scratch);
        let bytes = parquet(bytes, &sound.shard);
        replace(&sound.manifest, &sound.file, &bytes, scratch);
        read(scratch);
    },
    seeds: || parquet_seeds(shard()),
};

pub const REJECTS: Target = Target {
    name: "rejects",
    about: "the list of what an ingest refused",
    memory: SOME,
    run: |bytes, scratch| {
        let sound = sound();
        sound.lay(scratch);
        write(&scratch.join("rejects.parquet"), &parquet(bytes, &sound.rejects));
        read(scratch);
    },
    seeds: || parquet_seeds(&sound().rejects),
};

pub const OUTPUTS: Target = Target {
    name: "outputs",
    about: "a shard of outputs whose manifest has its digest",
    memory: SOME,
    run: |bytes, scratch| {
        let (manifest, file, shard) = made();
        let bytes = parquet(bytes, shard);
        replace(manifest, file, &bytes, scratch);
        let Ok(outputs) = OutputDataset::open(&place(scratch)) else { return };
        let _ = outputs.names();
        for row in outputs.rows().take(16) {
            let Ok(row) = row else { break };
            assert!(row.output.len() <= bytes.len() << 10);
        }
    },
    seeds: || parquet_seeds(&made().2),
};

/// A dataset that ingest made.
struct Sound {
    manifest: Value,
    file: String,
    shard: Vec<u8>,
    rejects: Vec<u8>,
}

impl Sound {
    fn lay(&self, folder: &Path) {
        write(&folder.join("manifest.json"), self.manifest.to_string().as_bytes());
        write(&folder.join(&self.file), &self.shard);
        write(&folder.join("rejects.parquet"), &self.rejects);
    }
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let scratch = crate::scratch().expect("a folder");
        let source = scratch.path().join("source");
        for (name, bytes) in [
            ("a/0.png", picture(0, 16, ImageFormat::Png)),
            ("a/1.png", picture(1, 24, ImageFormat::Png)),
            ("b/2.jpg", picture(2, 16, ImageFormat::Jpeg)),
            ("b/3.png", b"no picture".to_vec()),
        ] {
            write(&source.join(name), &bytes);
        }
        let out = scratch.path().join("out");
        let options = IngestOptions::new(vec![source], place(&out));
        ingest(&options, &|_| {}).expect("sound pictures");
        let manifest = json(&out.join("manifest.json"));
        let file = first(&manifest);
        Sound {
            shard: bytes(&out.join(&file)),
            rejects: bytes(&out.join("rejects.parquet")),
            manifest,
            file,
        }
    })
}

/// Masks that were stored beside a dataset.
pub fn masks() -> &'static [u8] {
    static MASKS: OnceLock<Vec<u8>> = OnceLock::new();
    MASKS.get_or_init(drawn)
}

fn drawn() -> Vec<u8> {
    let scratch = crate::scratch().expect("a folder");
    sound().lay(scratch.path());
    let dataset = Dataset::open(&place(scratch.path())).expect("a sound dataset");
    let wanted = StoredMasks { bin: [10, 20], seed: 0, size: 32 };
    let file = store(&dataset, &wanted, scratch.path(), &|_| ()).expect("a sound dataset");
    bytes(&file)
}

/// The shard of a small dataset.
pub fn shard() -> &'static [u8] {
    &sound().shard
}

/// The manifest of outputs, the name of their shard, and the shard.
fn made() -> &'static (Value, String, Vec<u8>) {
    static MADE: OnceLock<(Value, String, Vec<u8>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let scratch = crate::scratch().expect("a folder");
        let out = scratch.path().join("outputs");
        let png = picture(1, 16, ImageFormat::Png);
        let row = |sample| OutputRow {
            source: png.clone(),
            mask: png.clone(),
            output: png.clone(),
            reference: png.clone(),
            key: "a/1".into(),
            seed: 7,
            sample,
            task: "jpeg:5".parse().expect("a task"),
        };
        let writer = OutputWriter::open(&place(&out), "test", 1).expect("an empty folder");
        writer.write_chunk(0, &[row(0), row(1)]).expect("sound rows");
        writer.finish(Value::Null).expect("all chunks are there");
        let manifest = json(&out.join("manifest.json"));
        let file = first(&manifest);
        let shard = bytes(&out.join(&file));
        (manifest, file, shard)
    })
}

/// Lays a manifest and another shard than it was of, as if it were of that one.
fn replace(manifest: &Value, file: &str, shard: &[u8], folder: &Path) {
    let mut manifest = manifest.clone();
    let entry = &mut manifest["shards"][0];
    entry["bytes"] = shard.len().into();
    entry["sha256"] = hex(shard).into();
    write(&folder.join("manifest.json"), manifest.to_string().as_bytes());
    write(&folder.join(file), shard);
}

/// Reads a dataset as loader, `inspect` and `verify` do.
fn read(folder: &Path) {
    let Ok(dataset) = Dataset::open(&place(folder)) else { return };
    let _ = dataset.groups();
    for index in 0..dataset.len().min(8) {
        let _ = dataset.key(index);
        let _ = dataset.photograph(index);
        let _ = dataset.record(index);
    }
    let _ = dataset.records().take(8).count();
    let _ = dataset.summary();
    let _ = dataset.rejects();
    let _ = dataset.noted();
    let _ = dataset.verify(|| ());
}

fn bytes(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).expect("what was just written")
}

fn json(path: &PathBuf) -> Value {
    serde_json::from_slice(&bytes(path)).expect("what was just written")
}

fn first(manifest: &Value) -> String {
    manifest["shards"][0]["file"].as_str().expect("a shard").to_owned()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
