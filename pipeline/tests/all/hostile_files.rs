//! Hostile manifests, configurations and lists.

use std::fs;
use std::path::Path;

use testkit::hostile::files::{ANY, JSON, TEXT, TOML};
use testkit::{House, hostile};

/// Kilobytes of address space: the program itself takes a part.
const SPACE: u64 = 1_500_000;

/// A dataset whose manifest this file is: its folder.
fn dataset(house: &House, name: &str, make: fn(&Path)) -> String {
    let folder = house.path(name);
    fs::create_dir_all(folder.join("data")).unwrap();
    for shard in fs::read_dir(house.path("data/data")).unwrap().map(|shard| shard.unwrap().path()) {
        fs::copy(&shard, folder.join("data").join(shard.file_name().unwrap())).unwrap();
    }
    make(&folder.join("manifest.json"));
    folder.to_str().unwrap().to_owned()
}

#[test]
fn hostile_manifests_configurations_and_lists_are_refused_in_one_line() {
    let house = House::new();
    house.dataset(3);
    fs::create_dir_all(house.path("classed/bee")).unwrap();
    fs::rename(house.path("scenes"), house.path("classed/ant")).unwrap();
    let scene = house.files("classed/ant").remove(0);
    fs::rename(&scene, house.path("classed/bee/scene.png")).unwrap();
    for &(name, make) in ANY.iter().chain(JSON) {
        let folder = dataset(&house, name, make);
        let refuse = |arguments: &[&str]| {
            hostile::refuses(&house, "pipeline", arguments, Path::new(&folder), SPACE);
        };
        refuse(&["inspect", &folder]);
        refuse(&["verify", &folder]);
        refuse(&["preview", "--dataset", &folder, "--out", "sheet.png"]);
        refuse(&["cut", &folder, "--rows", "0..1", "--out", "cut"]);
    }
    for &(name, make) in ANY.iter().chain(TEXT).chain(TOML) {
        let file = house.path(&format!("{name}.txt"));
        make(&file);
        let path = file.to_str().unwrap();
        let refuse =
            |arguments: &[&str]| hostile::refuses(&house, "pipeline", arguments, &file, SPACE);
        refuse(&["preview", path, "--out", "sheet.png"]);
        refuse(&["cut", "data", "--list", path, "--out", "cut"]);
        refuse(&["ingest", "classed", "--classes", path, "--out", "classified"]);
    }
    assert!(!house.path("cut").exists() && !house.path("classified/manifest.json").exists());
}

#[test]
fn a_pipe_or_a_device_as_a_shard_is_refused() {
    let house = House::new();
    house.dataset(3);
    for &(name, make) in ANY.iter().filter(|(name, _)| ["pipe", "endless"].contains(name)) {
        let copy = |path: &Path| {
            fs::copy(path.parent().unwrap().with_file_name("data").join("manifest.json"), path)
                .map(drop)
                .unwrap();
        };
        let folder = dataset(&house, name, |_| {});
        copy(&Path::new(&folder).join("manifest.json"));
        let shard =
            fs::read_dir(Path::new(&folder).join("data")).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(&shard).unwrap();
        make(&shard);
        hostile::refuses(&house, "pipeline", &["verify", &folder], Path::new(&folder), SPACE);
    }
}
