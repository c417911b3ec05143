//! Real programs, a real Postgres, real kills. The programs lie beside each other in the target folder
//! (`make test` builds them first).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A house of one's own: its database, runs and data end with the test.
pub struct House {
    folder: tempfile::TempDir,
    /// What its commands find in their environment besides.
    pub environment: Vec<(&'static str, String)>,
}

/// The device under test as `train.device` names it: that of `PALETTE_TEST_DEVICE`, else the CPU.
pub fn device() -> &'static str {
    let named = std::env::var("PALETTE_TEST_DEVICE").unwrap_or_default();
    if named.starts_with("cuda") { "cuda" } else { "cpu" }
}

/// Programs that are to run on the CPU see no GPU, also where there is one.
fn hidden() -> Option<(&'static str, &'static str)> {
    (device() == "cpu").then_some(("CUDA_VISIBLE_DEVICES", ""))
}

impl House {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("palette").tempdir_in("/tmp").unwrap();
        Self { folder, environment: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let beside = Path::new(env!("CARGO_BIN_EXE_trainer")).with_file_name(program);
        assert!(beside.exists(), "{} is not built: run `make build`", beside.display());
        let mut command = Command::new(beside);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PALETTE_HOME", self.path("home"))
            .env("PALETTE_LEASE_SECONDS", "2")
            .env("PALETTE_RETRY_SECONDS", "0")
            .env_remove("DATABASE_URL")
            .envs(hidden())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// A worker under a shell's conditions, at once again after a failure.
    pub fn shell(&self, script: &str) -> Child {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .current_dir(self.folder.path())
            .env("PALETTE_HOME", self.path("home"))
            .env("PALETTE_LEASE_SECONDS", "2")
            .env("PALETTE_RETRY_SECONDS", "0")
            .env_remove("DATABASE_URL")
            .envs(hidden())
            .stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// Runs a command that must succeed and gives its standard output.
    pub fn ok(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, program: &str, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(program, arguments)).unwrap()
    }

    /// A dataset of small scenes.
    pub fn dataset(&self, count: u32) {
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
    pub fn config(&self, name: &str, steps: u32) -> String {
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
            device = "{device}"
            deterministic = true
            threads = 1
            "#,
            device = device()
        );
        let file = format!("{name}.toml");
        std::fs::write(self.path(&file), text).unwrap();
        file
    }

    pub fn worker(&self) -> Child {
        let mut worker = self.command("scheduler", &["worker", "--drain", "--follow"]);
        worker.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// sha256 of the files of a run's checkpoint.
    pub fn digests(&self, run: &str, step: u64) -> Value {
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
pub fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> bool {
    lines.by_ref().map_while(Result::ok).any(|line| line.contains(text))
}

pub fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
