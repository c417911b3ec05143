//! Pilots in a real Slurm: submitted, preempted, out of time, cancelled, and unable to work.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use testkit::{House, Slurm, until};

/// A script that says it is there and stays until it is asked to stop, then ends with status 75.
const STAYS: &str = r#"trap 'exit 75' TERM USR1
echo $$ >> "$HOUSE/started"
while :; do sleep 0.05; done"#;

/// Queues a job that a script in the place of `pipeline` does.
fn queue(house: &House, name: &str, options: &[&str]) {
    let mut arguments = vec!["submit", "ingest", "--name", name];
    arguments.extend(options);
    arguments.extend(["--", "photographs", "--out", "data"]);
    house.ok("scheduler", &arguments);
}

/// Submits pilots and gives the number of their job.
fn submit(house: &House, options: &[&str]) -> String {
    let mut arguments = vec!["slurm", "--submit", "--json"];
    arguments.extend(options);
    house.json("scheduler", &arguments)["submitted"]["job"].to_string()
}

fn started(house: &House) -> usize {
    house.read("started").lines().count()
}

fn state(house: &House, job: &str) -> String {
    house.json("scheduler", &["show", job, "--json"])["job"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn pilots_do_what_they_can_and_say_where_they_are() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    house.script("pipeline", "exit 0");
    for name in ["anywhere", "here"] {
        queue(&house, name, if name == "here" { &["--label", "partition=low"] } else { &[] });
    }
    queue(&house, "elsewhere", &["--label", "partition=high"]);
    let output = house.path("out of %A_%a.txt");
    let output = output.to_str().unwrap();
    let array = submit(&house, &["--partition", "low", "--array", "2", "--output", output]);
    for task in 1..=2 {
        slurm.wait(&house, &format!("{array}_{task}"), "COMPLETED");
    }
    let said = house.read(&format!("out of {array}_1.txt"));
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(
        ["anywhere", "here", "elsewhere"].map(|job| state(&house, job)),
        ["succeeded", "succeeded", "queued"]
    );
    let workers = house.ok("scheduler", &["workers", "--all", "--json"]);
    for task in 1..=2 {
        assert!(workers.contains(&format!("\"slurm-job\": \"{array}_{task}\"")), "{workers}");
    }

    // Asked for by its partition, the last job finds its pilot.
    let pilot = submit(&house, &["--partition", "high"]);
    slurm.wait(&house, &pilot, "COMPLETED");
    assert_eq!(state(&house, "elsewhere"), "succeeded");
}
