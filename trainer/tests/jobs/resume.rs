//! Killed at any moment, a run ends with the bits of one that was left alone: weights, averages, Adam's
//! moments.

use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::House;

/// Everything that a state can depend on: dropout, two averages, parts of a batch, clipping, checks on
/// the way.
const SETS: [&str; 6] = [
    "model.dropout=0.2",
    "train.ema=[0.9, 0.5]",
    "train.micro_batch=3",
    "train.clip=1",
    "train.validation={ dataset = \"data\", images = 4, every = 10 }",
    "train.preview={ images = 2, steps = 2, every = 10 }",
];

fn submit(house: &House, name: &str, steps: u32, every: u32) {
    let config = house.config(name, steps);
    let every = format!("train.checkpoint.every={every}");
    let mut arguments = vec!["submit", &config, "--attempts", "50", "--set", &every];
    for set in &SETS {
        arguments.extend(["--set", set]);
    }
    house.ok("trainer", &arguments);
}

/// Starts a worker and follows it until a line of its log says so; then it is killed.
fn killed_at(house: &House, line: &str) {
    let mut worker = house.worker("worker", &["--drain", "--follow"]);
    worker.says(line);
    worker.kill();
}

/// Folders of checkpoints that are half-written.
fn partial(house: &House) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(house.path("home/runs")).into_iter().flatten().flatten();
    runs.flat_map(|run| std::fs::read_dir(run.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".step-"))
        .collect()
}

#[test]
fn a_killed_run_ends_with_the_bits_of_one_left_alone() {
    let house = House::new();
    house.dataset(16);
    submit(&house, "alone", 40, 5);
    house.ok("scheduler", &["worker", "--drain"]);
    let wanted = house.digests("alone", 40);
    assert_eq!(wanted.as_object().unwrap().len(), 4, "two averages: {wanted}");

    submit(&house, "killed", 40, 5);
    // Before the first checkpoint, right behind one, at a validation, near the end.
    for line in ["step 1/", "step 5/", "step 20/40  validation", "step 35/"] {
        killed_at(&house, line);
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("killed", 40), wanted);

    // What the killed attempts wrote past the resumed step is not shown twice.
    let series = house.json("scheduler", &["metrics", "killed", "--name", "loss", "--json"]);
    let steps: Vec<u64> =
        series.as_array().unwrap().iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 5, 10, 15, 20, 25, 30, 35, 40]);
}

#[test]
fn a_run_killed_within_a_checkpoint_ends_with_the_same_bits() {
    let house = House::new();
    house.dataset(16);
    submit(&house, "alone", 60, 60);
    house.ok("scheduler", &["worker", "--drain"]);

    submit(&house, "killed", 60, 2);
    let mut caught = 0;
    while caught < 2 {
        let mut worker = house.worker("worker", &["--drain"]);
        // What an earlier kill left is swept away when the run goes on, so this is another one.
        let before = partial(&house);
        loop {
            let now = partial(&house);
            if now.iter().any(|path| !before.contains(path)) {
                break;
            }
            assert!(!worker.ended(), "no checkpoint was caught");
            std::thread::yield_now();
        }
        worker.kill();
        // It may have been finished in the last moment; then once more.
        caught += usize::from(!partial(&house).is_empty());
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("killed", 60), house.digests("alone", 60));
    assert_eq!(partial(&house), Vec::<PathBuf>::new());
}

/// A disk that takes no more: the attempt fails and says so, the checkpoint before is unharmed, and
/// the run goes on from it once there is room.
#[test]
fn a_full_disk_harms_no_checkpoint() {
    let house = House::new();
    house.dataset(16);
    submit(&house, "alone", 20, 5);
    house.ok("scheduler", &["worker", "--drain"]);
    submit(&house, "full", 20, 5);
    killed_at(&house, "step 5/");

    // No file may grow beyond 64 kB, and the signal that tells so is ignored: writing fails, as it
    // does on a full disk.
    let scheduler = testkit::program("scheduler");
    let line = format!(
        "trap '' XFSZ; ulimit -f 128; exec {} worker --drain --follow",
        scheduler.display()
    );
    let mut limited = house.start("limited", house.shell(&line));
    limited.says("File too large");
    limited.kill();

    let all = house.json("scheduler", &["checkpoints", "full", "--json"]);
    for checkpoint in all.as_array().unwrap() {
        let folder = Path::new(checkpoint["uri"].as_str().unwrap());
        let state: Value =
            serde_json::from_slice(&std::fs::read(folder.join("state.json")).unwrap()).unwrap();
        for (file, identity) in state["files"].as_object().unwrap() {
            let bytes = std::fs::metadata(folder.join(file)).unwrap().len();
            assert_eq!(identity["bytes"], bytes, "{file} of {}", folder.display());
        }
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("full", 20), house.digests("alone", 20));
}

#[test]
fn a_run_of_another_noise_generator_is_not_gone_on_with() {
    let house = House::new();
    house.dataset(16);
    submit(&house, "old", 40, 5);
    killed_at(&house, "step 10/");
    // The newest checkpoint, as versions wrote it that did not record a generation.
    let file = Path::new(&house.last_checkpoint("old")).join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("noise").is_some());
    let written = state.to_string();
    std::fs::write(&file, &written).unwrap();
    house.sql(&format!(
        "update checkpoints set digest = encode(sha256(convert_to($${written}$$, 'UTF8')), 'hex')
         where uri = '{}'",
        file.parent().unwrap().display()
    ));

    assert_eq!(house.worker("second", &["--drain"]).end(), Some(1));
    let shown = house.json("scheduler", &["show", "old", "--json"]);
    let (job, attempts) = (&shown["job"], shown["attempts"].as_array().unwrap());
    assert_eq!(
        (&job["state"], &attempts.last().unwrap()["exit_status"]),
        (&"failed".into(), &2.into())
    );
    assert_eq!(attempts.len(), 2, "it is not tried again: {shown}");
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.contains("another noise generator") && reason.contains("train.init"),
        "{reason}"
    );
}

/// A checkpoint of a run.
fn checkpoint(house: &House, run: &str, step: u64) -> PathBuf {
    let all = house.json("scheduler", &["checkpoints", run, "--json"]);
    let one = all.as_array().unwrap().iter().find(|checkpoint| checkpoint["step"] == step).unwrap();
    PathBuf::from(one["uri"].as_str().unwrap())
}

fn steps(house: &House, run: &str) -> Vec<u64> {
    let all = house.json("scheduler", &["checkpoints", run, "--json"]);
    all.as_array().unwrap().iter().map(|checkpoint| checkpoint["step"].as_u64().unwrap()).collect()
}

/// A byte of the newest checkpoint falls over: the run goes on from the one before, says so, and ends with the
/// same bits.
#[test]
fn a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken() {
    let house = House::new();
    house.dataset(16);
    submit(&house, "alone", 40, 5);
    house.ok("scheduler", &["worker", "--drain"]);
    submit(&house, "damaged", 40, 5);
    killed_at(&house, "step 20/");
    let newest = *steps(&house, "damaged").last().unwrap();
    let file = checkpoint(&house, "damaged", newest).join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut worker = house.worker("second", &["--drain", "--follow"]);
    worker.says(&format!("the checkpoint of step {newest} cannot be used and is set aside"));
    worker.says(&format!("going on from step {}", newest - 5));
    assert_eq!(worker.end(), Some(0));
    assert_eq!(house.digests("damaged", 40), house.digests("alone", 40));
    // It was written anew on the way.
    assert!(steps(&house, "damaged").contains(&newest));
}

/// Where none is sound nothing is thrown away unasked.
#[test]
fn a_run_without_a_sound_checkpoint_ends_and_may_be_taken_back() {
    let house = House::new();
    house.dataset(16);
    submit(&house, "alone", 20, 5);
    house.ok("scheduler", &["worker", "--drain"]);
    submit(&house, "gone", 20, 5);
    killed_at(&house, "step 10/");
    for step in steps(&house, "gone") {
        std::fs::remove_dir_all(checkpoint(&house, "gone", step)).unwrap();
    }
    house.ok("scheduler", &["cancel", "gone", "--force"]);
    house.ok("scheduler", &["retry", "gone"]);
    let mut worker = house.worker("second", &["--drain", "--follow"]);
    worker.says("cannot be used, and none of the ");
    worker.kill();
    house.ok("scheduler", &["cancel", "gone", "--force"]);
    let message = house.fails(2, "scheduler", &["retry", "gone", "--from", "3"]);
    assert!(message.contains("there is no checkpoint of step 3; there are: 0, 5"), "{message}");
    house.ok("scheduler", &["retry", "gone", "--from", "0"]);
    let listed = house.ok("scheduler", &["checkpoints", "gone"]);
    assert!(listed.contains("set aside") && listed.contains(": 0, 5"), "{listed}");
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("gone", 20), house.digests("alone", 20));
}
