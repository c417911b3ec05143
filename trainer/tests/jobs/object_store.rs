//! A run whose checkpoints live in an object store: a real S3 server (moto) on loopback.

use testkit::House;
use testkit::s3::Server;

#[test]
fn a_run_in_an_object_store_is_killed_resumed_and_sampled() {
    let Some(server) = Server::start() else { return };
    let mut house = House::new();
    house.set(server.environment());
    house.dataset(8);
    let alone = house.config("alone", 20);
    house.ok("trainer", &["run", &alone]);

    let config = house.config("afar", 20);
    let place = "train.checkpoint={ every = 5, keep_last = 1, place = \"s3://laboratory/runs\" }";
    house.ok("trainer", &["submit", &config, "--set", place]);
    let mut worker = house.worker("worker", &["--drain", "--follow"]);
    worker.says("step 15/");
    worker.kill();
    // Another machine has nothing of what lay on the one that died.
    std::fs::remove_dir_all(house.path("home/jobs")).unwrap();
    house.ok("scheduler", &["worker", "--drain"]);

    let all = house.json("scheduler", &["checkpoints", "afar", "--json"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.last().unwrap()["step"], 20);
    let uri = all.last().unwrap()["uri"].as_str().unwrap();
    assert!(uri.starts_with("s3://laboratory/runs/"), "{uri}");
    let left = std::fs::read_dir(house.path("home/jobs")).unwrap().flatten();
    let left = left.flat_map(|job| std::fs::read_dir(job.path()).into_iter().flatten().flatten());
    for attempt in left {
        assert!(!attempt.path().join("checkpoints").exists(), "copies are left on this machine");
    }
    // The weights that come out are those of a run that stayed at home.
    let home = house.last_checkpoint("alone");
    for (checkpoint, file) in [(uri, "afar.safetensors"), (home.as_str(), "alone.safetensors")] {
        house.ok("trainer", &["export", "--checkpoint", checkpoint, "--out", file]);
    }
    // Behind the header, which has the name of the run.
    let tensors = |file| {
        let bytes = std::fs::read(house.path(file)).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(tensors("afar.safetensors") == tensors("alone.safetensors"));
    house.ok(
        "sampler",
        &[
            "submit",
            "--run",
            "afar",
            "--dataset",
            "data",
            "--count",
            "2",
            "--task",
            "colorization",
            "--process",
            "ddim",
            "--steps",
            "2",
            "--out",
            "s3://laboratory/outputs",
        ],
    );
    house.ok("scheduler", &["worker", "--drain"]);
    assert!(server.digests("outputs/").contains_key("sheet.png"));
}
