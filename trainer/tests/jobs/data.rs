//! A run goes on over the data that it began with, and over other data only where a user lets it.

use serde_json::Value;
use testkit::House;

/// Rows of `data` as the dataset `OUT`, in place of what was there.
fn cut(house: &House, rows: &str, out: &str) {
    house.ok("pipeline", &["cut", "data", "--rows", rows, "--out", out, "--overwrite"]);
}

fn submit(house: &House, name: &str, more: &[&str]) {
    let config = house.config(name, 40);
    let arguments = ["submit", &config, "--set", "train.checkpoint.every=5"];
    house.ok("trainer", &[&arguments, more].concat());
}

fn show(house: &House, run: &str) -> Value {
    house.json("scheduler", &["show", run, "--json"])["run"].clone()
}

/// Digest of a dataset's manifest.
fn digest(house: &House, dataset: &str) -> String {
    let info = house.json("pipeline", &["inspect", dataset, "--json"]);
    info["digest"].as_str().unwrap().to_owned()
}

/// Lets a worker fail at the only job there is, and gives the job's reason.
fn fails(house: &House, run: &str) -> String {
    assert_eq!(house.worker("fails", &["--drain"]).end(), Some(1));
    let job = house.json("scheduler", &["show", run, "--json"])["job"].clone();
    assert_eq!(job["state"], "failed", "{job}");
    // Wrong use is not tried again, though tries are left.
    assert!(job["attempts_used"].as_i64() < job["max_attempts"].as_i64(), "{job}");
    job["reason"].as_str().unwrap().to_owned()
}

fn finishes(house: &House, run: &str) {
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(show(house, run)["run"]["state"], "succeeded");
}

#[test]
fn a_run_does_not_go_on_over_other_data_unless_a_user_accepts_it() {
    let house = House::new();
    house.dataset(16);
    cut(&house, "0..8", "cut");
    let earlier = digest(&house, "cut");
    submit(&house, "run", &["--dataset", "cut"]);
    let mut worker = house.worker("worker", &["--drain", "--follow"]);
    worker.says("step 10/");
    worker.kill();

    cut(&house, "4..16", "cut");
    let later = digest(&house, "cut");
    assert_ne!(earlier, later);
    let reason = fails(&house, "run");
    for part in
        [&*earlier, &later, "(8 images, recorded ", "(12 images, written ", "--accept-changed-data"]
    {
        assert!(reason.contains(part), "no `{part}` in: {reason}");
    }
    // A retry alone changes nothing.
    house.ok("scheduler", &["retry", "run"]);
    assert_eq!(fails(&house, "run"), reason);
    assert_eq!(show(&house, "run")["data_changes"], serde_json::json!([]));

    house.ok("scheduler", &["retry", "run", "--accept-changed-data"]);
    finishes(&house, "run");
    let story = show(&house, "run");
    let [change] = story["data_changes"].as_array().unwrap().as_slice() else { panic!("{story}") };
    assert_eq!(
        (&change["before"], &change["after"]),
        (&earlier.clone().into(), &later.clone().into())
    );
    assert!(change["step"].as_i64().unwrap() >= 5, "{change}");
    assert_eq!(story["datasets"][0]["manifest_digest"], later);
    let told = house.ok("scheduler", &["show", "run"]);
    for part in [&*earlier, &later, "accepted by"] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

#[test]
fn data_that_changes_before_a_run_begins_is_refused_until_it_is_put_back() {
    let house = House::new();
    house.dataset(16);
    for name in ["cut", "held-out"] {
        cut(&house, "0..8", name);
    }
    let validation = "train.validation={ dataset = \"held-out\", images = 4, every = 10 }";
    submit(&house, "run", &["--dataset", "cut", "--set", validation]);
    let recorded = show(&house, "run")["datasets"].clone();
    assert_eq!(
        (&recorded[0]["role"], &recorded[1]["role"]),
        (&"train".into(), &"validation".into())
    );

    for name in ["held-out", "cut"] {
        cut(&house, "2..10", name);
        let reason = fails(&house, "run");
        let place = house.path(name);
        assert!(reason.contains(&format!("{} had the manifest", place.display())), "{reason}");
        assert!(reason.contains("was queued for"), "{reason}");
        cut(&house, "0..8", name);
        house.ok("scheduler", &["retry", "run"]);
    }
    finishes(&house, "run");
    assert_eq!(show(&house, "run")["data_changes"], serde_json::json!([]));
}

/// What the job before it makes is not there when it is queued, or is another by then.
#[test]
fn a_run_that_waits_for_its_data_records_it_when_it_begins() {
    let house = House::new();
    house.dataset(16);
    cut(&house, "0..8", "made");
    let ingest = ["--", "scenes", "--layout", "folder", "--out", "made", "--overwrite"];
    house.ok("scheduler", &[&["submit", "ingest", "--name", "making"], &ingest[..]].concat());
    submit(&house, "run", &["--dataset", "made", "--after", "making"]);
    assert_eq!(show(&house, "run")["datasets"], serde_json::json!([]));
    finishes(&house, "run");
    assert_eq!(show(&house, "run")["datasets"][0]["manifest_digest"], digest(&house, "made"));
}

#[test]
fn only_of_a_run_changed_data_can_be_accepted() {
    let house = House::new();
    let ingest =
        ["submit", "ingest", "--name", "wrong", "--attempts", "1", "--", "nothing", "--out", "out"];
    house.ok("scheduler", &ingest);
    house.worker("fails", &["--drain"]).end();
    let message = house.fails(2, "scheduler", &["retry", "wrong", "--accept-changed-data"]);
    assert!(message.contains("trains no run"), "{message}");
    let job = house.json("scheduler", &["show", "wrong", "--json"])["job"].clone();
    assert_eq!(job["state"], "failed");
}
