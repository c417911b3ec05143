//! Pictures of previews in the run's place and the registry: once each, whatever happens on the way.

use std::collections::BTreeMap;
use std::path::Path;

use testkit::House;

const PREVIEW: &str = "train.preview={ images = 3, steps = 2, every = 10 }";

/// What the registry shows of a run, by part, step and input, with the digest of each.
fn shown(house: &House, run: &str) -> BTreeMap<String, String> {
    let rows = house.sql(&format!(
        "select part || ' ' || step || ' ' || input, digest from pictures join runs on runs.id = run_id
         where name = '{run}' and not retiring and length(thumbnail) <= 8192"
    ));
    rows.lines()
        .map(|line| line.split_once('|').unwrap())
        .map(|(place, digest)| (place.to_owned(), digest.to_owned()))
        .collect()
}

/// The digests of the files in the run's place, which are their content's.
fn files(house: &House, run: &str) -> Vec<String> {
    let uri = house.sql(&format!("select uri from runs where name = '{run}'"));
    let mut digests = Vec::new();
    for entry in std::fs::read_dir(Path::new(uri.trim()).join("pictures")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let digest = storage::atomic::sha256(&bytes);
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{digest}.png"));
        digests.push(digest);
    }
    digests.sort();
    digests
}

#[test]
fn a_run_that_is_killed_and_goes_on_has_each_picture_once() {
    let house = House::new();
    house.dataset(16);
    let submit = |name: &str| {
        let config = house.config(name, 40);
        house.ok("trainer", &["submit", &config, "--attempts", "50", "--set", PREVIEW]);
    };
    submit("alone");
    house.ok("scheduler", &["worker", "--drain"]);
    submit("killed");
    // Before any, right behind one, and with one past the last checkpoint.
    for line in ["step 1/", "step 10/", "step 25/", "step 30/"] {
        let mut worker = house.worker("worker", &["--drain", "--follow"]);
        worker.says(line);
        worker.kill();
    }
    house.ok("scheduler", &["worker", "--drain"]);

    let alone = shown(&house, "alone");
    for step in [10, 20, 30, 40] {
        assert_eq!(
            alone.keys().filter(|place| place.starts_with(&format!("output {step} "))).count(),
            3
        );
    }
    for part in ["source", "reference"] {
        assert_eq!(
            alone.keys().filter(|place| place.starts_with(&format!("{part} 0 "))).count(),
            3
        );
    }
    assert_eq!(shown(&house, "killed"), alone);
    assert_eq!(house.sql("select count(*) from pictures where retiring").trim(), "0");
    let mut digests: Vec<String> = alone.into_values().collect();
    digests.sort();
    digests.dedup();
    assert_eq!(files(&house, "alone"), digests);
    assert_eq!(files(&house, "killed"), digests);
}

#[test]
fn pictures_that_cannot_be_kept_end_no_training() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("full", 10);
    house.ok("trainer", &["submit", &config, "--set", PREVIEW]);
    let uri = house.sql("select uri from runs");
    let run = Path::new(uri.trim());
    std::fs::create_dir_all(run).unwrap();
    for name in ["pictures", "previews"] {
        std::fs::write(run.join(name), "a file in the place of a folder").unwrap();
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.sql("select state from jobs").trim(), "succeeded");
    let log = house.ok("scheduler", &["logs", "full"]);
    for said in ["pictures of the preview are not kept", "the sheet of the preview is not kept"] {
        assert!(log.contains(said), "{log}");
    }
    assert_eq!(house.sql("select count(*) from pictures").trim(), "0");
}
