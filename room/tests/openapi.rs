//! The API says what it is: its document is valid, and what it answers is as the document says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{House, text};

/// What paths and queries ask for, in a house with one run and outputs of it.
fn values(house: &House) -> Value {
    let first = |command: &str| house.json("scheduler", &[command, "--json"])[0].clone();
    let (run, job) = (first("runs"), first("jobs"));
    json!({
        "run": run["id"], "runs": run["id"], "id": run["id"], "job": job["id"], "a": run["id"], "b": run["id"],
        "metric": "loss", "metrics": "loss", "name": "scenes", "dataset": "scenes", "index": "0", "row": "0",
        "step": "5", "GET /api/v1/tokens id": "x",
    })
}

#[test]
fn every_answer_is_as_the_document_says() {
    let Some(python) =
        testkit::python(&["openapi_schema_validator", "openapi_spec_validator", "pyarrow"])
    else {
        return;
    };
    let house = House::new();
    house.trained();
    std::fs::write(house.path("values.json"), values(&house).to_string()).unwrap();
    let room = house.room(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.py");
    let mut command = Command::new(python);
    command.arg(script).arg(format!("http://{}", room.address)).arg(house.path("values.json"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
