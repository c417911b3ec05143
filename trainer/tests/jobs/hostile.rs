//! Hostile files as configurations and as weights of other systems.

use testkit::House;
use testkit::hostile;
use testkit::hostile::files::{ANY, TOML, WEIGHTS};

/// Kilobytes of address space; the program and libtorch at rest take 1.1 GB of it.
const SPACE: u64 = 2_500_000;

#[test]
fn a_hostile_configuration_is_refused_in_one_line() {
    let house = House::new();
    for &(name, make) in ANY.iter().chain(TOML) {
        let file = house.path(&format!("{name}.toml"));
        make(&file);
        hostile::refuses(&house, "trainer", &["check", file.to_str().unwrap()], &file, SPACE);
    }
    let said = house.fails(2, "trainer", &["check", "deep-key.toml"]);
    assert!(!said.contains("line 0"), "{said}");
    // Values are as long as the file lets them be.
    let good = std::fs::read_to_string(house.path(&house.config("good", 5))).unwrap();
    let said = house.ok("trainer", &["check", "good.toml"]);
    let data = house.path("data").display().to_string();
    let reads = |line: &str| line.starts_with("reads ") && line.ends_with(&data);
    assert!(said.lines().any(reads), "{said}");
    let numbers = (1..100_000).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    for (key, value) in [
        ("channel_mult = [1, 2]", format!("channel_mult = [{numbers}]")),
        ("attention = [8]", format!("attention = [{numbers}]")),
        ("ema = 0.9", format!("ema = [{numbers}]")),
        ("res_blocks = 1", "res_blocks = 1000000000".to_owned()),
        ("image_size = 16", "image_size = 1000000000".to_owned()),
    ] {
        let file = house.path("valued.toml");
        assert!(good.contains(key));
        std::fs::write(&file, good.replace(key, &value)).unwrap();
        hostile::refuses(&house, "trainer", &["check", "valued.toml"], &file, SPACE);
    }
}

#[test]
fn hostile_weights_are_not_imported() {
    let house = House::new();
    for &(name, make) in ANY.iter().chain(WEIGHTS) {
        let file = house.path(&format!("{name}.pth"));
        make(&file);
        let import = ["import", file.to_str().unwrap(), "--format", "adm", "--out", "imported"];
        hostile::refuses(&house, "trainer", &import, &file, SPACE);
    }
    assert!(!house.path("imported").exists());
}
