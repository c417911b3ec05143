//! The main job as a user does it.

use std::path::Path;

use serde_json::Value;

use testkit::House;

#[test]
fn from_photographs_to_a_table() {
    let house = House::new();
    house.dataset(24);
    let config = house.config("whole", 10);
    house.ok("trainer", &["submit", &config]);
    for step in ["0", "latest"] {
        let run = format!("whole@{step}");
        let out = format!("outputs-{step}");
        house.ok(
            "sampler",
            &[
                "submit",
                "--run",
                &run,
                "--dataset",
                "data",
                "--count",
                "3",
                "--samples",
                "2",
                "--task",
                "colorization",
                "--task",
                "inpainting:center",
                "--process",
                "ddim",
                "--steps",
                "3",
                "--chunk",
                "2",
                "--out",
                &out,
                "--png",
            ],
        );
    }
    house.ok("scheduler", &["worker", "--drain"]);

    for out in ["outputs-0", "outputs-latest"] {
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(house.path(out).join("manifest.json")).unwrap())
                .unwrap();
        assert_eq!(manifest["rows"], 3 * 2 * 2);
        assert_eq!(house.files(&format!("{out}/png")).len(), 12);
        assert!(house.path(out).join("sheet.png").exists());
        let scores = house.json("evaluator", &["run", "--outputs", out, "--json"]);
        assert_eq!(scores["tasks"]["inpainting:center"]["outputs"], 6);
        // The untrained network answers 0 whatever the noise; the trained one's samples differ.
        let diversity = scores["tasks"]["colorization"]["diversity"].as_f64().unwrap();
        assert_eq!(diversity > 0.0, out == "outputs-latest", "{scores}");
    }
    // The files of a task's first samples, by the names of the photographs.
    let scores = house.json(
        "evaluator",
        &["run", "--outputs", "outputs-latest/png/colorization/0", "--reference", "data", "--json"],
    );
    assert_eq!(scores["tasks"]["pictures"]["outputs"], 3, "{scores}");
    assert_eq!(scores["matching"]["surplus"], 0, "{scores}");
    let table = house.json("evaluator", &["table", "--run", "whole", "--json"]);
    let rows = table.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["steps"], 10);
        for key in ["loss_at_start", "loss_at_end", "untrained_error", "trained_error"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{key} in {row}");
        }
    }
    let jobs = house.json("scheduler", &["jobs", "--json"]);
    assert!(jobs.as_array().unwrap().iter().all(|job| job["state"] == "succeeded"), "{jobs}");
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_queued() {
    let house = House::new();
    house.dataset(4);
    let config = house.config("wrong", 10);
    let cases = [
        ("train.stepz=3", vec!["wrong.toml", "train", "stepz", "steps"]),
        ("train.steps=\"many\"", vec!["wrong.toml", "train.steps", "many"]),
        ("train.steps=0", vec!["wrong.toml", "train.steps", "at least 1"]),
        ("model.attention=[12]", vec!["wrong.toml", "model.attention", "12", "16", "8"]),
        ("data.tasks={ color = 1 }", vec!["wrong.toml", "data.tasks", "color", "colorization"]),
        ("data.image_size=17", vec!["wrong.toml", "data.image_size", "17"]),
        ("data.datasets=[{ uri = \"nowhere\" }]", vec!["nowhere"]),
    ];
    for (set, words) in cases {
        let output = house.run("trainer", &["submit", &config, "--set", set]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{set}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{set}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{set}: `{word}` is not in: {stderr}");
        }
    }
    let jobs = house.json("scheduler", &["jobs", "--json"]);
    assert_eq!(jobs, Value::Array(Vec::new()));
}

#[test]
fn a_database_of_ones_own_is_used_and_no_private_one_started() {
    let server = House::new();
    server.ok("scheduler", &["up"]);
    let url = server.ok("scheduler", &["url"]);
    let house = House::new();
    house.dataset(8);
    let config = house.config("elsewhere", 2);
    let on_server = |program: &str, arguments: &[&str]| {
        let output =
            house.command(program, arguments).env("DATABASE_URL", url.trim()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    on_server("trainer", &["submit", &config]);
    on_server("scheduler", &["worker", "--drain"]);
    assert!(!house.path("home/postgres").exists(), "a private server was made");
    let runs = server.json("scheduler", &["runs", "--json"]);
    assert_eq!(runs[0]["name"], "elsewhere");
    assert_eq!(runs[0]["state"], "succeeded");
    assert_eq!(runs[0]["last_step"], 2);
}

#[test]
fn the_same_key_is_the_same_run() {
    let house = House::new();
    house.dataset(4);
    let config = house.config("once", 2);
    let first = house.json("trainer", &["submit", &config, "--key", "k", "--json"]);
    let second = house.json("trainer", &["submit", &config, "--key", "k", "--json"]);
    assert_eq!((&first["run"], &second["existed"]), (&second["run"], &Value::Bool(true)));

    // Since then it was given another name and more steps: what was asked for is the same.
    let run = first["run"].as_str().unwrap();
    house.ok("scheduler", &["rename", run, "other"]);
    let third = house.json("trainer", &["submit", &config, "--key", "k", "--json"]);
    assert_eq!(third["run"], first["run"]);
    let more = ["submit", &config, "--key", "k", "--set", "train.steps=9"];
    let said = house.fails(2, "trainer", &more);
    assert!(said.contains("config.train.steps: 2 there, 9 here"), "{said}");
    assert!(said.contains(&format!("that of job {run}")), "{said}");
    assert!(said.contains("choose another --key"), "{said}");
}

#[test]
fn the_same_key_is_the_same_sweep() {
    let house = House::new();
    house.dataset(4);
    let config = house.config("grid", 2);
    let submit = |more: &[&'static str]| {
        [&["submit", &config, "--key", "g", "--seeds", "2", "--sweep"], more].concat()
    };
    let first = house.ok("trainer", &submit(&["train.learning_rate=1e-3,1e-4"]));
    assert!(first.contains("of 4 runs submitted"), "{first}");
    let again = house.ok("trainer", &submit(&["train.learning_rate=1e-3,1e-4"]));
    assert!(again.contains("of 4 runs was submitted before"), "{again}");
    for (more, says) in [
        (&["train.learning_rate=1e-5,1e-6"][..], "points[0].\"train.learning_rate\": 0.001 there"),
        (
            &["train.learning_rate=1e-3,1e-4", "--set", "name=x"],
            "config.name: \"grid\" there, \"x\" here",
        ),
        (&["train.learning_rate=1e-3,1e-4", "--at-most", "1"], "at_most: null there, 1 here"),
    ] {
        let said = house.fails(2, "trainer", &submit(more));
        assert!(said.contains(says), "{says}: {said}");
    }
    let said = house.fails(2, "trainer", &["submit", &config, "--key", "g"]);
    assert!(said.contains("the submit key `g` is that of sweep "), "{said}");
}

#[test]
fn sweeps_of_equal_runs_or_of_values_that_are_lost_are_refused() {
    let house = House::new();
    house.dataset(4);
    let config = house.config("grid", 2);
    for (arguments, says) in [
        (&["--sweep", "name=a,b"][..], "--set name=NAME"),
        (&["--sweep", "seed=1,1"], "the value 1 is there twice"),
        (&["--sweep", "train.learning_rate=1,1.0"], "make the same run"),
        (&["--sweep", "train.steps=5", "--set", "train.steps=9"], "set by `train.steps=9`"),
        (&["--sweep", "train.steps=5", "--set", "train={steps=9}"], "set by `train={steps=9}`"),
        (
            &["--sweep", "data.datasets=[{uri=\"data\"}]", "--dataset", "data"],
            "set by `data.datasets=",
        ),
        (&["--sweep", "seed=1,2", "--seeds", "2"], "swept twice"),
    ] {
        let all = [&["submit", &config], arguments].concat();
        let said = testkit::failed(&mut house.command("trainer", &all), 2);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    // Seeds count from the one that is set.
    house.ok("trainer", &["submit", &config, "--seeds", "2", "--set", "seed=5"]);
    let runs = house.json("scheduler", &["runs", "--json"]);
    assert_eq!(runs.as_array().unwrap().len(), 2, "nothing else was queued: {runs}");
}

#[test]
fn check_tells_the_size_of_the_papers_network() {
    let house = House::new();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/paper/colorization.toml");
    let meaning = house.json("trainer", &["check", config, "--json"]);
    assert_eq!(meaning["network"]["parameters"], 552_814_083);
    assert_eq!(meaning["network"]["tensors"], 566);
    assert_eq!(meaning["network"]["attention_at"], serde_json::json!([32, 16, 8]));
    assert!((meaning["gmac"].as_f64().unwrap() - 1119.8).abs() < 0.05, "{meaning}");
    assert_eq!(meaning["images_seen"], 1_024_000_000);
}

#[test]
fn check_says_what_a_rank_takes_and_refuses_what_ranks_cannot_divide() {
    let house = House::new();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/paper/colorization.toml");
    let check =
        |more: &[&str]| house.json("trainer", &[&["check", config, "--json"][..], more].concat());
    let number = |meaning: &serde_json::Value, key: &str| meaning[key].as_u64().unwrap();
    let (alone, eight) = (check(&[]), check(&["--ranks", "8"]));
    assert_eq!((number(&alone, "ranks"), number(&eight, "ranks")), (1, 8));
    assert_eq!(number(&alone, "sharding_saves_bytes"), 0);
    let sharded = check(&["--ranks", "8", "--set", "train.shard_optimizer=true"]);
    let saved = number(&sharded, "sharding_saves_bytes");
    // 7/8 of 12 bytes for each of 552.8 million weights, less at most the largest tensor.
    assert!((5_500_000_000..5_810_000_000).contains(&saved), "{saved}");
    assert_eq!(number(&sharded, "training_bytes") + saved, number(&eight, "training_bytes"));
    // Four shares of a rank are added up in three buffers; a share is what goes through at once.
    let shares = check(&["--ranks", "8", "--set", "train.shares=32"]);
    let gradients = |meaning: &serde_json::Value| meaning["memory"]["gradients"].as_u64().unwrap();
    assert!((2.99..3.01).contains(&(gradients(&shares) as f64 / gradients(&eight) as f64)));
    let shares = check(&["--ranks", "64", "--set", "train.shares=512"]);
    assert_eq!(number(&shares, "micro_batch"), 2);
    let fits = shares["fits"].as_array().unwrap().iter().map(|fit| number(fit, "micro_batch"));
    assert_eq!(fits.max(), Some(2), "{shares}");

    let said = house.ok("trainer", &["check", config, "--ranks", "8"]);
    for words in
        ["of each rank", "128 for each of 8 ranks", "train.shard_optimizer = true would save"]
    {
        assert!(said.contains(words), "`{words}` is not in {said}");
    }
    for (more, words) in [
        (["--ranks", "1025", "--set", "seed=1"], "1025 ranks and train.batch_size = 1024"),
        (["--ranks", "3", "--set", "train.shares=4"], "the number of ranks must divide the shares"),
    ] {
        let said = house.fails(2, "trainer", &[&["check", config][..], &more].concat());
        assert!(said.contains(words), "{said}");
    }
}

/// As the README says: one GPU of 80 GB, a batch of 1024 by adding up gradients, nothing recomputed.
#[test]
fn the_papers_configurations_fit_one_gpu_of_80_gigabytes() {
    let house = House::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/paper");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meaning = house.json("trainer", &["check", path.to_str().unwrap(), "--json"]);
        let (memory, name) = (&meaning["memory"], &meaning["name"]);
        assert_eq!((&meaning["precision"], &meaning["device"]), (&"bf16".into(), &"cuda".into()));
        assert_eq!((&meaning["batch_size"], &meaning["micro_batch"]), (&1024.into(), &16.into()));
        let card = |gigabytes: u64| {
            let cards = meaning["cards"].as_array().unwrap();
            cards.iter().find(|card| card["gigabytes"] == gigabytes).unwrap()["fits"] == true
        };
        assert!(card(80) && !card(40), "{name}: {meaning}");
        // The parts are all there is.
        let parts = memory.as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap());
        assert_eq!(meaning["training_bytes"], parts.sum::<u64>(), "{name}");
        // What fits is what the table of GPUs says of bf16 without recomputation.
        let fits = meaning["fits"].as_array().unwrap().iter();
        let largest = fits
            .filter(|fit| fit["gigabytes"] == 80 && fit["precision"] == "bf16")
            .find(|fit| fit["recompute"] == false)
            .unwrap();
        assert!(largest["micro_batch"].as_u64().unwrap() >= 16, "{largest}");
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn every_configuration_is_valid() {
    let house = House::new();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut checked = 0;
    for folder in [configs.clone(), configs.join("paper"), configs.join("small")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                house.ok("trainer", &["check", path.to_str().unwrap()]);
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "{checked} configurations");
}
