//! Shards as others read them: pyarrow, Hugging Face `datasets`, DuckDB and Polars.

use std::path::Path;
use std::process::Command;

use crate::common::{python, run_ok, scenes_dataset};

/// Runs a script on the shards of a small dataset.
fn read_with(modules: &[&str], script: &str) {
    let Some(python) = python(modules) else { return };
    let folder = tempfile::tempdir().unwrap();
    let dataset = scenes_dataset(folder.path(), 60, 48);
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(Path::new(&dataset).join("data"));
    command.env("HF_HOME", folder.path()).env("HF_HUB_OFFLINE", "1");
    let said = run_ok(&mut command);
    assert_eq!(said.trim(), "60 rows are right");
}

#[test]
fn pyarrow_reads_shards() {
    read_with(
        &["pyarrow"],
        r#"
import glob, hashlib, json, sys
import pyarrow.parquet as pq
count = 0
for path in sorted(glob.glob(sys.argv[1] + "/*.parquet")):
    file = pq.ParquetFile(path)
    table = file.read()
    image = "struct<bytes: binary, path: string>"
    assert str(table.schema.field("image").type) == image, table.schema
    for schema in [table.schema, pq.read_schema(path), pq.read_table(path).schema]:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"} and features["label"]["names"] == ["a", "b"]
    for row in table.to_pylist():
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["sha256"]
        assert row["key"].split("/")[0] == features["label"]["names"][row["label"]]
        assert row["orientation"] == 1 and row["source_sha256"] == ""
        count += 1
    column = file.metadata.row_group(0).column(0)
    assert column.compression == "UNCOMPRESSED" and not column.is_stats_set, column
    assert column.has_offset_index, column
print(count, "rows are right")
"#,
    );
}

#[test]
fn datasets_reads_shards_as_images_with_classes() {
    read_with(
        &["datasets", "PIL"],
        r#"
import sys
import datasets
from datasets import load_dataset
datasets.disable_progress_bars()
read = load_dataset("parquet", data_files=sys.argv[1] + "/*.parquet", split="train")
assert isinstance(read.features["image"], datasets.Image), read.features
assert read.features["label"].names == ["a", "b"], read.features
for row in read:
    assert row["image"].size == (row["width"], row["height"]) == (48, 48)
    assert row["key"].startswith(read.features["label"].int2str(row["label"]))
print(len(read), "rows are right")
"#,
    );
}

#[test]
fn duckdb_reads_shards() {
    read_with(
        &["duckdb"],
        r#"
import sys, hashlib
import duckdb
rows = duckdb.sql(
    f"select image.bytes, sha256, key, label, width from read_parquet('{sys.argv[1]}/*.parquet')"
).fetchall()
for data, digest, key, label, width in rows:
    assert hashlib.sha256(data).hexdigest() == digest and key[0] == "ab"[label] and width == 48
print(len(rows), "rows are right")
"#,
    );
}

#[test]
fn polars_reads_shards() {
    read_with(
        &["polars"],
        r#"
import sys, hashlib
import polars
rows = polars.read_parquet(sys.argv[1] + "/*.parquet")
for row in rows.iter_rows(named=True):
    assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["sha256"]
    assert row["key"][0] == "ab"[row["label"]] and row["height"] == 48
print(len(rows), "rows are right")
"#,
    );
}
