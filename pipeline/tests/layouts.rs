//! Every layout from its real archive and from the same content in its other forms.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use common::{fails_with, fixtures, pipeline, scenes_folder};
use pipeline::Dataset;
use pipeline::ingest::{IngestOptions, LayoutKind, ingest};

/// (key, name of the class, digest) of every row.
type Rows = BTreeSet<(String, Option<String>, String)>;

/// Ingests a source with the layout that it is recognized as.
fn ingested(source: &Path, out: &Path, change: impl FnOnce(&mut IngestOptions)) -> Dataset {
    let mut options =
        IngestOptions::new(vec![source.to_owned()], common::place(out.to_str().unwrap()));
    change(&mut options);
    ingest(&options, &|_| {}).unwrap();
    Dataset::open(&common::place(out.to_str().unwrap())).unwrap()
}

fn rows(dataset: &Dataset) -> Rows {
    let classes = &dataset.manifest().classes;
    let row = |record: pipeline::Record| {
        let class = record.label.map(|label| classes[label as usize].clone());
        (record.key, class, record.sha256)
    };
    dataset.records().map(|record| row(record.unwrap())).collect()
}

fn unpack(archive: &Path, to: &Path) -> PathBuf {
    tar::Archive::new(File::open(archive).unwrap()).unpack(to).unwrap();
    to.to_owned()
}

/// (name, content) of every file of a tar.
fn members(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(File::open(archive).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), content)
    });
    entries.collect()
}

fn append(builder: &mut tar::Builder<impl std::io::Write>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
}

#[test]
fn imagenet_train_is_the_same_as_tar_of_tars_as_tars_and_unpacked() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures.join("data/imagenet/ILSVRC2012_img_train.tar");
    let tars = unpack(&archive, &folder.path().join("tars"));
    let folders = folder.path().join("folders");
    for entry in fs::read_dir(&tars).unwrap() {
        let path = entry.unwrap().path();
        unpack(&path, &folders.join(path.file_stem().unwrap()));
    }
    let expected = ingested(&archive, &folder.path().join("a"), |_| {});
    assert_eq!((expected.len(), expected.manifest().classes.len()), (300, 300));
    for (source, out) in [(&tars, "b"), (&folders, "c")] {
        let dataset = ingested(source, &folder.path().join(out), |_| {});
        assert_eq!(dataset.manifest().sources[0].layout, "imagenet-train");
        assert_eq!(dataset.manifest().classes, expected.manifest().classes);
        assert_eq!(rows(&dataset), rows(&expected), "{}", source.display());
    }
}

#[test]
fn imagenet_val_is_the_same_as_tar_and_unpacked() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures.join("data/imagenet/ILSVRC2012_img_val.tar");
    let labels = fixtures.join("lists/imagenet_2012_validation_synset_labels.txt");
    let unpacked = unpack(&archive, &folder.path().join("val"));
    let ingested = |source: &Path, out: &str| {
        ingested(source, &folder.path().join(out), |options| options.labels = Some(labels.clone()))
    };
    let (packed, unpacked) = (ingested(&archive, "a"), ingested(&unpacked, "b"));
    assert_eq!((packed.len(), packed.manifest().split.as_str()), (50, "val"));
    assert_eq!(rows(&packed), rows(&unpacked));
    let truth = fs::read_to_string(&labels).unwrap();
    let truth: Vec<&str> = truth.lines().collect();
    for (key, class, _) in rows(&packed) {
        let number: usize = key["ILSVRC2012_val_".len()..][..8].parse().unwrap();
        assert_eq!(class.as_deref(), Some(truth[number - 1]), "{key}");
    }
}

#[test]
fn places365_train_is_the_same_as_tar_unpacked_and_by_letters() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures.join("data/places365/train_256_places365standard.tar");
    let unpacked = unpack(&archive, &folder.path().join("unpacked"));
    let mut letters: BTreeMap<String, tar::Builder<Vec<u8>>> = BTreeMap::new();
    for (name, content) in members(&archive) {
        let mut parts = name.splitn(3, '/').skip(1);
        let (letter, rest) = (parts.next().unwrap(), parts.next().unwrap());
        let builder = || tar::Builder::new(Vec::new());
        append(letters.entry(letter.to_owned()).or_insert_with(builder), rest, &content);
    }
    let by_letter = folder.path().join("letters.tar");
    let mut outer = tar::Builder::new(File::create(&by_letter).unwrap());
    for (letter, builder) in letters {
        append(&mut outer, &format!("data_large/{letter}.tar"), &builder.into_inner().unwrap());
    }
    outer.finish().unwrap();

    let expected = ingested(&archive, &folder.path().join("a"), |_| {});
    assert_eq!((expected.len(), expected.manifest().split.as_str()), (60, "train"));
    let list = fs::read_to_string(fixtures.join("lists/categories_places365.txt")).unwrap();
    let official: Vec<&str> = list.lines().map(|line| &line[3..line.find(' ').unwrap()]).collect();
    assert_eq!(expected.manifest().classes, official);
    for record in expected.records() {
        let record = record.unwrap();
        let class = record.key.rsplit_once('/').unwrap().0;
        assert_eq!(class, official[record.label.unwrap() as usize]);
    }
    for (source, out) in [(&unpacked, "b"), (&by_letter, "c")] {
        let dataset = ingested(source, &folder.path().join(out), |_| {});
        assert_eq!(rows(&dataset), rows(&expected), "{}", source.display());
    }
}

#[test]
fn places365_val_takes_its_labels_from_the_list() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures.join("data/places365/val_256.tar");
    let list = fixtures.join("data/places365/places365_val.txt");
    let unpacked = unpack(&archive, &folder.path().join("unpacked"));
    let labelled = |source: &Path, out: &str| {
        ingested(source, &folder.path().join(out), |options| options.labels = Some(list.clone()))
    };
    let (packed, unpacked) = (labelled(&archive, "a"), labelled(&unpacked, "b"));
    assert_eq!((packed.len(), packed.manifest().split.as_str()), (25, "val"));
    assert_eq!(rows(&packed), rows(&unpacked));
    let list = fs::read_to_string(&list).unwrap();
    let list: BTreeMap<&str, i64> = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, label)| (name, label.parse().unwrap()))
        .collect();
    for record in packed.records() {
        let record = record.unwrap();
        assert_eq!(record.label, Some(list[record.key.as_str()]), "{}", record.key);
    }
    let without = ingested(&archive, &folder.path().join("c"), |_| {});
    assert!(without.records().all(|record| record.unwrap().label.is_none()));
}

#[test]
fn class_folders_are_the_same_as_tar_and_unpacked() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let archive = fixtures.join("data/tiny-imagenet/val.tar");
    let unpacked = unpack(&archive, &folder.path().join("unpacked"));
    let as_folder = |options: &mut IngestOptions| options.layout = Some(LayoutKind::Folder);
    let packed = ingested(&archive, &folder.path().join("a"), as_folder);
    let unpacked = ingested(&unpacked, &folder.path().join("b"), as_folder);
    assert_eq!((packed.len(), packed.manifest().classes.len()), (480, 24));
    assert_eq!(rows(&packed), rows(&unpacked));
}

#[test]
fn the_devkit_gives_synsets_for_ids_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = scenes_folder(folder.path(), 10, 32);
    let val = folder.path().join("ILSVRC2012_img_val.tar");
    let mut builder = tar::Builder::new(File::create(&val).unwrap());
    for number in 0..10 {
        let class = if number % 2 == 0 { "a" } else { "b" };
        let content = fs::read(scenes.join(format!("{class}/{number:04}.png"))).unwrap();
        append(&mut builder, &format!("ILSVRC2012_val_{:08}.JPEG", number + 1), &content);
    }
    builder.finish().unwrap();

    // Ids as the committed meta.mat has them.
    let synsets = [
        "n02119789",
        "n01440764",
        "n02102040",
        "n03000684",
        "n01443537",
        "n02979186",
        "n03028079",
        "n02100735",
    ];
    let ids = [3, 1, 8, 2, 2, 5, 7, 4, 6, 1];
    let truth: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let kit = folder.path().join("ILSVRC2012_devkit_t12");
    fs::create_dir_all(kit.join("data")).unwrap();
    let meta = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/meta.mat");
    fs::copy(meta, kit.join("data/meta.mat")).unwrap();
    fs::write(kit.join("data/ILSVRC2012_validation_ground_truth.txt"), truth).unwrap();
    let archive = folder.path().join("ILSVRC2012_devkit_t12.tar.gz");
    let gzip = flate2::write::GzEncoder::new(File::create(&archive).unwrap(), Default::default());
    let mut builder = tar::Builder::new(gzip);
    builder.append_dir_all("ILSVRC2012_devkit_t12", &kit).unwrap();
    builder.into_inner().unwrap().finish().unwrap();

    let mut sorted = synsets;
    sorted.sort_unstable();
    for (labels, out) in [(&kit, "x"), (&archive, "y")] {
        let with_kit = |options: &mut IngestOptions| options.labels = Some(labels.clone());
        let dataset = ingested(&val, &folder.path().join(out), with_kit);
        assert_eq!(dataset.manifest().classes, sorted);
        for (id, record) in ids.iter().zip(dataset.records()) {
            let record = record.unwrap();
            assert_eq!(sorted[record.label.unwrap() as usize], synsets[id - 1], "{}", record.key);
        }
    }
    // The ground truth alone does not say which synsets its ids are.
    let truth = kit.join("data/ILSVRC2012_validation_ground_truth.txt");
    let mut command = pipeline();
    command.arg("ingest").arg(&val).arg("--labels").arg(&truth).arg("--out");
    let message = fails_with(command.arg(folder.path().join("z")), 1);
    assert!(message.contains("give the whole devkit"), "{message}");
}

#[test]
fn webdatasets_keep_their_numbers_and_datasets_come_back_from_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = scenes_folder(folder.path(), 12, 32);
    let tar = folder.path().join("shard-000000.tar");
    let mut builder = tar::Builder::new(File::create(&tar).unwrap());
    for number in 0..12 {
        let class = if number % 2 == 0 { "a" } else { "b" };
        let content = fs::read(scenes.join(format!("{class}/{number:04}.png"))).unwrap();
        append(&mut builder, &format!("{number:04}.png"), &content);
        append(&mut builder, &format!("{number:04}.cls"), number.to_string().as_bytes());
    }
    builder.finish().unwrap();
    let first = ingested(&tar, &folder.path().join("first"), |_| {});
    assert_eq!(first.manifest().sources[0].layout, "webdataset");
    assert_eq!(first.manifest().classes.len(), 12);
    for (number, record) in first.records().enumerate() {
        let record = record.unwrap();
        assert_eq!((record.key, record.label), (format!("{number:04}"), Some(number as i64)));
    }
    let again = ingested(&folder.path().join("first"), &folder.path().join("again"), |_| {});
    assert_eq!(again.manifest().sources[0].layout, "parquet");
    assert_eq!(again.manifest().classes, first.manifest().classes);
    let records = |dataset: &Dataset| -> Vec<_> {
        let record = |record: pipeline::Result<pipeline::Record>| {
            let record = record.unwrap();
            (record.key, record.path, record.label, record.bytes, record.sha256)
        };
        dataset.records().map(record).collect()
    };
    assert_eq!(records(&again), records(&first));
}

#[test]
fn a_list_of_classes_settles_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let scenes = scenes_folder(folder.path(), 4, 32);
    let list = folder.path().join("classes.txt");
    fs::write(&list, "zebra\nb\na\n").unwrap();
    let with_list = |options: &mut IngestOptions| options.classes = Some(list.clone());
    let dataset = ingested(&scenes, &folder.path().join("out"), with_list);
    assert_eq!(dataset.manifest().classes, ["zebra", "b", "a"]);
    for (key, class, _) in rows(&dataset) {
        assert_eq!(key.split('/').next(), class.as_deref());
    }
    fs::write(&list, "a\n").unwrap();
    let out = folder.path().join("none");
    let mut options = IngestOptions::new(vec![scenes], common::place(out.to_str().unwrap()));
    options.classes = Some(list.clone());
    let message = ingest(&options, &|_| {}).unwrap_err().to_string();
    assert!(message.contains("has the class `b`, which is not in the list"), "{message}");
}
