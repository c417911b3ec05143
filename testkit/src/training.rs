//! What a house trains on and with, so small that it takes seconds.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::House;
use crate::house::test_device;

impl House {
    /// Drawn photographs in the folder `scenes`, ingested as the dataset `data`.
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

    /// The file of a configuration that trains on `data` in seconds, with a checkpoint every five steps.
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
            device = test_device()
        );
        let file = format!("{name}.toml");
        std::fs::write(self.path(&file), text).unwrap();
        file
    }

    /// Trains a run `trained` of five steps on a dataset of twelve photographs; gives the address of its
    /// last checkpoint.
    pub fn trained(&self) -> String {
        self.dataset(12);
        let config = self.config("trained", 5);
        self.ok("trainer", &["submit", &config]);
        self.ok("scheduler", &["worker", "--drain"]);
        self.last_checkpoint("trained")
    }

    /// The address of a run's last checkpoint.
    pub fn last_checkpoint(&self, run: &str) -> String {
        let all = self.json("scheduler", &["checkpoints", run, "--json"]);
        all.as_array().unwrap().last().unwrap()["uri"].as_str().unwrap().to_owned()
    }

    /// Size and digest of the files of a run's checkpoint, by name.
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

    /// The files in a folder of the house and below it, sorted.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path(folder)];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(at).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}
