//! Ingest as a user runs it: real archives, real processes, kills.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use pipeline::Dataset;
use sha2::Digest;

use crate::common::{self, fixtures, pipeline, run_ok, scenes_folder};

/// Every file below a folder but the lock, with its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != ".lock" {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn damaged_files_become_what_their_manifest_says() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let corrupt = fixtures.join("data/corrupt");
    run_ok(pipeline().arg("ingest").arg(&corrupt).arg("--out").arg(&out));
    let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
    let accepted: Vec<_> = dataset.records().map(|record| record.unwrap().key).collect();
    let rejects = dataset.rejects().unwrap();
    let text = fs::read_to_string(corrupt.join("manifest.json")).unwrap();
    let expected: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    for (name, expectation) in &expected {
        let reason = rejects.iter().find(|r| &r.key == name).map(|r| r.reason.as_str());
        let became = match reason {
            Some(reason) if reason.starts_with("duplicate:") => "duplicate",
            Some(_) => "reject",
            None if accepted.contains(name) => "accept",
            None => "lost",
        };
        assert_eq!(became, expectation["expect"], "{name}: {reason:?}");
    }
    // The list itself is no image.
    let listed = rejects.iter().filter(|reject| !reject.reason.starts_with("passed over")).count();
    assert_eq!((accepted.len() + listed, rejects.len() - listed), (expected.len(), 1));
    for record in dataset.records() {
        let record = record.unwrap();
        let image = pipeline::image::decode(&record.bytes).unwrap();
        assert_eq!(image.dimensions(), (record.width, record.height), "{}", record.key);
    }
}

#[test]
fn official_archives_are_labelled_by_sorted_synsets() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (train, val) = (folder.path().join("train"), folder.path().join("val"));
    let imagenet = fixtures.join("data/imagenet");
    let archive = imagenet.join("ILSVRC2012_img_train.tar");
    run_ok(pipeline().arg("ingest").arg(archive).arg("--out").arg(&train));
    let dataset = Dataset::open(&common::place(train.to_str().unwrap())).unwrap();
    assert_eq!(dataset.len(), 300);
    let classes = &dataset.manifest().classes;
    assert_eq!(classes.len(), 300);
    assert!(classes.is_sorted());
    for record in dataset.records() {
        let record = record.unwrap();
        let class = &classes[record.label.unwrap() as usize];
        assert!(record.key.starts_with(class.as_str()), "{} {class}", record.key);
    }

    let lists = fixtures.join("lists");
    let labels = lists.join("imagenet_2012_validation_synset_labels.txt");
    let archive = imagenet.join("ILSVRC2012_img_val.tar");
    let mut command = pipeline();
    command.arg("ingest").arg(archive).arg("--labels").arg(&labels).arg("--out").arg(&val);
    run_ok(&mut command);
    let dataset = Dataset::open(&common::place(val.to_str().unwrap())).unwrap();
    assert_eq!((dataset.len(), dataset.manifest().split.as_str()), (50, "val"));
    let official = fs::read_to_string(lists.join("imagenet_lsvrc_2012_synsets.txt")).unwrap();
    let official: Vec<&str> = official.lines().collect();
    assert_eq!(dataset.manifest().classes, official);
    let labels = fs::read_to_string(labels).unwrap();
    let labels: Vec<&str> = labels.lines().collect();
    for record in dataset.records() {
        let record = record.unwrap();
        let number: usize = record
            .key
            .trim_start_matches("ILSVRC2012_val_")
            .trim_end_matches(".JPEG")
            .parse()
            .unwrap();
        assert_eq!(official[record.label.unwrap() as usize], labels[number - 1], "{}", record.key);
    }
}

#[test]
fn shards_are_the_same_for_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 300, 48);
    let ingest = |name: &str, workers: &str| {
        let out = folder.path().join(name);
        let mut command = pipeline();
        command.arg("ingest").arg(&source).arg("--out").arg(&out);
        run_ok(command.args(["--workers", workers, "--shard-bytes", "200000"]));
        contents(&out)
    };
    let one = ingest("one", "1");
    assert!(one.len() > 4, "several shards: {:?}", one.keys());
    for (name, workers) in [("two", "2"), ("eight", "8")] {
        assert!(one == ingest(name, workers), "{workers} workers");
    }
}

#[test]
fn a_shard_of_small_images_ends_at_so_many_rows() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("small.tar");
    let png = pictures::png(&image::RgbImage::new(8, 8)).unwrap();
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    for number in 0..(1 << 16) + 5 {
        let mut header = tar::Header::new_gnu();
        header.set_size(png.len() as u64);
        builder.append_data(&mut header, format!("a/{number}.png"), &png[..]).unwrap();
    }
    builder.finish().unwrap();
    let out = folder.path().join("out");
    let options = ["--layout", "folder", "--duplicates", "keep"];
    run_ok(pipeline().arg("ingest").arg(&archive).args(options).arg("--out").arg(&out));
    let place = common::place(out.to_str().unwrap());
    let dataset = pipeline::Dataset::open(&place).unwrap();
    let rows: Vec<u64> = dataset.manifest().shards.iter().map(|shard| shard.rows).collect();
    assert_eq!(rows, [1 << 16, 5]);
    assert_eq!(dataset.key((1 << 16) + 4).unwrap(), "65540.png");
}

/// Kills an ingest at several moments; it must go on behind the shards that it had finished and end
/// with the bytes of one that was left alone.
fn killed_again_and_again(command: &dyn Fn(&Path) -> Command) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run_ok(&mut command(&whole));
    let expected = contents(&whole);

    let killed = folder.path().join("killed");
    let marks = || {
        let is_mark = |name: &str| name.ends_with(".json") && name.starts_with('0');
        let files = fs::read_dir(killed.join(".ingest")).into_iter().flatten().flatten();
        files.filter(|file| is_mark(&file.file_name().to_string_lossy())).count()
    };
    let mut resumed = 0;
    for shards in [0, 1, 3, 5] {
        let before = marks();
        let mut child = command(&killed).stderr(Stdio::piped()).spawn().unwrap();
        testkit::until("shards are finished or the ingest is through", || {
            marks() > shards || child.try_wait().unwrap().is_some()
        });
        // SIGKILL; it may have been faster than we are, then the place is finished already.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("goes on after"), before > 0, "{before} marks: {said}");
        resumed += u32::from(before > 0);
        if output.status.success() {
            assert!(contents(&killed) == expected);
            fs::remove_dir_all(&killed).unwrap();
        } else {
            assert!(
                Dataset::open(&common::place(killed.to_str().unwrap())).is_err(),
                "not a dataset yet"
            );
        }
    }
    println!("went on {resumed} times");
    run_ok(&mut command(&killed));
    assert!(contents(&killed) == expected);
}

#[test]
fn a_killed_ingest_of_a_folder_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 600, 48);
    // Rejects and duplicates must come out the same too.
    fs::write(source.join("a/0003-broken.png"), b"no image").unwrap();
    fs::copy(source.join("a/0000.png"), source.join("b/9999.png")).unwrap();
    killed_again_and_again(&|out| {
        let mut command = pipeline();
        command.arg("ingest").arg(&source).arg("--out").arg(out);
        command.args(["--shard-bytes", "200000", "--workers", "1"]);
        command
    });
}

#[test]
fn a_killed_ingest_of_archives_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 600, 48);
    let archives = ["a", "b"].map(|class| {
        let archive = folder.path().join(format!("{class}.tar"));
        let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
        builder.append_dir_all(class, source.join(class)).unwrap();
        builder.finish().unwrap();
        archive
    });
    killed_again_and_again(&|out| {
        let mut command = pipeline();
        command.arg("ingest").args(&archives).arg("--out").arg(out);
        command.args(["--shard-bytes", "200000", "--workers", "2", "--short-side", "32"]);
        command
    });
}

#[test]
fn an_ingest_killed_while_it_publishes_is_published_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 200, 48);
    let command = |out: &Path| {
        let mut command = pipeline();
        command.arg("ingest").arg(&source).arg("--out").arg(out);
        command.args(["--shard-bytes", "200000"]);
        command
    };
    let out = folder.path().join("out");
    run_ok(&mut command(&out));
    let expected = contents(&out);
    // Back to the moment between two renames: some shards have their names, some not yet.
    let (dataset, work) =
        (Dataset::open(&common::place(out.to_str().unwrap())).unwrap(), out.join(".ingest"));
    let shards = dataset.manifest().shards.clone();
    assert!(shards.len() > 3);
    let again = folder.path().join("again");
    let mut child = command(&again).args(["--workers", "1"]).stderr(Stdio::null()).spawn().unwrap();
    testkit::until("the plan is there", || again.join(".ingest/plan.json").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    fs::create_dir_all(&work).unwrap();
    if again.join(".ingest/plan.json").exists() {
        fs::copy(again.join(".ingest/plan.json"), work.join("plan.json")).unwrap();
        fs::rename(out.join("manifest.json"), work.join("manifest.json")).unwrap();
        for (number, shard) in shards.iter().enumerate().skip(2) {
            let staged = work.join(format!("{number:05}.parquet"));
            fs::rename(out.join(&shard.file), staged).unwrap();
        }
        run_ok(&mut command(&out));
        assert!(contents(&out) == expected);
    }
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 20, 32);
    let out = folder.path().join("out");
    let command = || {
        let mut command = pipeline();
        command.arg("ingest").arg(&source).arg("--out").arg(&out);
        command
    };
    fs::create_dir_all(&out).unwrap();
    let lock = fs::File::create(out.join(".lock")).unwrap();
    lock.lock().unwrap();
    let message = common::fails_with(&mut command(), 1);
    assert!(message.contains("another ingest is writing here"), "{message}");
    drop(lock);

    run_ok(&mut command());
    let before = contents(&out);
    // The very same ingest is finished already; another one is refused.
    run_ok(&mut command());
    assert!(contents(&out) == before);
    let message = common::fails_with(command().args(["--short-side", "24"]), 2);
    assert!(message.contains("already holds a finished dataset"), "{message}");
    assert!(contents(&out) == before);
    run_ok(command().args(["--overwrite", "--limit", "7"]));
    assert_eq!(Dataset::open(&common::place(out.to_str().unwrap())).unwrap().len(), 7);
    assert_eq!(fs::read_dir(out.join("data")).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_ingested_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let text = folder.path().join("notes.tar");
    fs::write(&text, "this is not an archive\n".repeat(100)).unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let cases: [(&Path, &str, i32); 5] = [
        (&pipe, "neither a file nor a folder", 1),
        (Path::new("s3://bucket"), "https://HOST/PATH", 2),
        (&text, "no tar archive", 1),
        (&empty, "holds no images", 1),
        (Path::new("/nowhere/at/all"), "No such file", 1),
    ];
    for (source, expected, status) in cases {
        let mut command = pipeline();
        command.arg("ingest").arg(source).arg("--out").arg(&out);
        let message = common::fails_with(&mut command, status);
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    let source = scenes_folder(folder.path(), 2, 32);
    for (address, expected) in [
        ("s3://bucket", "BUCKET/PREFIX"),
        ("gs:///x", "BUCKET/PREFIX"),
        ("ftp://a/b", "is not known"),
    ] {
        let mut command = pipeline();
        command.arg("ingest").arg(&source).args(["--out", address]);
        let message = common::fails_with(&mut command, 2);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn archives_that_end_early_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 30, 32);
    let archive = folder.path().join("scenes.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.append_dir_all("a", source.join("a")).unwrap();
    builder.append_dir_all("b", source.join("b")).unwrap();
    builder.finish().unwrap();
    let out = folder.path().join("out");
    run_ok(pipeline().arg("ingest").arg(&archive).arg("--out").arg(&out));
    let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
    assert_eq!(dataset.manifest().classes, ["a", "b"]);
    assert_eq!(dataset.len(), 30);

    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2 + 700]).unwrap();
    let broken = folder.path().join("broken");
    let message =
        common::fails_with(pipeline().arg("ingest").arg(&archive).arg("--out").arg(&broken), 1);
    assert!(message.contains("download it again"), "{message}");
    assert!(!broken.join("manifest.json").exists());
}

#[test]
fn no_two_images_have_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 8, 32);
    // Sources that are called alike: their keys are told apart.
    let twin = folder.path().join("elsewhere/scenes");
    fs::create_dir_all(twin.join("a")).unwrap();
    let other = pictures::png(&pipeline::scenes::scene(99, 32)).unwrap();
    fs::write(twin.join("a/0000.png"), &other).unwrap();
    let out = folder.path().join("both");
    run_ok(pipeline().arg("ingest").arg(&source).arg(&twin).arg("--out").arg(&out));
    let keys = |out: &Path| -> Vec<String> {
        let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
        dataset.records().map(|record| record.unwrap().key).collect()
    };
    let both = keys(&out);
    assert_eq!(both.len(), 9);
    assert_eq!((both[0].as_str(), both[8].as_str()), ("scenes/a/0000.png", "scenes-2/0000.png"));

    // A name that an archive has twice: the second is listed, also by an ingest that went on.
    let archive = folder.path().join("twice.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.append_dir_all(".", &source).unwrap();
    builder.append_path_with_name(twin.join("a/0000.png"), "a/0000.png").unwrap();
    builder.finish().unwrap();
    let out = folder.path().join("twice");
    run_ok(pipeline().arg("ingest").arg(&archive).arg("--out").arg(&out));
    let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
    assert_eq!(dataset.len(), 8);
    let rejects = dataset.rejects().unwrap();
    assert_eq!((rejects.len(), rejects[0].key.as_str()), (1, "a/0000.png"));
    assert!(rejects[0].reason.starts_with("second of its name"), "{}", rejects[0].reason);
}

#[test]
fn smaller_copies_have_the_side_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 10, 80);
    let out = folder.path().join("out");
    let mut command = pipeline();
    command.arg("ingest").arg(&source).arg("--out").arg(&out);
    run_ok(command.args(["--short-side", "48", "--quality", "90"]));
    let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
    for record in dataset.records() {
        let record = record.unwrap();
        assert_eq!((record.width, record.height, record.format.as_str()), (48, 48, "jpeg"));
        let file = fs::read(source.join(&record.key)).unwrap();
        let digest = sha2::Sha256::digest(file);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(record.source_sha256, Some(digest));
    }
    assert!(dataset.verify(|| {}).unwrap().findings.is_empty());
}

#[test]
fn damage_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 40, 48);
    let out = folder.path().join("out");
    run_ok(pipeline().arg("ingest").arg(&source).arg("--out").arg(&out));
    let uri = out.to_str().unwrap();
    let dataset = Dataset::open(&common::place(uri)).unwrap();
    let shard = out.join(&dataset.manifest().shards[0].file);
    run_ok(pipeline().args(["verify", uri]));

    let record = dataset.record(5).unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let at = bytes.windows(record.bytes.len()).position(|part| part == record.bytes).unwrap();
    bytes[at + record.bytes.len() / 2] ^= 0x55;
    fs::write(&shard, &bytes).unwrap();
    let output = pipeline().args(["verify", uri]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("row 5") && text.contains(&record.sha256), "{text}");

    fs::write(&shard, &bytes[..bytes.len() - 10]).unwrap();
    let message = common::fails_with(pipeline().args(["verify", uri]), 1);
    assert!(message.contains("train-00000-of-00001.parquet has"), "{message}");
    fs::remove_file(&shard).unwrap();
    let message = common::fails_with(pipeline().args(["inspect", uri]), 1);
    assert!(message.contains("cannot be read"), "{message}");
}

#[test]
fn orientation_is_noted_and_applied_only_if_asked() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("photographs");
    fs::create_dir(&source).unwrap();
    let turned = fixtures.join("data/corrupt/exif_rotated.JPEG");
    fs::copy(&turned, source.join("turned.jpg")).unwrap();
    let ingest = |name: &str, arguments: &[&str]| {
        let out = folder.path().join(name);
        run_ok(pipeline().arg("ingest").arg(&source).args(arguments).arg("--out").arg(&out));
        Dataset::open(&common::place(out.to_str().unwrap())).unwrap().record(0).unwrap()
    };
    let noted = ingest("noted", &[]);
    let file = fs::read(&turned).unwrap();
    assert_eq!((noted.orientation, &noted.bytes[..], &noted.source_sha256), (6, &file[..], &None));
    let upright = ingest("upright", &["--upright"]);
    assert_eq!((upright.width, upright.height), (noted.height, noted.width));
    assert_eq!((upright.orientation, upright.source_sha256), (1, Some(noted.sha256)));
}

#[test]
fn counts_that_differ_from_the_published_are_reported() {
    let Some(fixtures) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    let places = fixtures.join("data/places365");
    let cases = [
        (fixtures.join("data/imagenet/ILSVRC2012_img_val.tar"), "50 images, 50000 are published"),
        (places.join("train_256_places365standard.tar"), "60 images, 1803460 are published"),
        (places.join("val_256.tar"), "25 images, 36500 are published"),
    ];
    for (number, (archive, expected)) in cases.into_iter().enumerate() {
        let out = folder.path().join(number.to_string());
        let output =
            pipeline().arg("ingest").arg(&archive).arg("--out").arg(&out).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains(expected), "{said}");
    }
}

/// Same path, same length, other content: it was taken for what had been ingested.
#[test]
fn a_changed_source_is_not_finished_already() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 12, 32);
    let out = folder.path().join("out");
    let ingest = |source: &Path, more: &[&str]| {
        let mut command = pipeline();
        command.arg("ingest").arg(source).arg("--out").arg(&out).args(more);
        command
    };
    let refused = |command: &mut Command, what: &str| {
        let message = common::fails_with(command, 2);
        assert!(message.contains("already holds a finished dataset"), "{message}");
        assert!(message.contains(what) && message.contains("--overwrite"), "{message}");
    };
    run_ok(&mut ingest(&source, &[]));
    let made = contents(&out);
    run_ok(&mut ingest(&source, &[]));

    // A picture moves to another class; one is written anew with as many bytes; one goes.
    let (a, b) = (source.join("a/0000.png"), source.join("b/moved.png"));
    fs::rename(&a, &b).unwrap();
    refused(&mut ingest(&source, &[]), "names or sizes of files changed");
    fs::rename(&b, &a).unwrap();
    run_ok(&mut ingest(&source, &[]));
    let bytes = fs::read(&a).unwrap();
    fs::write(&a, &bytes).unwrap();
    refused(&mut ingest(&source, &[]), "changed since");
    assert_eq!(contents(&out), made, "nothing was touched");
    run_ok(&mut ingest(&source, &["--overwrite"]));
    let anew = contents(&out);
    assert_eq!(
        anew["manifest.json"], made["manifest.json"],
        "the same images are the same dataset"
    );

    // An archive is compared by its content where its time alone is another one.
    let archive = folder.path().join("set.tar");
    let pack = |names: [&str; 2]| {
        let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
        for (name, from) in names.into_iter().zip(["a/0002.png", "b/0001.png"]) {
            tar.append_path_with_name(source.join(from), name).unwrap();
        }
        tar.finish().unwrap();
    };
    pack(["x/1.png", "y/2.png"]);
    run_ok(&mut ingest(&archive, &["--overwrite"]));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::open(&archive).unwrap().set_modified(later).unwrap();
    run_ok(&mut ingest(&archive, &[]));
    pack(["y/1.png", "x/2.png"]);
    refused(&mut ingest(&archive, &[]), "source set.tar: changed since");

    // Of a dataset by a version that recorded less, an archive is still compared.
    pack(["x/1.png", "y/2.png"]);
    fs::remove_file(out.join("ingest.json")).unwrap();
    run_ok(&mut ingest(&archive, &[]));
    pack(["y/1.png", "x/2.png"]);
    refused(&mut ingest(&archive, &[]), "earlier version");
}

#[test]
fn a_killed_ingest_does_not_go_on_over_another_source() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 60, 64);
    let out = folder.path().join("out");
    let ingest = |more: &[&str]| {
        let mut command = pipeline();
        command.arg("ingest").arg(&source).arg("--out").arg(&out);
        command.args(["--shard-bytes", "65536", "--workers", "1"]).args(more);
        command
    };
    let mut child = ingest(&[]).stderr(Stdio::null()).spawn().unwrap();
    let first = out.join(".ingest/00000.json");
    testkit::until("a shard is finished", || first.exists() || child.try_wait().unwrap().is_some());
    let _ = child.kill();
    if child.wait().unwrap().success() {
        return;
    }
    fs::rename(source.join("a/0006.png"), source.join("b/moved.png")).unwrap();
    let message = common::fails_with(&mut ingest(&[]), 2);
    assert!(message.contains("holds an unfinished ingest of other sources"), "{message}");
    assert!(message.contains("names or sizes of files changed"), "{message}");
    run_ok(&mut ingest(&["--overwrite"]));
    let dataset = Dataset::open(&common::place(out.to_str().unwrap())).unwrap();
    let moved = dataset.records().map(Result::unwrap).find(|record| record.key == "b/moved.png");
    assert_eq!(moved.unwrap().label, Some(1));
}
