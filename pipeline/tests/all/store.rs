//! Datasets in an object store: a real S3 server (moto) on loopback, real processes.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::{self, Server, run_ok, scenes_folder};

/// The program under test, told where the server is.
fn pipeline(server: &Server) -> Command {
    let mut command = common::pipeline();
    server.with(&mut command);
    command
}

#[test]
fn a_store_holds_the_same_datasets_as_a_folder() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 90, 40);
    let local = folder.path().join("scenes-local");
    let remote = "s3://laboratory/sets/scenes";
    for out in [local.to_str().unwrap(), remote] {
        let mut command = pipeline(&server);
        command.arg("ingest").arg(&source).args(["--out", out, "--name", "scenes"]);
        run_ok(command.args(["--shard-bytes", "70000"]));
    }
    let manifest = fs::read(local.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let shards = manifest["shards"].as_array().unwrap();
    assert!(shards.len() > 2);
    for shard in shards {
        let key = format!("sets/scenes/{}", shard["file"].as_str().unwrap());
        assert_eq!(server.sha256(&key), shard["sha256"].as_str().unwrap());
    }
    // Shards, manifest, rejects and what it was made from, and nothing unfinished.
    assert_eq!(server.names("sets/scenes/").len(), shards.len() + 3);

    let inspect = |uri: &str| {
        let text = run_ok(pipeline(&server).args(["inspect", uri, "--json"]));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(inspect(remote), inspect(local.to_str().unwrap()));
    let said = run_ok(pipeline(&server).args(["verify", remote]));
    assert!(said.contains("90 images are as their digests say"), "{said}");

    // What the loader makes of both is the same.
    let preview = |uri: &str, name: &str| {
        let picture = folder.path().join(name);
        let mut command = pipeline(&server);
        command.args(["preview", "--dataset", uri, "--set", "data.image_size=32", "--out"]);
        run_ok(command.arg(&picture));
        fs::read(picture).unwrap()
    };
    assert!(preview(remote, "a.png") == preview(local.to_str().unwrap(), "b.png"));

    let cut = "s3://laboratory/sets/first";
    run_ok(pipeline(&server).args(["cut", remote, "--rows", "0..30", "--out", cut]));
    assert_eq!(server.names("sets/first/"), ["sets/first/manifest.json"]);
    assert_eq!(inspect(cut)["rows"], 30);
    run_ok(pipeline(&server).args(["verify", cut]));

    let mut again = pipeline(&server);
    again.arg("ingest").arg(&source).args(["--out", remote, "--name", "other"]);
    let message = common::fails_with(&mut again, 2);
    assert!(message.contains("already holds a finished dataset"), "{message}");
    let mut nowhere = pipeline(&server);
    nowhere.arg("ingest").arg(&source).args(["--out", "s3://elsewhere/scenes"]);
    let message = common::fails_with(&mut nowhere, 2);
    assert!(message.contains("no such bucket"), "{message}");
    let message = common::fails_with(pipeline(&server).args(["inspect", "s3://laboratory/no"]), 1);
    assert!(message.contains("no manifest.json in it"), "{message}");
    let mut wrong = pipeline(&server);
    let message = common::fails_with(wrong.args(["inspect", "s3://elsewhere/sets/scenes"]), 1);
    assert!(message.contains("elsewhere") && !message.contains("hunter2"), "{message}");
}

#[test]
fn a_killed_ingest_into_a_store_goes_on_and_ends_the_same() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 300, 48);
    let command = |out: &str| {
        let mut command = pipeline(&server);
        command.arg("ingest").arg(&source).args(["--out", out, "--name", "scenes"]);
        command.args(["--shard-bytes", "100000", "--workers", "1"]);
        command
    };
    let local = folder.path().join("local");
    run_ok(&mut command(local.to_str().unwrap()));
    let manifest = fs::read(local.join("manifest.json")).unwrap();

    let remote = "s3://laboratory/killed";
    let mut child = command(remote).stderr(Stdio::null()).spawn().unwrap();
    testkit::until("a shard is finished", || {
        let done = child.try_wait().unwrap().is_some();
        done || server.names("killed/.ingest/").iter().any(|name| name.ends_with("00001.json"))
    });
    let _ = child.kill();
    if !child.wait().unwrap().success() {
        // Its claim stands for a minute, for all that the store knows.
        let message = common::fails_with(&mut command(remote), 1);
        assert!(message.contains("another ingest is writing here"), "{message}");
        server.script("store.delete_object(Bucket='laboratory', Key='killed/.ingest.claim')");
        // On a busy machine it may have been killed when everything was made and only had to take its
        // place; then that is all that is left to do.
        let there = server.names("killed/");
        let made = |name: &String| name.ends_with("manifest.json") || name.contains("/data/");
        let ending = there.iter().any(made);
        let output = command(remote).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let goes_on = ending || said.contains("goes on after");
        assert!(output.status.success() && goes_on, "{}: {said} after {there:?}", output.status);
    }
    let read = "store.get_object(Bucket='laboratory', Key='killed/manifest.json')['Body'].read()";
    let made = server.script(&format!("print({read}.decode(), end='')"));
    assert!(made.as_bytes() == manifest, "the manifest names every shard's digest");
    assert!(server.names("killed/.ingest").is_empty());
}

#[test]
fn what_is_read_ahead_is_what_is_there() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 120, 48);
    let local = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let remote = |name: &str| format!("s3://laboratory/ahead/{name}");
    for (name, shard_bytes) in [("one", "70000"), ("two", "90000")] {
        for out in [local(name), remote(name)] {
            let mut command = pipeline(&server);
            command.arg("ingest").arg(&source).args(["--out", &out, "--name", name]);
            run_ok(command.args(["--shard-bytes", shard_bytes]));
        }
    }
    // A mixture and a single dataset, in every order: the same pictures from both.
    let sheet = |places: [String; 2], weight: &str, shuffle: &str, out: &str| {
        let config = folder.path().join("config.toml");
        let datasets = places.iter().zip(["1.0", weight]);
        let datasets: Vec<_> = datasets
            .map(|(uri, weight)| format!("{{ uri = '{uri}', weight = {weight} }}"))
            .collect();
        let data = format!(
            "[data]\ndatasets = [{}]\nshuffle = '{shuffle}'\nwindow = 2\nimage_size = 16\n\
             tasks = {{ colorization = 1.0 }}\nthreads = 2\n",
            datasets.join(", ")
        );
        fs::write(&config, data).unwrap();
        let picture = folder.path().join(out);
        let mut command = pipeline(&server);
        command.arg("preview").arg(&config).args(["--count", "64", "--out"]).arg(&picture);
        run_ok(&mut command);
        fs::read(picture).unwrap()
    };
    for shuffle in ["full", "window", "none"] {
        for weight in ["0.0", "2.0"] {
            let near = sheet([local("one"), local("two")], weight, shuffle, "near.png");
            let far = sheet([remote("one"), remote("two")], weight, shuffle, "far.png");
            assert!(near == far, "{shuffle} {weight}");
        }
    }
    // In the dataset's order many images come by one request, and no more is read than there is.
    let mut command = pipeline(&server);
    command.args(["bench", "--dataset", &remote("one"), &remote("two"), "--shuffle", "none"]);
    command.args(["--size", "16", "--task", "colorization", "--seconds", "1", "--rounds", "1"]);
    let text = run_ok(command.arg("--json"));
    let speed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let figure = |name: &str| speed[name].as_f64().unwrap();
    assert!(figure("requests_per_image") < 0.5, "{text}");
    let shards = fs::read_dir(folder.path().join("one/data")).unwrap();
    let stored: u64 = shards.map(|shard| shard.unwrap().metadata().unwrap().len()).sum();
    assert!(figure("bytes_per_image") < 2.0 * stored as f64 / 120.0, "{text}");
}

#[test]
fn a_worker_with_roots_in_a_store_reaches_nothing_beside_them() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let scenes = scenes_folder(folder.path(), 20, 40);
    for set in ["sets/scenes", "secret/scenes"] {
        let out = format!("s3://laboratory/{set}");
        run_ok(pipeline(&server).arg("ingest").arg(&scenes).args(["--out", &out]));
    }
    let cut = ["cut", "s3://laboratory/secret/scenes", "--rows", "0..5"];
    run_ok(pipeline(&server).args(cut).args(["--out", "s3://laboratory/sets/cut"]));
    let bounded = |arguments: &[&str]| {
        let roots = serde_json::json!({
            "read": [&scenes],
            "write": [folder.path()],
            "read_far": ["s3://laboratory/sets/"],
            "write_far": ["s3://laboratory/out"],
        });
        let mut command = pipeline(&server);
        command.env("PALETTE_ROOTS", roots.to_string()).env("TMPDIR", folder.path());
        command.args(arguments);
        command
    };
    let source = scenes.to_str().unwrap();
    run_ok(&mut bounded(&["verify", "s3://laboratory/sets/scenes"]));
    run_ok(&mut bounded(&["ingest", source, "--out", "s3://laboratory/out/scenes"]));
    run_ok(&mut bounded(&["verify", "s3://laboratory/out/scenes"]));
    let before = server.names("");
    for arguments in [
        &["verify", "s3://laboratory/secret/scenes"][..],
        &["verify", "s3://laboratory/sets-of-others/scenes"],
        &["verify", "s3://elsewhere/sets/scenes"],
        &["verify", "gs://laboratory/sets/scenes"],
        // It names its dataset, which lies in the bucket, too.
        &["verify", "s3://laboratory/sets/cut"],
        &["ingest", "s3://laboratory/secret/scenes", "--out", "s3://laboratory/out/stolen"],
        &["ingest", source, "--out", "s3://laboratory/sets/more"],
        &["ingest", source, "--out", "s3://laboratory/outside"],
    ] {
        let output = bounded(arguments).output().unwrap();
        let message = testkit::text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(message.contains(" of this worker (--"), "{arguments:?}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert_eq!(server.names(""), before);
}
