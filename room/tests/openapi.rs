//! The API says what it is: its document is valid, and what it answers is as the document says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{ControlRoom, House, text};

/// What paths and queries ask for, in a house with a trained run and a sweep that waits; what only other work makes may
/// be refused.
fn values(house: &House, room: &ControlRoom) -> Value {
    let list = |command: &[&str]| house.json("scheduler", &[command, &["--json"][..]].concat());
    let run = list(&["runs", "--name", "trained", "--state", "succeeded"])[0].clone();
    let job = run.clone();
    let sweep = list(&["sweeps"])[0].clone();
    let both = list(&["runs", "--state", "queued"]);
    let both = format!("{},{}", both[0]["id"].as_str().unwrap(), both[1]["id"].as_str().unwrap());
    let nothing = "00000000-0000-0000-0000-000000000000";
    json!({
        "run": run["id"], "runs": run["id"], "id": run["id"], "job": job["id"], "a": run["id"], "b": run["id"],
        "metric": "loss", "metrics": "loss", "index": "0", "row": "0", "input": "0", "step": "5", "of": run["id"],
        "digest": room.json("/api/v1/datasets")[0]["digest"],
        "sha256": "0".repeat(64),
        "name": "nobody",
        "GET /api/v1/compare runs": both,
        "GET /api/v1/sweeps/{id} id": sweep["id"],
        "GET /api/v1/evaluations/{id} may refuse": "nothing was scored",
        "GET /api/v1/evaluations/{id}/pictures may refuse": "nothing was scored",
        "GET /api/v1/studies/{name} may refuse": "there is no study",
        "GET /api/v1/tries/{id} id": nothing,
        "GET /api/v1/tries/{id} may refuse": "no picture was tried",
        "GET /api/v1/tries/pictures/{sha256} may refuse": "no picture was tried",
        "GET /api/v1/samples/{job} may refuse": "it is no sampling job",
        "GET /api/v1/samples/{job}/{row} may refuse": "it is no sampling job",
        "GET /api/v1/pictures/input may refuse": "the run has no previews",
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
    let config = house.config("trained", 5);
    house.ok("trainer", &["submit", &config, "--sweep", "seed=1,2"]);
    let room = house.room(&[]);
    std::fs::write(house.path("values.json"), values(&house, &room).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.py");
    let mut command = Command::new(python);
    command.arg(script).arg(format!("http://{}", room.address)).arg(house.path("values.json"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
