//! The main job as a user does it: real programs, a real Postgres, real kills. The programs lie
//! beside each other in the target folder (`make test` builds them first).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A house of one's own: its database, runs and data end with the test.
struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("palette").tempdir_in("/tmp").unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let beside = Path::new(env!("CARGO_BIN_EXE_trainer")).with_file_name(program);
        assert!(beside.exists(), "{} is not built: run `make build`", beside.display());
        let mut command = Command::new(beside);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PALETTE_HOME", self.path("home"))
            .env("PALETTE_LEASE_SECONDS", "2")
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// Runs a command that must succeed and gives its standard output.
    fn ok(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, program: &str, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(program, arguments)).unwrap()
    }

    /// A dataset of small scenes.
    fn dataset(&self, count: u32) {
        self.ok(
            "pipeline",
            &["scenes", "--out", "scenes", "--count", &count.to_string(), "--size", "32"],
        );
        self.ok(
            "pipeline",
            &["ingest", "scenes", "--layout", "folder", "--name", "scenes", "--out", "data"],
        );
    }

    /// A configuration that trains in seconds.
    fn config(&self, name: &str, steps: u32) -> String {
        let text = format!(
            r#"
            name = "{name}"
            seed = 5
            [data]
            datasets = [{{ uri = "data" }}]
            image_size = 16
            crop = "random"
            flip = true
            tasks = {{ colorization = 1, inpainting = 1, jpeg = 1 }}
            threads = 2
            [model]
            model_channels = 32
            channel_mult = [1, 2]
            res_blocks = 1
            attention = [8]
            head_channels = 16
            noise_embedding = "log_snr"
            [diffusion]
            prediction = "y0"
            [train]
            steps = {steps}
            batch_size = 4
            learning_rate = 1e-3
            warmup_steps = 10
            ema = 0.9
            log_every = 5
            checkpoint = {{ every = 5, initial = true }}
            device = "cpu"
            threads = 1
            "#
        );
        let file = format!("{name}.toml");
        std::fs::write(self.path(&file), text).unwrap();
        file
    }

    fn worker(&self) -> Child {
        let mut worker = self.command("scheduler", &["worker", "--drain", "--follow"]);
        worker.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// sha256 of the files of a run's checkpoint.
    fn digests(&self, run: &str, step: u64) -> Value {
        let all = self.json("scheduler", &["checkpoints", run, "--json"]);
        let checkpoint = all
            .as_array()
            .unwrap()
            .iter()
            .find(|checkpoint| checkpoint["step"] == step)
            .unwrap_or_else(|| panic!("no step {step} in {all}"));
        let state = Path::new(checkpoint["uri"].as_str().unwrap()).join("state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        state["files"].clone()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.command("scheduler", &["down"]).output();
    }
}

/// Reads a worker's output until a line holds the text; false where the worker ends before.
fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> bool {
    lines.by_ref().map_while(Result::ok).any(|line| line.contains(text))
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

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
        assert_eq!(std::fs::read_dir(house.path(out).join("png")).unwrap().count(), 12);
        assert!(house.path(out).join("sheet.png").exists());
        let scores = house.json("evaluator", &["run", "--outputs", out, "--json"]);
        assert_eq!(scores["tasks"]["inpainting"]["outputs"], 6);
    }
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
fn a_killed_run_ends_with_the_bits_of_one_left_alone() {
    let house = House::new();
    house.dataset(16);
    let alone = house.config("alone", 30);
    house.ok("trainer", &["submit", &alone]);
    house.ok("scheduler", &["worker", "--drain"]);
    let wanted = house.digests("alone", 30);

    let killed = house.config("killed", 30);
    house.ok("trainer", &["submit", &killed]);
    for line in ["step 5/", "step 20/"] {
        let mut worker = house.worker();
        let stderr = worker.stderr.take().unwrap();
        let stdout = worker.stdout.take().unwrap();
        // Whichever of the two it follows on, the other must not fill up.
        let other = std::thread::spawn(move || BufReader::new(stdout).lines().count());
        let seen = wait_for(&mut BufReader::new(stderr).lines(), line);
        kill(&mut worker);
        other.join().unwrap();
        assert!(seen, "the worker never said `{line}`");
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("killed", 30), wanted);

    // What the killed attempts wrote past the resumed step is not shown twice.
    let series = house.json("scheduler", &["metrics", "killed", "--name", "loss", "--json"]);
    let steps: Vec<u64> =
        series.as_array().unwrap().iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 5, 10, 15, 20, 25, 30]);
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
