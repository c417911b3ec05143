//! Cuts, overlaps and what `inspect` tells, as a user runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use pipeline::Dataset;

use crate::common::{self, fixtures, pipeline, run_ok, scenes_dataset};

#[test]
fn published_lists_cut_as_they_are() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let val = folder.path().join("val");
    let mut command = pipeline();
    command.arg("ingest").arg(fixtures.join("data/imagenet/ILSVRC2012_img_val.tar"));
    command.arg("--labels").arg(fixtures.join("lists/imagenet_2012_validation_synset_labels.txt"));
    run_ok(command.arg("--out").arg(&val));
    let base = Dataset::open(&common::place(val.to_str().unwrap())).unwrap();
    for name in ["ctest10k.txt", "cval1k.txt"] {
        let list = fixtures.join("lists").join(name);
        let out = folder.path().join(name.trim_end_matches(".txt"));
        let cut = || {
            let mut command = pipeline();
            command.arg("cut").arg(&val).arg("--list").arg(&list).arg("--out").arg(&out);
            command
        };
        // Fifty of fifty thousand images are there.
        let message = common::fails_with(&mut cut(), 1);
        assert!(message.contains("lacks") && message.contains("--allow-missing"), "{message}");
        let output = cut().arg("--allow-missing").output().unwrap();
        let lines = fs::read_to_string(&list).unwrap();
        let listed: Vec<(&str, i64)> = lines
            .lines()
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, label)| (name.rsplit('/').next().unwrap(), label.parse().unwrap()))
            .collect();
        let have: BTreeSet<String> = base.records().map(|record| record.unwrap().key).collect();
        let expected: Vec<_> = listed.iter().filter(|(name, _)| have.contains(*name)).collect();
        if expected.is_empty() {
            assert_eq!(output.status.code(), Some(1));
            continue;
        }
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !said.contains("other labels"), "{said}");
        let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
        assert_eq!(dataset.len(), expected.len() as u64);
        for (record, (name, label)) in dataset.records().zip(expected) {
            let record = record.unwrap();
            assert_eq!((record.key.as_str(), record.label), (*name, Some(*label)));
        }
        assert!(!out.join("data").exists(), "no byte is copied");
    }
}

#[test]
fn names_of_a_list_are_matched_by_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("set");
    let picture = |name: &str, side: u32| {
        let path = source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(side, side, image::Rgb([9, 9, 9])).save(path).unwrap();
    };
    let keys = ["cat/1.png", "cat/2.png", "dog/2.png", "dog/3.jpg"];
    for (side, key) in (16..).zip(keys) {
        picture(key, side);
    }
    let uri = folder.path().join("dataset");
    run_ok(pipeline().arg("ingest").arg(&source).arg("--out").arg(&uri));
    let cut = |list: &str| {
        let (path, out) = (folder.path().join("list.txt"), folder.path().join("cut"));
        fs::write(&path, list).unwrap();
        let mut command = pipeline();
        command.arg("cut").arg(&uri).arg("--list").arg(path).arg("--out").arg(out);
        command.arg("--overwrite");
        command
    };
    let taken = |list: &str| -> Vec<String> {
        run_ok(&mut cut(list));
        let out = folder.path().join("cut");
        let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
        dataset.records().map(|record| record.unwrap().key).collect()
    };
    assert_eq!(taken("dog/2.png\ncat/2.png"), ["dog/2.png", "cat/2.png"]);
    assert_eq!(taken("\u{feff}/set/dog/3.jpg 1\n1.png"), ["dog/3.jpg", "cat/1.png"]);
    assert_eq!(taken("data/train/dog/3\ncat/1 0"), ["dog/3.jpg", "cat/1.png"]);

    let missing = common::fails_with(&mut cut("dog/1.png"), 1);
    assert!(
        missing.contains("lacks all images of the list (1), the first is dog/1.png"),
        "{missing}"
    );
    let missing = common::fails_with(&mut cut("dog/3.png"), 1);
    assert!(missing.contains("dog/3.png"), "it is another file: {missing}");
    let several = common::fails_with(&mut cut("2.png"), 1);
    assert!(several.contains("fit the list's 2.png, such as cat/2.png and dog/2.png"), "{several}");
    let twice = common::fails_with(&mut cut("cat/1.png\ncat/1"), 1);
    assert!(twice.contains("cat/1.png fits two names of the list, cat/1.png and cat/1"), "{twice}");
    let encoded: Vec<u8> = "\u{feff}1.png".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut utf16 = cut("");
    fs::write(folder.path().join("list.txt"), encoded).unwrap();
    let message = common::fails_with(&mut utf16, 1);
    assert!(message.contains("is UTF-16: write it as UTF-8"), "{message}");
}

#[test]
fn a_number_at_the_end_of_a_line_is_a_label_or_of_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("photos");
    let names = ["cat/z", "dog/x", "dog/x 7", "dog/y 1", "dog/y 2", "dog/y 3"];
    for (side, name) in (16..).zip(names) {
        let path = source.join(format!("{name}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(side, side, image::Rgb([9, 9, 9])).save(path).unwrap();
    }
    let uri = folder.path().join("dataset");
    run_ok(pipeline().arg("ingest").arg(&source).arg("--out").arg(&uri));
    let dataset = Dataset::open(&common::place(uri.to_str().unwrap())).unwrap();
    let taken = |text: &str| {
        let path = folder.path().join("list.txt");
        fs::write(&path, text).unwrap();
        let list = (pipeline::dataset::List::read(&path).unwrap(), "list.txt".to_owned());
        let choice = pipeline::dataset::Choice { list: Some(list), ..Default::default() };
        let chosen = dataset.choose(&choice).map_err(|error| error.to_string())?;
        let keys: Vec<String> = dataset.records().map(|record| record.unwrap().key).collect();
        Ok::<_, String>(
            chosen.indices.iter().map(|&at| keys[at as usize].clone()).collect::<Vec<_>>(),
        )
    };
    let both = taken("dog/x 7").unwrap_err();
    assert!(both.contains("several of its images fit the list's dog/x 7"), "{both}");
    assert_eq!(taken("dog/x 7.png").unwrap(), ["dog/x 7.png"]);
    assert_eq!(taken("dog/x 1").unwrap(), ["dog/x.png"]);
    assert_eq!(
        taken("dog/y 1\ndog/y 2\ndog/y 3").unwrap(),
        ["dog/y 1.png", "dog/y 2.png", "dog/y 3.png"]
    );
}

#[test]
fn lists_from_the_field_name_what_they_say() {
    let Some(fixtures) = fixtures() else { return };
    let odd = fixtures.join("data/odd/cut");
    let folder = tempfile::tempdir().unwrap();
    let cut = |archive: &str, list: &str| {
        let (uri, out) = (folder.path().join(archive), folder.path().join(list));
        run_ok(pipeline().arg("ingest").arg(odd.join(archive)).arg("--out").arg(&uri));
        let mut command = pipeline();
        command.arg("cut").arg(&uri).arg("--list").arg(odd.join(list)).arg("--out").arg(&out);
        (command, out)
    };
    let message = common::fails_with(&mut cut("cat1_dog2.tar", "list_dog1.txt").0, 1);
    assert!(
        message.contains("lacks all images of the list (1), the first is dog/1.jpg"),
        "{message}"
    );
    let (mut command, out) = cut("places_like.tar", "list_exact_keys.txt");
    run_ok(&mut command);
    let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
    let keys: Vec<String> = dataset.records().map(|record| record.unwrap().key).collect();
    assert_eq!(keys, ["airfield/00000001.jpg", "zen_garden/00000002.jpg"]);
}

#[test]
fn rows_and_classes_are_cut_by_manifest_alone() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 60, 24);
    let base = Dataset::open(&common::place(&uri)).unwrap();
    let cut = |name: &str, from: &str, arguments: &[&str]| {
        let out = folder.path().join(name);
        run_ok(pipeline().args(["cut", from]).args(arguments).arg("--out").arg(&out));
        Dataset::open(&common::place(out.to_str().unwrap())).unwrap()
    };
    let keys = |dataset: &Dataset| -> Vec<String> {
        dataset.records().map(|record| record.unwrap().key).collect()
    };
    let all = keys(&base);
    let first = cut("first", &uri, &["--rows", "0..30"]);
    let second = cut("second", &uri, &["--rows", "30..60"]);
    assert_eq!([keys(&first), keys(&second)].concat(), all);
    // A cut of a cut points to the same shards.
    let folder_of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let inner = cut("inner", &folder_of("second"), &["--rows", "..5"]);
    assert_eq!(keys(&inner), all[30..35]);
    assert_eq!(inner.manifest().cut.as_ref().unwrap().base, "../dataset");

    let drawn = cut("drawn", &uri, &["--per-class", "7", "--seed", "3"]);
    let mut classes: BTreeMap<Option<i64>, u32> = BTreeMap::new();
    for record in drawn.records() {
        *classes.entry(record.unwrap().label).or_default() += 1;
    }
    assert_eq!(classes, BTreeMap::from([(Some(0), 7), (Some(1), 7)]));
    assert_eq!(keys(&drawn).iter().collect::<BTreeSet<_>>().len(), 14);
    let again = cut("again", &uri, &["--per-class", "7", "--seed", "3"]);
    let other = cut("other", &uri, &["--per-class", "7", "--seed", "4"]);
    assert_eq!(keys(&again), keys(&drawn));
    assert_ne!(keys(&other), keys(&drawn));

    for name in ["first", "inner", "drawn"] {
        let verified = run_ok(pipeline().args(["verify", &folder_of(name)]));
        assert!(verified.contains("are as their digests say"), "{verified}");
    }
    let summary = run_ok(pipeline().args(["inspect", &folder_of("drawn"), "--json"]));
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["rows"], 14);
    assert_eq!(summary["classes"]["a"], 7);
    assert_eq!(summary["cut"], "7 images a class by seed 3");

    let message = |arguments: &[&str], status: i32| {
        let mut command = pipeline();
        command.args(["cut", &uri, "--out", &folder_of("wrong")]).args(arguments);
        common::fails_with(&mut command, status)
    };
    assert!(message(&["--rows", "50..61"], 2).contains("TO <= 60"));
    assert!(message(&["--per-class", "31"], 1).contains("has 30 images, fewer than 31"));
    assert!(message(&[], 2).contains("--per-class"));
    let message =
        common::fails_with(pipeline().args(["cut", &uri, "--rows", "0..5", "--out", &uri]), 2);
    assert!(message.contains("already holds a dataset"), "{message}");

    // The dataset that was cut must stay what it was.
    let manifest = folder.path().join("dataset/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"split\": \"train\"", "\"split\": \"other\"")).unwrap();
    let message = common::fails_with(pipeline().args(["inspect", &folder_of("first")]), 1);
    assert!(message.contains("has changed"), "{message}");
}

#[test]
fn photographs_in_train_and_val_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let source = common::scenes_folder(folder.path(), 40, 32);
    let [train, val] = ["train", "val"].map(|split| {
        let out = folder.path().join("datasets").join(split);
        // Smaller copies are compared by what they were made of.
        let side = if split == "train" { "24" } else { "16" };
        let source = if split == "train" { source.clone() } else { source.join("a") };
        let mut command = pipeline();
        command.arg("ingest").arg(&source).args(["--split", split, "--short-side", side]);
        let output = command.arg("--out").arg(&out).output().unwrap();
        (out, String::from_utf8(output.stderr).unwrap())
    });
    assert!(!train.1.contains("also in"), "{}", train.1);
    assert!(val.1.contains("note: 20 images also in"), "{}", val.1);
    let text = run_ok(pipeline().arg("inspect").arg(&train.0).arg("--against").arg(&val.0));
    assert!(text.contains("20 images also in") && text.contains("a/0000.png = 0000.png"), "{text}");
}

#[test]
fn histograms_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 20, 24);
    let picture = folder.path().join("chart.png");
    run_ok(pipeline().args(["inspect", &uri, "--picture"]).arg(&picture));
    let image = pipeline::image::decode(&fs::read(&picture).unwrap()).unwrap();
    assert!(image.width() > 400 && image.height() > 600, "{:?}", image.dimensions());
}
