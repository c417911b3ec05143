//! `benches/gpu/run.sh --device cpu`: the script that measures on a GPU, tried with tiny sizes, so that the
//! one run that counts does not fail for a silly reason. What it measures here says nothing.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{GrayImage, Luma};
use serde_json::Value;

/// What a machine without a GPU, and perhaps without PyTorch and golden numbers, cannot do.
const CANNOT: [&str; 6] = [
    "PyTorch does not load in this Python",
    "kernels run on GPUs",
    "tf32 is a thing of GPUs",
    "compiling takes minutes on a CPU",
    "there are no golden numbers",
    "there are no test programs",
];

/// Whether a build has what the script is for, as far as it depends on it.
fn complete() -> bool {
    [("bench", "--exact"), ("verify", "--device")].iter().all(|(command, flag)| {
        let help =
            Command::new(testkit::program("trainer")).args([*command, "--help"]).output().unwrap();
        String::from_utf8(help.stdout).unwrap().contains(flag)
    })
}

/// The folder of the programs, which must all be there.
fn programs() -> PathBuf {
    let programs = ["pipeline", "sampler", "trainer"].map(testkit::program);
    programs[0].parent().unwrap().to_owned()
}

/// Runs the script in a folder of its own; its figures by name are in `work/figures` there.
fn run(folder: &Path, bin: &Path, options: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/gpu/run.sh");
    Command::new("bash")
        .arg(script)
        .args(["--device", "cpu", "--work", "work", "--out", "out", "--bin"])
        .arg(bin)
        .args(options)
        .current_dir(folder)
        .env_remove("OUT")
        .output()
        .unwrap()
}

/// The script reads TOML with Python's own parser, which came with 3.11.
fn python() -> bool {
    let there = Command::new("python3").args(["-c", "import tomllib"]).output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: python3 is not there, or older than 3.11");
    }
    there
}

fn figures(folder: &Path) -> HashMap<String, Value> {
    let read =
        |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    std::fs::read_dir(folder.join("work/figures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(read)
        .map(|figure| (figure["name"].as_str().unwrap().to_owned(), figure))
        .collect()
}

fn pipeline(arguments: &[&str], folder: &Path) {
    let mut command = Command::new(testkit::program("pipeline"));
    testkit::run_ok(command.args(arguments).current_dir(folder));
}

#[test]
fn every_part_runs_and_every_figure_is_there() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    pipeline(&["scenes", "--out", "scenes", "--count", "12", "--size", "32"], path);
    pipeline(&["ingest", "scenes", "--out", "data"], path);
    std::fs::create_dir(path.join("held-out")).unwrap();
    for name in ["originals", "jpeg"] {
        let place = format!("held-out/{name}");
        pipeline(&["scenes", "--out", &place, "--count", "2", "--size", "32"], path);
    }
    let hole =
        |x: u32, y: u32| Luma([255 * u8::from((8..24).contains(&x) && (8..24).contains(&y))]);
    GrayImage::from_fn(32, 32, hole).save(path.join("held-out/mask.png")).unwrap();
    let mut options = vec!["--part", "a,b,c,d", "--minutes", "30", "--photographs", "data"];
    options.extend(["--small-photographs", "data", "--held-out", "held-out"]);
    let golden = std::env::var("PALETTE_FIXTURES").map(|fixtures| format!("{fixtures}/golden"));
    if let Ok(golden) = &golden {
        options.extend(["--golden", golden.as_str()]);
    }

    let output = run(path, &programs(), &options);

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (found, complete) = (figures(path), complete());
    for (name, figure) in &found {
        let why = figure["why"].as_str().unwrap_or_default();
        let cannot =
            CANNOT.iter().any(|cannot| why.starts_with(cannot)) || why == "no network was trained";
        let lacks = why.starts_with("not available in this build") && !complete;
        assert!(figure["status"] == "ok" || cannot || lacks, "{name}: {figure:#}");
    }
    let newer: &[&str] = if complete { &["ours-deterministic", "fed"] } else { &[] };
    for name in ["ours", "ours-less", "ours-recompute"].iter().chain(newer) {
        let sizes = found[*name]["result"]["sizes"].as_array().unwrap();
        assert!(!sizes.is_empty(), "{name}");
        for size in sizes {
            assert!(size["images_per_second"].as_f64().unwrap() > 0.0, "{name}: {size}");
        }
    }
    assert!(found["sample-2"]["result"]["images_per_second"].as_f64().unwrap() > 0.0);
    assert!(found["loader"]["result"]["images_per_second"].as_f64().unwrap() > 0.0);
    if complete {
        for name in ["exact", "exact-usual"] {
            assert_eq!(found[name]["rc"], 0, "{:#}", found[name]);
        }
    }
    for name in ["collectives-1", "collectives-2"] {
        assert_eq!(found[name]["result"]["correct"], true, "{:#}", found[name]);
    }
    assert_eq!(found["same-1"]["result"]["loss"], found["same-2"]["result"]["loss"]);
    if golden.is_ok() && complete {
        assert_eq!(found["verify-adm_small-fp32"]["result"]["agrees"], true);
    }
    let table = std::fs::read_to_string(path.join("out/table.txt")).unwrap();
    assert!(said.ends_with(&format!("{table}\nresults: {}\n", path.join("out").display())));
    assert!(table.lines().count() <= 80, "{table}");
    for word in
        ["training step:", "sampling:", "loader:", "by several ranks:", "the same loss", "time: a "]
    {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    assert!(path.join("out/results.tar.gz").exists());
}

#[test]
fn what_fails_is_said_and_ends_nothing() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let usage = "case \"$*\" in --version|*--help) exit 0;; esac\n";
    for name in ["trainer", "sampler", "pipeline"] {
        let script = format!("#!/bin/sh\n{usage}echo 'error: {name} is broken' >&2\nexit 3\n");
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    let output = run(folder.path(), &bin, &["--part", "a"]);

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = figures(folder.path());
    assert_eq!(found["sample-1"]["status"], "failed");
    assert_eq!(found["sample-1"]["rc"], 3);
    assert_eq!(found["sample-1"]["why"], "error: sampler is broken");
    assert_eq!(found["ours"]["why"], "error: trainer is broken");
    let table = std::fs::read_to_string(folder.path().join("out/table.txt")).unwrap();
    assert!(table.contains("failed: sample-1") && table.contains("sampler is broken"), "{table}");
}

#[test]
fn without_time_all_is_skipped() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &programs(), &["--part", "a,b", "--minutes", "0.001"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = figures(folder.path());
    assert_eq!(found["ours"]["why"], "the 0.001 minutes are over");
    assert!(found.values().all(|figure| figure["seconds"].is_null()), "something ran");
    let refused = run(folder.path(), &programs(), &["--part", "e"]);
    assert_eq!(refused.status.code(), Some(2));
}
