//! `pipeline masks`: what is stored is what the evaluation draws, once and for good.
#![allow(clippy::unwrap_used)]

mod common;

use pipeline::degrade::area;
use pipeline::masks::{MaskOptions, MaskSet};
use pipeline::{Dataset, Evaluation};

#[test]
fn stored_masks_are_those_drawn_on_the_fly() {
    let folder = tempfile::tempdir().unwrap();
    let uri = common::scenes_dataset(folder.path(), 20, 32);
    let sheet = folder.path().join("sheet.png");
    let mut command = common::pipeline();
    command
        .args(["masks", &uri, "--bin", "10-20", "--bin", "30-40", "--seed", "5", "--size", "32"]);
    let printed = common::run_ok(command.arg("--picture").arg(&sheet));
    assert!(printed.contains("20 masks in "), "{printed}");
    assert!(sheet.is_file());
    let dataset = Dataset::open(&common::place(&uri)).unwrap();
    for bin in ["10-20", "30-40"] {
        let path = format!("{uri}/masks/free-form-{bin}-seed-5-32.parquet");
        let set = MaskSet::open(&path, MaskOptions::default()).unwrap();
        let evaluation: Evaluation = format!("inpainting:free-form-{bin}").parse().unwrap();
        for row in 0..dataset.len() {
            let key = dataset.key(row).unwrap();
            let mask = set.mask(row, &key, 32, 32).unwrap();
            let drawn = evaluation.apply(&pipeline::scenes::scene(row, 32), 5, &key).unwrap().mask;
            assert!(mask == drawn, "{key}");
            let low = bin[..2].parse::<f64>().unwrap() / 100.0;
            assert!((low..low + 0.1).contains(&area(&mask)));
        }
        assert!(set.mask(0, "no such key", 32, 32).is_err());
    }
}

#[test]
fn storing_again_changes_nothing_and_other_masks_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let uri = common::scenes_dataset(folder.path(), 6, 32);
    let command = || {
        let mut command = common::pipeline();
        command.args(["masks", &uri, "--bin", "20-30", "--size", "32"]);
        command
    };
    common::run_ok(&mut command());
    let path = std::path::PathBuf::from(format!("{uri}/masks/free-form-20-30-seed-0-32.parquet"));
    let first = std::fs::read(&path).unwrap();
    common::run_ok(&mut command());
    assert!(std::fs::read(&path).unwrap() == first);
    std::fs::write(&path, b"a user's own").unwrap();
    let error = common::fails_with(&mut command(), 2);
    assert!(error.contains("holds other masks"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"a user's own");
    let files: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(files.len(), 1, "nothing unfinished is left");
    let mut wrong = common::pipeline();
    let wrong = common::fails_with(wrong.args(["masks", &uri, "--bin", "30-20"]), 2);
    assert!(
        wrong.contains("wanted is A-B in percent") || wrong.contains("invalid value"),
        "{wrong}"
    );
}

#[test]
fn stored_masks_open_in_pyarrow() {
    let Some(python) = common::python(&["pyarrow"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let uri = common::scenes_dataset(folder.path(), 4, 32);
    common::run_ok(common::pipeline().args(["masks", &uri, "--bin", "10-20", "--size", "32"]));
    let script = r#"
import json, sys
import pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
assert features["mask"] == {"_type": "Image"}
assert all(row["mask"]["bytes"].startswith(b"\x89PNG") for row in table.to_pylist())
assert all(0.1 <= area < 0.2 for area in table.column("area").to_pylist())
"#;
    let file = format!("{uri}/masks/free-form-10-20-seed-0-32.parquet");
    common::run_ok(std::process::Command::new(python).args(["-c", script, &file]));
}
