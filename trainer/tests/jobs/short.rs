//! Short runs: what of their configuration does not fit their length is said before, what they did not learn
//! after.

use serde_json::Value;
use testkit::House;

const LONG: [&str; 4] = ["--set", "train.warmup_steps=10000", "--set", "train.ema=0.9999"];
const STALE: &str = "EMA 0.9999 over 30 steps is 100 % initial weights: --set train.ema=0.8";
const SLOW: &str = "a warm-up of 10000 steps in a run of 30: the learning rate gets to 0.3 % of 0.001: --set \
                    train.warmup_steps=3";

fn stderr(house: &House, arguments: &[&str]) -> String {
    let output = house.run("trainer", arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[test]
fn what_does_not_fit_the_length_is_said_and_nothing_is_changed() {
    let house = House::new();
    house.dataset(4);
    let config = house.config("short", 30);
    let with = |first: &[&'static str]| {
        let arguments: Vec<&str> = [first, &[config.as_str()], &LONG].concat();
        arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    let words = |arguments: &[String], more: &[&str]| -> String {
        let all: Vec<&str> =
            arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        stderr(&house, &all)
    };

    let printed = house.ok("trainer", &[&["check", config.as_str()], &LONG[..]].concat());
    for line in [SLOW, STALE] {
        assert!(printed.contains(&format!("does not fit the run: {line}")), "{printed}");
    }
    let checked = house.json("trainer", &[&["check", &config, "--json"], &LONG[..]].concat());
    let advice = checked["advice"].as_array().unwrap();
    let remedies: Vec<&Value> = advice.iter().map(|one| &one["remedy"]).collect();
    assert_eq!(remedies, ["train.warmup_steps=3", "train.ema=0.8"]);
    assert_eq!(advice[1]["key"], "train.ema");

    let submit = with(&["submit"]);
    let said = words(&submit, &[]);
    for line in [SLOW, STALE] {
        assert!(said.contains(&format!("warning: {line}")), "{said}");
    }
    let stored = house.json("scheduler", &["show", "short", "--config", "--json"]);
    assert_eq!(
        (&stored["train"]["ema"], &stored["train"]["warmup_steps"]),
        (&0.9999.into(), &10_000.into())
    );
    // Of a sweep, each thing once.
    let said = words(&submit, &["--seeds", "3"]);
    assert_eq!(said.matches("warning: ").count(), 2, "{said}");

    // Who follows the advice is given none.
    let fits = ["--set", "train.warmup_steps=3", "--set", "train.ema=0.8"];
    let printed = house.ok("trainer", &[&["check", config.as_str()], &fits[..]].concat());
    assert!(!printed.contains("does not fit"), "{printed}");
    let said = words(&submit, &fits);
    assert!(!said.contains("warning: "), "{said}");
}

#[test]
fn a_run_that_learned_nothing_says_so() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("nothing", 30);
    let said = stderr(&house, &[&["run", config.as_str()], &LONG[..]].concat());
    let nothing = "the loss is still what predicting nothing gives (";
    // In the submission, and at the end; on the way not, as the warm-up is not over.
    assert!(said.contains(&format!("warning: {STALE}")), "{said}");
    assert_eq!(said.matches(nothing).count(), 1, "{said}");
    let shown = house.ok("scheduler", &["show", "nothing"]);
    let warning = shown.lines().find(|line| line.starts_with("warning ")).unwrap();
    assert!(warning.contains(nothing), "{shown}");
    let told = house.json("scheduler", &["show", "nothing", "--json"]);
    assert!(told["run"]["warning"].as_str().unwrap().contains(nothing), "{told}");

    // With a learning rate that moves nothing it is said on the way too, once.
    let sets = ["--set", "train.learning_rate=1e-9", "--set", "train.warmup_steps=0"];
    let said =
        stderr(&house, &[&["run", config.as_str(), "--set", "name=still"], &sets[..]].concat());
    assert_eq!(said.matches(nothing).count(), 2, "{said}");
    assert!(said.contains("step 5/30  the loss is still"), "{said}");
}

#[test]
fn averages_that_learned_nothing_are_told_from_the_network() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("stale", 60);
    let sets = [
        "--set",
        "train.ema=0.9999",
        "--set",
        "train.validation={ dataset = \"data\", images = 8, every = 30 }",
    ];
    let said = stderr(&house, &[&["run", config.as_str()], &sets[..]].concat());
    assert!(said.contains("the validation loss is still what predicting nothing gives"), "{said}");
    assert!(said.contains("the EMA weights have hardly left the initial ones"), "{said}");
    let shown = house.ok("scheduler", &["show", "stale"]);
    assert!(shown.contains("the EMA weights have hardly left the initial ones"), "{shown}");

    // The same with an average that fits has nothing to say.
    let sets = ["--set", "name=fits", "--set", "train.ema=0.9", sets[2], sets[3]];
    let said = stderr(&house, &[&["run", config.as_str()], &sets[..]].concat());
    assert!(!said.contains("predicting nothing"), "{said}");
    let shown = house.ok("scheduler", &["show", "fits"]);
    assert!(!shown.contains("predicting nothing"), "{shown}");
    // What predicting nothing costs is the same at every validation: the same images, the same noise.
    let points =
        house.json("scheduler", &["metrics", "fits", "--name", "validation/nothing", "--json"]);
    assert_eq!(points.as_array().unwrap().len(), 2);
    assert_eq!(points[0]["value"], points[1]["value"]);
}
