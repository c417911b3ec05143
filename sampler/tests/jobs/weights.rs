//! Weights by all the names that they have, and weights that no picture can be made with.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use testkit::House;

/// The pixels of a picture as `sampler run` makes it with some weights; its file names the weights too.
fn made(house: &House, weights: &[&str], out: &str) -> RgbImage {
    let what = ["--input", "photo.png", "--task", "colorization", "--steps", "2", "--out", out];
    house.ok("sampler", &[&["run"], weights, &what].concat());
    image::open(house.path(out).join("photo-1.png")).unwrap().into_rgb8()
}

fn photo(house: &House) {
    let picture = RgbImage::from_fn(16, 16, |x, y| Rgb([(x * 15) as u8, (y * 15) as u8, 90]));
    picture.save(house.path("photo.png")).unwrap();
}

#[test]
fn a_checkpoint_goes_by_its_run_its_folders_and_its_exported_file() {
    let house = House::new();
    let step = house.trained();
    photo(&house);
    let run = Path::new(&step).parent().unwrap().to_str().unwrap();
    house.ok("trainer", &["export", "--checkpoint", run, "--out", "w.safetensors"]);
    let import = ["import", "w.safetensors", "--format", "adm", "--out", "imported"];
    house.ok("trainer", &import);
    let wanted = made(&house, &["--checkpoint", &step], "step");
    for (number, weights) in [
        ["--run", "trained"],
        ["--run", "trained@best"],
        ["--checkpoint", "trained"],
        ["--checkpoint", "trained@5"],
        ["--checkpoint", run],
        ["--checkpoint", "w.safetensors"],
        ["--checkpoint", "imported"],
    ]
    .iter()
    .enumerate()
    {
        assert!(made(&house, weights, &number.to_string()) == wanted, "{weights:?}");
    }
    assert!(made(&house, &["--checkpoint", "trained@0"], "other") != wanted);

    // A job takes them too.
    let submit = |checkpoint: &str, out: &str| {
        let what = ["--dataset", "data", "--task", "colorization", "--count", "2", "--steps", "2"];
        let own = ["submit", "--json", "--checkpoint", checkpoint, "--out", out];
        house.json("sampler", &[&own[..], &what].concat())
    };
    assert!(submit("trained@5", "of-run")["run"].is_string());
    assert!(submit("w.safetensors", "of-file")["checkpoint"].is_string());
    house.ok("scheduler", &["worker", "--drain"]);
    let shard = |out: &str| {
        let files = house.files(&format!("{out}/data"));
        std::fs::read(files.first().unwrap()).unwrap()
    };
    assert!(shard("of-run") == shard("of-file"));

    // What a run that has ended does not have, it will never have.
    for name in ["trained@41", "trained@3"] {
        let what = ["--dataset", "data", "--task", "colorization", "--out", "never"];
        let said = house.fails(2, "sampler", &[&["submit", "--run", name][..], &what].concat());
        assert!(said.contains("of steps 0, 5"), "{said}");
    }

    // What it is not is told truly.
    std::fs::create_dir(house.path("empty")).unwrap();
    let missing = format!("{run}/step-00000041");
    let file = format!("{step}/ema.safetensors");
    for (name, status, words) in [
        ("trained@41", 2, &["no checkpoint trained@41", "of steps 0, 5"][..]),
        ("untrained", 2, &["no file or folder here", "no run `untrained`"]),
        (&missing, 2, &["no such file or folder", "step-00000000, step-00000005"]),
        ("empty", 2, &["neither a checkpoint nor the folder of a run"]),
        ("photo.png", 1, &["neither safetensors nor of torch.save"]),
        (&file, 1, &["one file of a checkpoint", step.as_str()]),
    ] {
        let what = ["--input", "photo.png", "--task", "colorization", "--out", "none"];
        let arguments = [&["run", "--checkpoint", name][..], &what].concat();
        let said = house.fails(status, "sampler", &arguments);
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        assert!(!said.contains("publish it again"), "{said}");
    }
}

/// Sets all values of a tensor in a safetensors file.
fn set(file: &PathBuf, tensor: &str, value: f32) {
    let mut bytes = std::fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offsets = header[tensor]["data_offsets"].as_array().unwrap();
    let [from, to] = [0, 1].map(|end| 8 + length + offsets[end].as_u64().unwrap() as usize);
    for number in bytes[from..to].chunks_mut(4) {
        number.copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn no_picture_comes_of_weights_that_are_not_finite() {
    let house = House::new();
    house.trained();
    photo(&house);
    let export = ["export", "--checkpoint", "trained", "--out", "w.safetensors"];
    let run = ["run", "--checkpoint", "w.safetensors", "--input", "photo.png"];
    let run = [&run[..], &["--task", "colorization", "--out", "out"]].concat();
    // Weights that are none are found when they are loaded.
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        house.ok("trainer", &export);
        set(&house.path("w.safetensors"), "out.2.bias", bad);
        let said = house.fails(1, "sampler", &run);
        assert!(said.contains("`out.2.bias` is not finite"), "{said}");
    }
    // Weights that are numbers, with which the network leaves their range.
    house.ok("trainer", &export);
    set(&house.path("w.safetensors"), "out.0.weight", f32::MAX);
    let said = house.fails(1, "sampler", &run);
    for words in ["`photo`", "NaN or infinite at step 1 of"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(house.files("out").is_empty(), "a picture was written");
}
