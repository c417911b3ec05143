//! Sample jobs over datasets: many workers, any of which may die; what may be sampled, with which
//! weights; what is refused.

use std::path::PathBuf;
use std::process::Child;

use pipeline::output::{OutputDataset, OutputRow};
use serde_json::Value;

use crate::house::{House, kill};

/// A run with a checkpoint at step 5.
pub fn trained(house: &House) {
    house.dataset(12);
    let config = house.config("trained", 5);
    house.ok("trainer", &["submit", &config]);
    house.ok("scheduler", &["worker", "--drain"]);
}

/// The folder of that checkpoint.
pub fn checkpoint(house: &House) -> String {
    let all = house.json("scheduler", &["checkpoints", "trained", "--json"]);
    all.as_array().unwrap().last().unwrap()["uri"].as_str().unwrap().to_owned()
}

fn rows(house: &House, out: &str) -> Vec<OutputRow> {
    let outputs = OutputDataset::open(house.path(out).to_str().unwrap()).unwrap();
    outputs.rows().map(Result::unwrap).collect()
}

fn submit(house: &House, arguments: &[&str]) -> Value {
    house.json("sampler", &[&["submit", "--json"], arguments].concat())
}

fn worker(house: &House) -> Child {
    house.command("scheduler", &["worker", "--drain"]).spawn().unwrap()
}

/// Finished shards of a folder of outputs.
fn shards(house: &House, out: &str) -> usize {
    let entries = std::fs::read_dir(house.path(out).join("data")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "parquet")).count()
}

#[test]
fn no_output_is_lost_or_doubled_however_many_workers_die() {
    let house = House::new();
    trained(&house);
    let what = [
        "--run",
        "trained@5",
        "--dataset",
        "data",
        "--task",
        "colorization",
        "--task",
        "inpainting:center",
        "--samples",
        "2",
        "--steps",
        "25",
    ];
    submit(&house, &[&what[..], &["--batch", "1", "--out", "alone"]].concat());
    house.ok("scheduler", &["worker", "--drain"]);
    let wanted = rows(&house, "alone");
    assert_eq!(wanted.len(), 12 * 2 * 2);

    let shared = ["--batch", "5", "--workers", "3", "--chunk", "1", "--out", "shared"];
    let queued = submit(&house, &[&what[..], &["--attempts", "50"], &shared].concat());
    assert_eq!((&queued["images"], &queued["chunks"]), (&Value::from(12), &Value::from(12)));
    let mut workers = [worker(&house), worker(&house), worker(&house)];
    for number in 0..4 {
        // One dies in the midst of a chunk whenever another is done.
        let before = shards(&house, "shared");
        let victim = &mut workers[number % 3];
        while shards(&house, "shared") == before && victim.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        kill(victim);
        *victim = worker(&house);
    }
    for mut worker in workers {
        worker.wait().unwrap();
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(shards(&house, "shared"), 12);
    let all = std::fs::read_dir(house.path("shared").join("data")).unwrap().count();
    assert_eq!(all, 12, "what the dead left is gone");
    let made = rows(&house, "shared");
    let names = |rows: &[OutputRow]| -> Vec<(String, String, u32)> {
        rows.iter().map(|row| (row.key.clone(), row.task.to_string(), row.sample)).collect()
    };
    assert_eq!(names(&made), names(&wanted));
    assert!(made == wanted, "the same outputs, but not the same bits");

    let jobs = house.json("scheduler", &["jobs", "--kind", "sample", "--json"]);
    let states: Vec<&Value> = jobs.as_array().unwrap().iter().map(|job| &job["state"]).collect();
    assert_eq!(states.len(), 1 + 3);
    assert!(states.iter().all(|state| **state == "succeeded"), "{jobs}");
}

#[test]
fn a_folder_of_pictures_a_list_and_a_range_with_the_weights_of_a_folder() {
    let house = House::new();
    trained(&house);
    let checkpoint = checkpoint(&house);
    let mut names: Vec<PathBuf> = std::fs::read_dir(house.path("scenes"))
        .unwrap()
        .flat_map(|class| walk(class.unwrap().path()))
        .collect();
    names.sort();
    let name = |number: usize| names[number].file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::write(house.path("list.txt"), format!("{}\n{}\n{}\n", name(4), name(2), name(7)))
        .unwrap();
    let common =
        ["--checkpoint", &checkpoint, "--task", "jpeg:10", "--process", "ddim", "--steps", "2"];
    let with = |more: &[&str]| submit(&house, &[&common[..], more].concat());
    with(&["--dataset", "scenes", "--out", "folder"]);
    with(&["--dataset", "data", "--list", "list.txt", "--out", "list"]);
    with(&["--dataset", "scenes", "--list", "list.txt", "--rows", "1..3", "--out", "both"]);
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(rows(&house, "folder").len(), 12);
    let file = |row: &OutputRow| row.key.rsplit('/').next().unwrap().to_owned();
    let listed: Vec<String> = rows(&house, "list").iter().map(file).collect();
    assert_eq!(listed, [name(4), name(2), name(7)]);
    let both: Vec<String> = rows(&house, "both").iter().map(file).collect();
    assert_eq!(both, [name(2), name(7)]);

    for (arguments, words) in [
        (vec!["--rows", "3..20"], vec!["--rows", "12"]),
        (vec!["--rows", "three"], vec!["FROM..TO"]),
        (vec!["--list", "none.txt"], vec!["none.txt"]),
        (vec!["--task", "uncropping:right-half"], vec!["was trained for", "uncropping"]),
        (vec!["--process", "euler"], vec!["'euler' for '--process", "dpmpp-2m-sde"]),
    ] {
        let base = ["submit", "--dataset", "data", "--out", "refused", "--checkpoint", &checkpoint];
        let mut all = base.to_vec();
        if !arguments.contains(&"--task") {
            all.extend(["--task", "jpeg:10"]);
        }
        all.extend(&arguments);
        let output = house.run("sampler", &all);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{arguments:?}: `{word}` is not in: {stderr}");
        }
    }
}

fn walk(path: PathBuf) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path];
    }
    std::fs::read_dir(path).unwrap().flat_map(|entry| walk(entry.unwrap().path())).collect()
}

/// The reason that the only failed job gives.
fn reason(house: &House, job: &Value) -> String {
    let shown = house.json("scheduler", &["show", job["job"].as_str().unwrap(), "--json"]);
    assert_eq!(shown["job"]["state"], "failed", "{shown}");
    shown["job"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn what_changed_since_a_job_was_queued_is_said_and_nothing_is_made() {
    let house = House::new();
    trained(&house);
    let checkpoint = checkpoint(&house);
    let base = ["--task", "inpainting:center", "--steps", "2", "--process", "ddim"];
    let with = |more: &[&str]| submit(&house, &[&base[..], more].concat());
    house.ok("pipeline", &["cut", "data", "--rows", "0..6", "--out", "cut"]);
    let changed = with(&["--run", "trained@5", "--dataset", "cut", "--out", "changed"]);
    let digest = with(&["--checkpoint", &checkpoint, "--dataset", "data", "--out", "digest"]);
    // Masks are read when they are wanted: one of them marks nothing.
    std::fs::create_dir(house.path("masks")).unwrap();
    let empty = image::GrayImage::new(32, 32);
    empty.save(house.path("masks").join("nothing.png")).unwrap();
    let masks = house.path("masks").join("nothing.png");
    let mask = with(&[
        "--run",
        "trained@0",
        "--dataset",
        "data",
        "--out",
        "mask",
        "--masks",
        masks.to_str().unwrap(),
    ]);
    house.ok("pipeline", &["cut", "data", "--rows", "3..9", "--out", "cut", "--overwrite"]);
    let state = PathBuf::from(&checkpoint).join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(
        &state,
        text.replace("\"seed\": 5", "\"seed\": 6").replace("\"seed\":5", "\"seed\":6"),
    )
    .unwrap();
    assert_ne!(std::fs::read_to_string(&state).unwrap(), text);
    let drained = house.run("scheduler", &["worker", "--drain"]);
    assert!(String::from_utf8_lossy(&drained.stderr).contains("3 of 3 jobs failed"));

    let reasons = [reason(&house, &changed), reason(&house, &digest), reason(&house, &mask)];
    assert!(reasons[0].contains("cut has changed since the job was queued"), "{}", reasons[0]);
    assert!(reasons[1].contains("is not the checkpoint that it was"), "{}", reasons[1]);
    assert!(reasons[2].contains("marks nothing"), "{}", reasons[2]);
    for out in ["changed", "digest", "mask"] {
        assert_eq!(shards(&house, out), 0);
    }
}
