//! A run is trained again from what the registry has of it.

use testkit::House;

#[test]
fn the_configuration_of_a_run_is_toml_that_trains_the_same_experiment() {
    let house = House::new();
    house.ok("scheduler", &["up"]);
    house.dataset(6);
    let config = house.config("demo", 5);
    house.ok("trainer", &["submit", &config, "--set", "train.learning_rate=0.00003"]);
    let toml = house.ok("scheduler", &["show", "demo", "--config"]);
    assert!(toml.starts_with("# The configuration of run "), "{toml}");
    assert!(!toml.contains("null"), "{toml}");
    std::fs::write(house.path("again.toml"), toml).unwrap();
    house.ok("trainer", &["submit", "again.toml", "--set", "name=again"]);
    house.ok("trainer", &["submit", "again.toml"]);
    let digest = |run: &str| {
        let story = house.json("scheduler", &["show", run, "--json"]);
        let digest = story["run"]["run"]["config_digest"].as_str().unwrap().to_owned();
        (digest, story["job"]["payload"].clone())
    };
    let runs = house.json("scheduler", &["runs", "--name", "demo", "--json"]);
    let shorts: Vec<&str> =
        runs.as_array().unwrap().iter().map(|run| run["short"].as_str().unwrap()).collect();
    assert_eq!(shorts.len(), 2);
    assert_eq!(digest(shorts[0]), digest(shorts[1]));
    assert_ne!(digest("again"), digest(shorts[0]), "another name is another experiment");
}
