//! How long checkpoints are kept: what the registry lets go is removed, nothing else is.

use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::house::{House, kill, wait_for};

#[test]
fn old_checkpoints_give_their_space_back() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("kept", 40);
    house.ok(
        "trainer",
        &[
            "run",
            &config,
            "--set",
            "train.checkpoint={ every = 4, initial = true, keep_last = 2, keep_every = 16 }",
        ],
    );
    let all = house.json("scheduler", &["checkpoints", "kept", "--json"]);
    let all = all.as_array().unwrap();
    let mut steps: Vec<u64> =
        all.iter().map(|checkpoint| checkpoint["step"].as_u64().unwrap()).collect();
    let best = all
        .iter()
        .filter_map(|checkpoint| {
            Some((checkpoint["metrics"]["loss"].as_f64()?, checkpoint["step"].as_u64()?))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap();
    for step in [0, 16, 32, 36, 40, best.1] {
        assert!(steps.contains(&step), "step {step} is gone: {steps:?}");
    }
    assert!(steps.len() <= 6, "too much is kept: {steps:?}");

    // On disk lies what the registry knows, and no more.
    let run = Path::new(all[0]["uri"].as_str().unwrap()).parent().unwrap();
    let mut folders: Vec<u64> = std::fs::read_dir(run)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().strip_prefix("step-")?.parse().ok()
        })
        .collect();
    folders.sort_unstable();
    steps.sort_unstable();
    assert_eq!(folders, steps);
}

/// `file://` was once taken for a folder of that name, whose addresses led nowhere.
#[test]
fn a_run_whose_place_is_a_file_address_goes_on_from_its_checkpoints() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("addressed", 20);
    let place = house.path("the weights");
    let address = format!("file://{}/", place.display().to_string().replace(' ', "%20"));
    let set = format!("train.checkpoint.place=\"{address}\"");
    house.ok("trainer", &["submit", &config, "--set", &set]);
    let mut worker = house.worker();
    let (stdout, stderr) = (worker.stdout.take().unwrap(), worker.stderr.take().unwrap());
    std::thread::spawn(move || BufReader::new(stdout).lines().count());
    let mut lines = BufReader::new(stderr).lines();
    let seen = wait_for(&mut lines, "step 15/");
    kill(&mut worker);
    assert!(seen);
    let mut worker = house.worker();
    let (stdout, stderr) = (worker.stdout.take().unwrap(), worker.stderr.take().unwrap());
    std::thread::spawn(move || BufReader::new(stdout).lines().count());
    let goes_on = wait_for(&mut BufReader::new(stderr).lines(), "going on from step ");
    worker.wait().unwrap();
    assert!(goes_on, "it began again");
    let all = house.json("scheduler", &["checkpoints", "addressed", "--json"]);
    let last = all.as_array().unwrap().last().unwrap();
    assert_eq!(last["step"], 20);
    let folder = Path::new(last["uri"].as_str().unwrap());
    assert!(folder.starts_with(&place) && folder.join("state.json").exists(), "{folder:?}");
    assert!(!house.path("file:").exists());
}

#[test]
fn runs_keep_their_checkpoints_where_they_are_told() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("elsewhere", 4);
    let place = house.path("weights");
    let set = format!("train.checkpoint.place=\"{}\"", place.display());
    house.ok("trainer", &["run", &config, "--set", &set]);
    let all = house.json("scheduler", &["checkpoints", "elsewhere", "--json"]);
    let uri = all[0]["uri"].as_str().unwrap();
    assert!(uri.starts_with(place.to_str().unwrap()), "{uri}");
    // Two runs of one name do not share a folder.
    house.ok("trainer", &["run", &config, "--set", &set]);
    assert_eq!(std::fs::read_dir(place).unwrap().count(), 2);
}
