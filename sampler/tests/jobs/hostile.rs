//! Hostile pictures as inputs and masks of `sampler run`, hostile checkpoints, masks and lists.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::hostile::files::{ANY, JSON, TEXT, WEIGHTS};
use testkit::{House, hostile};

use super::pictures::{photo, run};

/// Kilobytes of address space; libtorch's libraries take the most of it.
const SPACE: u64 = 8_000_000;
/// Where no picture is decoded: the program and libtorch at rest take 1.1 GB of it.
const AT_REST: u64 = 2_500_000;

#[test]
fn inputs_and_masks_are_refused_in_one_line() {
    let house = House::new();
    let checkpoint = house.trained();
    std::fs::create_dir(house.path("all")).unwrap();
    photo(16, 16).save(house.path("photo.png")).unwrap();
    for file in hostile::pictures(&house.path("all")) {
        let picture = file.to_str().unwrap();
        let input = run(&checkpoint, &["--input", picture, "--task", "jpeg", "--out", "out"]);
        hostile::refuses(&house, "sampler", &input, &file, SPACE);
        let mask = ["--input", "photo.png", "--task", "inpainting", "--mask", picture];
        hostile::refuses(&house, "sampler", &run(&checkpoint, &mask), &file, SPACE);
    }
}

/// A checkpoint's folder without one of its files, and the file's path.
fn copied(house: &House, from: &str, name: &str, without: &str) -> (String, PathBuf) {
    let folder = house.path(name);
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir(from).unwrap().map(|file| file.unwrap().path()) {
        fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let file = folder.join(without);
    fs::remove_file(&file).unwrap();
    (folder.to_str().unwrap().to_owned(), file)
}

#[test]
fn a_hostile_checkpoint_is_refused_in_one_line() {
    let house = House::new();
    let checkpoint = house.trained();
    photo(16, 16).save(house.path("photo.png")).unwrap();
    let input = ["--input", "photo.png", "--task", "jpeg", "--out", "out"];
    let kinds = [
        ("state.json", ANY),
        ("state.json", JSON),
        ("ema.safetensors", ANY),
        ("ema.safetensors", WEIGHTS),
    ];
    for (without, kinds) in kinds {
        for (name, make) in kinds {
            let (folder, file) = copied(&house, &checkpoint, &format!("{name}-{without}"), without);
            make(&file);
            let named = Path::new(&folder);
            hostile::refuses(&house, "sampler", &run(&folder, &input), named, AT_REST);
        }
    }
    for (name, make) in ANY.iter().chain(WEIGHTS) {
        let file = house.path(&format!("{name}.safetensors"));
        make(&file);
        let exported = run(file.to_str().unwrap(), &input);
        hostile::refuses(&house, "sampler", &exported, &file, AT_REST);
    }
    let state: Value =
        serde_json::from_slice(&fs::read(Path::new(&checkpoint).join("state.json")).unwrap())
            .unwrap();
    let changes: [(&str, &str, Value); 7] = [
        ("large", "/model/model_channels", json!(4096)),
        ("deep", "/model/channel_mult", json!([64, 64, 64, 64, 64, 64, 64, 64])),
        ("no-pixels", "/image_size", json!([0, 16])),
        ("many-pixels", "/image_size", json!([4096, 4096])),
        ("escapes", "/diffusion/prediction", json!("\u{1b}[2J")),
        ("elsewhere", "/files", json!({"../../photo.png": {"bytes": 1, "sha256": "0"}})),
        ("absolute", "/files", json!({"/etc/passwd": {"bytes": 1, "sha256": "0"}})),
    ];
    for (name, key, value) in changes {
        let (folder, file) = copied(&house, &checkpoint, name, "state.json");
        let mut changed = state.clone();
        *changed.pointer_mut(key).unwrap() = value;
        fs::write(file, changed.to_string()).unwrap();
        let named = Path::new(&folder);
        hostile::refuses(&house, "sampler", &run(&folder, &input), named, AT_REST);
    }
    assert!(house.files("out").is_empty());
}

#[test]
fn hostile_masks_and_lists_are_refused_in_one_line() {
    let house = House::new();
    let checkpoint = house.trained();
    let queued = ["submit", "--checkpoint", &checkpoint, "--dataset", "data", "--out", "out"];
    let given = [
        ("npz", "--masks", "inpainting"),
        ("mat", "--masks", "inpainting"),
        ("txt", "--list", "jpeg"),
    ];
    for (name, make) in ANY.iter().chain(TEXT) {
        for (ending, option, task) in given {
            let file = house.path(&format!("{name}.{ending}"));
            make(&file);
            let more = ["--task", task, option, file.to_str().unwrap()];
            hostile::refuses(&house, "sampler", &[&queued[..], &more].concat(), &file, AT_REST);
        }
    }
}
