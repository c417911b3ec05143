//! Datasets: what is in them, samples by seed, degradations, and what a stranger may ask for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use testkit::{ControlRoom, House, until};

/// A house with a dataset of photographs that are sound, damaged and copied, in two classes.
fn house() -> House {
    let house = House::new();
    let at = |name: &str| house.path(name).to_str().unwrap().to_owned();
    let scenes = |folder: &str, count: &str, size: &str| {
        house.ok("pipeline", &["scenes", "--out", &at(folder), "--count", count, "--size", size]);
    };
    scenes("all/plain", "30", "32");
    scenes("all/<b>odd & \"class\"", "3", "24");
    let folder = house.path("all/plain");
    let first = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(&first, folder.join("zz-copy.png")).unwrap();
    std::fs::write(folder.join("zz-<script>alert(1).png"), "no picture").unwrap();
    let (all, out) = (at("all"), at("data/scenes"));
    house
        .ok("pipeline", &["ingest", &all, "--layout", "folder", "--name", "scenes", "--out", &out]);
    house
}

fn digest(room: &ControlRoom, name: &str) -> String {
    let all = room.json("/api/v1/datasets");
    let found = all.as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_dataset_shows_what_is_in_it_and_what_the_network_sees() {
    let house = house();
    let data = house.path("data");
    let room = house.room(&["--data", data.to_str().unwrap()]);
    let digest = digest(&room, "scenes");
    let facts = room.json(&format!("/api/v1/datasets/{digest}"));
    assert_eq!(facts["classes"].as_array().unwrap().len(), 2);

    let inside = format!("/api/v1/datasets/{digest}/inside");
    until("the dataset is read", || room.get(&inside).status == 200);
    let inside = room.json(&inside);
    let files = inside["rejected_files"].as_array().unwrap();
    let of =
        |key: &str| files.iter().find(|file| file["key"].as_str().unwrap().contains(key)).unwrap();
    assert!(of("script")["row"].is_null(), "{files:?}");
    let copied = of("zz-copy")["row"].as_u64().unwrap();
    let original = room.json(&format!("/api/v1/datasets/{digest}/rows/{copied}"));
    assert!(
        of("zz-copy")["reason"].as_str().unwrap().contains(original["sha256"].as_str().unwrap())
    );

    // The same seed is the same sample; another is another; a class is itself alone.
    let samples = |query: &str| room.json(&format!("/api/v1/datasets/{digest}/samples?{query}"));
    assert_eq!(samples("seed=5"), samples("seed=5"));
    assert_ne!(samples("seed=5"), samples("seed=6"));
    assert_eq!(
        (samples("seed=5")["of"].as_u64(), samples("page=1")["pages"].as_u64()),
        (Some(33), Some(2))
    );
    let odd = samples("class=0");
    assert_eq!(odd["of"], 3, "{odd}");
    for sample in odd["samples"].as_array().unwrap() {
        assert!(sample["key"].as_str().unwrap().contains("odd"), "{sample}");
    }
    assert!(samples("page=18446744073709551615")["samples"].as_array().unwrap().is_empty());

    // What is shown is what the pipeline makes.
    let picture = |row: u64, part: &str, show: &str| {
        let answer =
            room.get(&format!("/data/pictures/{digest}/{row}/{part}?show={show}&size=32&seed=9"));
        assert_eq!(answer.status, 200, "{show}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), "image/png");
        pipeline::image::decode(&answer.body).unwrap()
    };
    let dataset =
        pipeline::Dataset::open(&storage::Place::folder(house.path("data/scenes")).unwrap())
            .unwrap();
    let (key, bytes) = dataset.photograph(7).unwrap();
    let target = pipeline::image::fit(
        &pipeline::image::decode(&bytes).unwrap(),
        32,
        pipeline::image::Window::CENTER,
    );
    let target = target.unwrap();
    assert!(picture(7, "target", "jpeg:5") == target);
    for show in ["jpeg:5", "inpainting:free-form-10-20", "uncropping:right-half", "colorization"] {
        let evaluation: pipeline::Evaluation = show.parse().unwrap();
        let degraded = evaluation.apply(&target, 9, &key).unwrap();
        assert!(picture(7, "source", show) == degraded.source, "{show}");
        assert!(picture(7, "mask", show) == pictures::from_mask(&degraded.mask), "{show}");
    }
    assert!(picture(7, "source", "train:inpainting") != target);

    // Names of others are words on the page, and never markup.
    for page in ["/data".to_owned(), format!("/data/{digest}"), format!("/data/{digest}/rows/0")] {
        let answer = room.get(&page);
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "{text}");
        assert!(!text.contains("<script>alert") && !text.contains("<b>odd"), "{page}: {text}");
    }
}

#[test]
fn what_is_gone_or_never_was_is_said_and_nothing_else_suffers() {
    let house = house();
    let (scenes, few) = (house.path("data/scenes"), house.path("data/few"));
    let (scenes, few) = (scenes.to_str().unwrap(), few.to_str().unwrap());
    house.ok("pipeline", &["cut", scenes, "--rows", "0..4", "--out", few]);
    let (data, nowhere) = (house.path("data"), house.path("nowhere"));
    let room = house.room(&["--data", data.to_str().unwrap(), "--data", nowhere.to_str().unwrap()]);
    let digest = digest(&room, "scenes");
    let all = room.json("/api/v1/datasets");
    let lost = all.as_array().unwrap().iter().find(|one| one["state"] == "lost").unwrap();
    assert!(lost["problem"].as_str().unwrap().contains("pipeline ingest"), "{lost}");

    let status = |path: &str| room.get(path).status;
    let row =
        |row: &str, query: &str| status(&format!("/data/pictures/{digest}/{row}/source?{query}"));
    assert_eq!([row("32", ""), row("33", ""), row("18446744073709551615", "")], [200, 404, 404]);
    assert_eq!([row("18446744073709551616", ""), row("-1", ""), row("x", "")], [400; 3]);
    assert_eq!([row("0", "size=7"), row("0", "size=100000"), row("0", "show=jpeg:0")], [400; 3]);
    assert_eq!(row("0", "show=..%2F..%2Fetc%2Fpasswd"), 400);
    assert_eq!(status(&format!("/data/pictures/{digest}/0/..%2Fmanifest.json")), 404);
    assert_eq!(status(&format!("/data/{digest}?class=99")), 404);
    for unknown in ["%2Fetc", "..%2F..%2Fdata%2Fscenes", "0", "%20", "'%22%3E"] {
        assert_eq!(status(&format!("/data/{unknown}")), 404, "{unknown}");
    }

    // A shard that is damaged is an error of its rows alone; the list is shown all the same.
    let shard =
        std::fs::read_dir(house.path("data/scenes/data")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, vec![0; bytes.len()]).unwrap();
    let again = house.room(&["--data", data.to_str().unwrap()]);
    assert_eq!(again.get("/data").status, 200);
    let answer = again.get(&format!("/data/pictures/{digest}/0/source"));
    assert_eq!(answer.status, 409, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(again.get(&format!("/data/{digest}")).status, 200);
}
