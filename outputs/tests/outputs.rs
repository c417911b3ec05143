//! Output datasets: chunks in any order, read back as they were written.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use outputs::{OutputDataset, OutputImage, OutputRow, OutputWriter};
use storage::Place;
use testkit::s3::Server;
use testkit::{python, run_ok};

const VARIANTS: [&str; 4] = ["jpeg:5", "jpeg:20", "inpainting", "colorization"];

fn row(number: u64) -> OutputRow {
    let picture = |shift| pictures::png(&pipeline::scenes::scene(number * 4 + shift, 24)).unwrap();
    OutputRow {
        source: picture(0),
        mask: picture(1),
        output: picture(2),
        reference: picture(3),
        key: format!("a/{number}.png"),
        seed: u64::MAX - number,
        sample: number as u32 % 4,
        task: VARIANTS[number as usize % 4].parse().unwrap(),
    }
}

#[test]
fn chunks_in_any_order_give_one_dataset() {
    let folder = tempfile::tempdir().unwrap();
    one_dataset(&Place::folder(folder.path().join("out")).unwrap());
    let left = std::fs::read_dir(folder.path().join("out/data")).unwrap().count();
    assert_eq!(left, 3, "nothing of the chunk that was dropped is left");
}

/// The library reads where the server is from the environment, so the test runs itself with one.
#[test]
fn chunks_in_an_object_store_give_one_dataset() {
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return one_dataset(&"s3://laboratory/out".parse().unwrap());
    }
    let Some(server) = Server::start() else { return };
    let mut again = Command::new(std::env::current_exe().unwrap());
    let name = "chunks_in_an_object_store_give_one_dataset";
    run_ok(server.with(again.args(["--exact", name])));
    let shard = |chunk| format!("out/data/outputs-0000{chunk}-of-00003.parquet");
    assert_eq!(server.names("out/"), [shard(0), shard(1), shard(2), "out/manifest.json".into()]);
    // The same bytes as in a folder.
    let folder = tempfile::tempdir().unwrap();
    one_dataset(&Place::folder(folder.path()).unwrap());
    for chunk in 0..3 {
        let file = folder.path().join(format!("data/outputs-0000{chunk}-of-00003.parquet"));
        let (sha256, _) = storage::atomic::sha256_file(&file).unwrap();
        assert_eq!(server.sha256(&shard(chunk)), sha256);
    }
}

fn one_dataset(uri: &Place) {
    let rows: Vec<_> = (0..150).map(row).collect();
    let chunks: Vec<_> = rows.chunks(70).collect();
    for chunk in [2, 0] {
        let writer = OutputWriter::open(uri, "outputs", 3).unwrap();
        writer.write_chunk(chunk, chunks[chunk as usize]).unwrap();
    }
    let writer = OutputWriter::open(uri, "outputs", 3).unwrap();
    assert!(writer.has_chunk(0).unwrap() && !writer.has_chunk(1).unwrap());
    let error = writer.finish(serde_json::Value::Null).unwrap_err().to_string();
    assert!(error.contains("chunk 1 of 3 is not written yet"), "{error}");
    assert!(OutputDataset::open(uri).is_err());
    let mut dropped = writer.chunk(1).unwrap();
    dropped.push(row(3)).unwrap();
    drop(dropped);
    assert!(!writer.has_chunk(1).unwrap());
    writer.write_chunk(1, chunks[1]).unwrap();
    let first = writer.write_chunk(1, chunks[1]).unwrap();
    let manifest = writer.finish(serde_json::json!({ "run": "r" })).unwrap();
    assert_eq!((manifest.rows, manifest.shards.len()), (150, 3));
    assert_eq!(manifest.shards[1], first);
    assert_eq!(manifest.shards[1].file, "data/outputs-00001-of-00003.parquet");
    let dataset = OutputDataset::open(uri).unwrap();
    for (first, count) in [(0, 1), (68, 5), (139, 2), (149, 9), (150, 1), (u64::MAX, u64::MAX)] {
        let end = first.saturating_add(count).min(150);
        let expected = rows.get(first as usize..end as usize).unwrap_or_default();
        assert_eq!(dataset.read(first, count).unwrap(), expected, "{count} rows from {first}");
    }
    let image = |row, image| dataset.image(row, image).unwrap();
    assert_eq!(image(149, OutputImage::Output), Some(rows[149].output.clone()));
    assert_eq!(image(70, OutputImage::Mask), Some(rows[70].mask.clone()));
    assert_eq!(image(150, OutputImage::Source), None);
    let read: Vec<_> = dataset.rows().map(Result::unwrap).collect();
    assert!(read == rows);
    let names = dataset.names().unwrap();
    let told: Vec<_> = names.iter().map(|name| (&name.key, name.sample, name.task)).collect();
    assert_eq!(told, rows.iter().map(|row| (&row.key, row.sample, row.task)).collect::<Vec<_>>());
}

#[test]
fn a_damaged_shard_is_named_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(folder.path()).unwrap();
    let writer = OutputWriter::open(&place, "outputs", 1).unwrap();
    writer.write_chunk(0, &[row(0)]).unwrap();
    writer.finish(serde_json::Value::Null).unwrap();
    let shard = folder.path().join("data/outputs-00000-of-00001.parquet");
    let length = std::fs::metadata(&shard).unwrap().len() as usize;
    std::fs::write(&shard, vec![0; length]).unwrap();
    let dataset = OutputDataset::open(&place).unwrap();
    let of_rows = dataset.rows().find_map(Result::err).unwrap();
    for error in [of_rows, dataset.names().unwrap_err()] {
        assert!(error.to_string().starts_with(&format!("shard {}: ", shard.display())), "{error}");
    }
}

/// The one file of an unfinished chunk, with its length.
fn unfinished(folder: &Path) -> Option<u64> {
    let mut files = folder.join("data").read_dir().unwrap().map(Result::unwrap);
    let file = files.find(|file| file.file_name().to_string_lossy().ends_with(".part"))?;
    Some(file.metadata().unwrap().len())
}

#[test]
fn rows_of_a_chunk_go_to_its_file_as_they_come() {
    const MIB: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(folder.path()).unwrap();
    let writer = OutputWriter::open(&place, "outputs", 1).unwrap();
    let mut chunk = writer.chunk(0).unwrap();
    // Images are stored as they are, and each is another one.
    let large = |number: u64| {
        let mut state = number;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        });
        OutputRow { output: noise.flatten().take(8 * MIB).collect(), ..row(number) }
    };
    for number in 0..20 {
        chunk.push(large(number)).unwrap();
        let written = unfinished(folder.path()).unwrap() as usize;
        let held = 8 * MIB * (number as usize + 1) - written.min(8 * MIB * (number as usize + 1));
        assert!(held <= 88 * MIB, "{number}: {held} bytes in memory");
    }
    drop(chunk);
    assert_eq!(unfinished(folder.path()), None);
    assert!(!writer.has_chunk(0).unwrap());
    let mut chunk = writer.chunk(0).unwrap();
    (0..3).for_each(|number| chunk.push(large(number)).unwrap());
    assert_eq!(chunk.finish().unwrap().rows, 3);
    assert_eq!(unfinished(folder.path()), None);
    writer.finish(serde_json::Value::Null).unwrap();
    let dataset = OutputDataset::open(&place).unwrap();
    assert!(dataset.rows().map(Result::unwrap).eq((0..3).map(large)));
}

#[test]
fn outputs_open_in_pyarrow() {
    let Some(python) = python(&["pyarrow"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::folder(folder.path()).unwrap();
    let writer = OutputWriter::open(&place, "outputs", 1).unwrap();
    writer.write_chunk(0, &[row(0), row(1)]).unwrap();
    let script = r#"
import json, sys
import pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
for name in ["source", "mask", "output", "reference"]:
    assert features[name] == {"_type": "Image"}
    assert all(row[name]["bytes"].startswith(b"\x89PNG") for row in table.to_pylist())
assert table.column("seed").to_pylist() == [2**64 - 1, 2**64 - 2]
"#;
    let shard = folder.path().join("data/outputs-00000-of-00001.parquet");
    run_ok(Command::new(python).args(["-c", script]).arg(shard));
}
