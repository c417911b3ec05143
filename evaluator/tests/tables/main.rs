//! The shipped tables as their users have them: the real program, a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The root of the repository: paths of the shipped profile begin there.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A database of its own, which ends with the test.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("palette").tempdir_in("/tmp").unwrap())
    }

    fn evaluator(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_evaluator"))
            .args(arguments)
            .current_dir(root())
            .env("PALETTE_HOME", self.0.path())
            .env_remove("DATABASE_URL")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Ok(home) = home::Home::at(self.0.path()) {
            let _ = home::private::Server::new(&home).stop();
        }
    }
}

/// The shipped tables, as seen from the root.
fn tables() -> Vec<String> {
    let files = std::fs::read_dir(root().join("configs/evaluation")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let tables: Vec<String> = names
        .filter(|name| name.ends_with(".toml"))
        .map(|name| format!("configs/evaluation/{name}"))
        .collect();
    assert_eq!(tables.len(), 11);
    tables
}

const PROFILE: &str = "configs/evaluation/profiles/paper.toml";
const LACK: &str = "the extractor configs/evaluation/extractors/resnet-50.toml is missing";

#[test]
fn the_shipped_profile_prints_every_shipped_table_and_says_what_it_lacks() {
    let home = Home::new();
    for table in tables() {
        let text = home.evaluator(&["table", &table, "--profile", PROFILE]);
        assert!(text.contains(" paper "), "{text}");
        assert!(text.contains(LACK), "{table}: {text}");
    }
    let table = "configs/evaluation/table-1.toml";
    let filled = home.evaluator(&["table", table, "--profile", PROFILE, "--json"]);
    let filled: Value = serde_json::from_str(&filled).unwrap();
    let lines = filled[0]["lines"].as_array().unwrap();
    let palette = lines.iter().find(|line| line["system"] == "Palette").unwrap();
    let cell = &palette["cells"][""];
    assert_eq!(cell["paper"]["fid"], 15.78);
    assert!(cell["here"].is_null());
    assert!(cell["lacks"].as_str().unwrap().contains(LACK), "{cell}");
    // Of other systems the profile has no outputs.
    let other = lines.iter().find(|line| line["system"] == "cGAN (Isola et al., 2017)").unwrap();
    let cell = &other["cells"][""];
    assert_eq!(cell["paper"]["fid"], 24.41);
    let lack = cell["lacks"].as_str().unwrap();
    assert_eq!(lack, "the profile says no place for the outputs `cgan-colorization`");

    // Nothing can be queued without it either, and that is told row by row.
    let queued = home.evaluator(&["submit", table, "--profile", PROFILE, "--json"]);
    let queued: Value = serde_json::from_str(&queued).unwrap();
    let row = queued.as_array().unwrap().iter().find(|row| row["system"] == "Palette").unwrap();
    assert!(row["state"].as_str().unwrap().contains(LACK), "{row}");
    assert!(row["scoring"].is_null() && row["sampling"].is_null(), "{row}");
}

#[test]
fn a_submission_takes_what_every_submission_takes() {
    let home = Home::new();
    let lab = home.0.path().join("lab");
    std::fs::create_dir(&lab).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(lab.join(name), text).unwrap();
        lab.join(name).to_str().unwrap().to_owned()
    };
    let table = write(
        "table.toml",
        "title = \"x\"\n[[group]]\ncolumns = [\"psnr\"]\n[[part]]\nset = \"test\"\n\
         task = \"colorization\"\n[[part.row]]\nsystem = \"Other\"\noutputs = \"other\"\n\
         [[part.row]]\nsystem = \"Reference\"\nreference = true\n",
    );
    let profile = write(
        "profile.toml",
        &format!(
            "out = \"out\"\nsize = 16\nextractors = []\n[sets]\ntest = \"{0}/data\"\n\
             [outputs]\nother = \"{0}/other\"\n",
            lab.display()
        ),
    );
    for set in ["data", "other"] {
        std::fs::create_dir(lab.join(set)).unwrap();
        image::RgbImage::new(16, 16).save(lab.join(set).join("a.png")).unwrap();
    }
    let submit = |more: &[&str]| -> Vec<Value> {
        let mut arguments = vec!["submit", &table, "--profile", &profile, "--json"];
        arguments.extend(more);
        serde_json::from_str(&home.evaluator(&arguments)).unwrap()
    };
    let job = |row: &Value| row["scoring"].as_str().unwrap().to_owned();
    let first = submit(&["--only", "Other"]);
    let options = [
        "--tag",
        "paper",
        "--label",
        "disk=fast",
        "--owner",
        "ann",
        "--priority",
        "-2",
        "--attempts",
        "1",
        "--not-before",
        "+2h",
        "--gpus",
        "0",
    ];
    let key = ["--after", &job(&first[0]), "--key", "second"];
    let all = submit(&[&options[..], &key].concat());
    assert_eq!(all.len(), 2);
    // A key of its own makes jobs of their own, and the same key the same ones.
    assert_ne!(job(&all[0]), job(&first[0]));
    assert_eq!(submit(&[&options[..], &key].concat()), all);
    assert_eq!(submit(&["--only", "Other"]), first);

    let own = home::Home::at(home.0.path()).unwrap();
    let url = home::private::Server::new(&own).url();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = registry::Database::open_url(&url).await.unwrap();
        let parent = database.find_job(&job(&first[0])).await.unwrap();
        for row in &all {
            let job = database.find_job(&job(row)).await.unwrap();
            assert_eq!((job.gpus_most, &job.labels["disk"]), (0, &Value::from("fast")));
            assert_eq!((job.owner.as_str(), job.priority, job.max_attempts), ("ann", -2, 1));
            assert_eq!(job.tags, ["paper"]);
            let waits = database.parents(job.id).await.unwrap();
            assert!(waits.iter().any(|one| one.id == parent.id), "{waits:?}");
        }
    });
}
