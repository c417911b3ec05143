//! What becomes of a run that has ended: it makes more steps, or another run goes on from it.

use std::path::Path;

use serde_json::Value;
use testkit::House;

/// A house in which the run `alone` has made twenty steps, with a checkpoint every five.
fn trained() -> (House, Value) {
    let house = House::new();
    house.dataset(16);
    let config = house.config("alone", 20);
    house.ok("trainer", &["submit", &config]);
    house.ok("scheduler", &["worker", "--drain"]);
    let wanted = house.digests("alone", 20);
    (house, wanted)
}

fn submitted(house: &House, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> =
        ["submit"].iter().chain(arguments).chain(&["--json"]).copied().collect();
    house.json("trainer", &arguments)
}

#[test]
fn an_extended_run_ends_with_the_bits_of_one_that_was_to_make_so_many_steps() {
    let (house, wanted) = trained();
    let config = house.config("longer", 10);
    house.ok("trainer", &["submit", &config]);
    let waiting = house.json("trainer", &["extend", "longer", "--steps", "+2", "--json"]);
    assert_eq!(waiting[0]["steps"], 12);
    house.ok("scheduler", &["worker", "--drain"]);
    let extended = house.json("trainer", &["extend", "longer", "--steps", "20", "--json"]);
    assert_eq!(extended[0]["steps_before"], 12);
    assert_eq!(extended[0]["state"], "queued");
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("longer", 20), wanted);

    // Its configuration and its facts are those of a run of twenty.
    let story = house.json("scheduler", &["show", "longer", "--json"]);
    assert_eq!(story["run"]["run"]["total_steps"], 20);
    assert_eq!(story["run"]["run"]["last_step"], 20);
    assert_eq!(story["run"]["run"]["config"]["train"]["steps"], 20);

    for (arguments, status, words) in [
        (&["longer", "--steps", "20"][..], 2, "makes 20 steps already"),
        (&["longer", "--steps", "5"], 2, "--steps +5"),
        (&["nobody", "--steps", "30"], 1, "no run"),
    ] {
        let arguments: Vec<&str> = ["extend"].iter().chain(arguments).copied().collect();
        let message = house.fails(status, "trainer", &arguments);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_fork_goes_on_from_a_checkpoint_with_its_moments_and_its_place_in_the_data() {
    let (house, wanted) = trained();
    let same = submitted(&house, &["--from", "alone@10"]);
    assert_eq!(same["name"], "alone-from-10");
    let other = submitted(
        &house,
        &["--from", "alone@10", "--set", "name=other", "--set", "train.learning_rate=0.01"],
    );
    // Whatever becomes of the parent's files: the forks have theirs.
    let parent = house.json("scheduler", &["checkpoints", "alone", "--json"]);
    for checkpoint in parent.as_array().unwrap() {
        std::fs::remove_dir_all(Path::new(checkpoint["uri"].as_str().unwrap())).unwrap();
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("alone-from-10", 20), wanted);
    assert_ne!(house.digests("other", 20), wanted);

    let id = same["run"].as_str().unwrap();
    let story = house.json("scheduler", &["show", id, "--json"]);
    assert_eq!(story["run"]["origin"]["name"], "alone");
    assert_eq!(story["run"]["origin"]["step"], 10);
    let series = house.json("scheduler", &["metrics", id, "--name", "loss", "--json"]);
    let steps: Vec<&Value> =
        series.as_array().unwrap().iter().map(|point| &point["step"]).collect();
    assert_eq!(steps, [15, 20]);
    assert_eq!(other["existed"], false);
}

#[test]
fn a_run_starts_from_the_weights_of_a_checkpoint_that_is_named_by_its_run() {
    let (house, _) = trained();
    let config = house.config("second", 5);
    let made = submitted(&house, &[&config, "--set", "train.init=alone@10"]);
    let stored = house.json("scheduler", &["show", made["run"].as_str().unwrap(), "--json"]);
    let init = stored["run"]["run"]["config"]["train"]["init"].as_str().unwrap();
    assert!(init.ends_with("/step-00000010"), "{init}");
    let arguments = ["submit", &config, "--set", "train.init=alone@7"];
    let message = testkit::failed(&mut house.command("trainer", &arguments), 2);
    assert!(message.contains("train.init: ") && message.contains("of steps 0, 5"), "{message}");
}

#[test]
fn a_fork_that_cannot_go_on_is_refused_and_leaves_nothing() {
    let (house, _) = trained();
    let folders = || std::fs::read_dir(house.path("home/runs")).unwrap().count();
    let before = folders();
    for (arguments, words) in [
        (&["--from", "alone"][..], "--set train.steps=40"),
        (&["--from", "alone@7"], "of steps 0, 5, 10, 15, 20"),
        (&["--from", "alone@10", "--set", "train.ema=0.5"], "keeps its averages"),
        (&["--from", "alone@10", "--set", "model.head_channels=32"], "model.head_channels"),
        (
            &[
                "--from",
                "alone@10",
                "--set",
                "model.head_channels=32",
                "--set",
                "train.init_differs=[\"model.head_channels\"]",
            ],
            "keeps its network and objective",
        ),
        (&["--from", "alone@10", "--set", "train.init=alone@5"], "give one of them"),
        (&["--from", "alone@10", "--set", "train.stepz=30"], "did you mean `train.steps`?"),
        (&[], "<CONFIG>"),
    ] {
        let arguments: Vec<&str> = ["submit"].iter().chain(arguments).copied().collect();
        let message = testkit::failed(&mut house.command("trainer", &arguments), 2);
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    assert_eq!(folders(), before);

    // The same submission once more is the same run, with one copy.
    let again = ["--from", "alone@10", "--key", "once"];
    let first = submitted(&house, &again);
    assert_eq!(submitted(&house, &again)["run"], first["run"]);
    assert_eq!(folders(), before + 1);
    // Of another step it is another run. What `@latest` is can change, and what was asked for does not.
    let said = house.fails(2, "trainer", &["submit", "--from", "alone@5", "--key", "once"]);
    assert!(said.contains("from: ") && said.contains("choose another --key"), "{said}");
    assert_eq!(folders(), before + 1);

    // Where a copy fails, none is left.
    let taken = house.path("taken");
    std::fs::write(&taken, "").unwrap();
    let place = format!("train.checkpoint.place={}", taken.display());
    house.fails(2, "trainer", &["submit", "--from", "alone@10", "--set", &place]);
    assert_eq!(folders(), before + 1);

    let sweep = ["--from", "alone@10", "--sweep", "train.learning_rate=0.01,0.02"];
    assert_eq!(submitted(&house, &sweep)["runs"].as_array().unwrap().len(), 2);
    assert_eq!(folders(), before + 3);
}
