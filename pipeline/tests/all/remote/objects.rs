//! Sources in an object store: taken up again as files of servers are, and prefixes as folders.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::server::{Act, Request, Served, Server};
use super::{Photographs, ingest, manifest};
use crate::common::{self, fails_with, run_ok, scenes_folder};

/// The program, told that this server is S3.
fn as_s3(server: &Server, source: &str, out: &Path) -> Command {
    let mut command = ingest(source, out);
    command.env("AWS_ENDPOINT", format!("http://{}", server.address));
    command.envs([("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1")]);
    command.envs([("AWS_ACCESS_KEY_ID", "somebody"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]);
    command
}

#[test]
fn objects_are_taken_up_again_as_files_of_servers_are() {
    let photographs = Photographs::new();
    let server = Server::start();
    let monday = "Mon, 05 Jan 2026 00:00:00 GMT";
    let first = Served { modified: Some(monday.into()), ..Served::new(photographs.tar.clone()) };
    let path = "/bucket/x/photographs.tar";
    server.serve(path, first.clone());
    let rules: [fn(&Request) -> Act; 3] = [
        |request| Act { cut: (!request.is_look()).then_some(60_000), ..Act::default() },
        |request| Act { stall: (!request.is_look()).then_some(200_000), ..Act::default() },
        |request| match request.number % 2 {
            0 => Act { cut: (!request.is_look()).then_some(150_000), ..Act::default() },
            _ => Act { only: Some((503, String::new())), ..Act::default() },
        },
    ];
    for (number, rule) in rules.into_iter().enumerate() {
        server.requests();
        server.rule(rule);
        let out = photographs.path(&format!("s3-{number}"));
        run_ok(&mut as_s3(&server, "s3://bucket/x/photographs.tar", &out));
        assert!(manifest(&out) == photographs.expected);
        let asked = server.requests();
        let pinned = |request: &&Request| request.headers.contains_key("if-match");
        let parts = asked.iter().filter(|request| request.range().is_some());
        assert!(parts.clone().count() > 3 && parts.clone().filter(pinned).count() == parts.count());
    }
    for careless in [false, true] {
        server.serve(path, first.clone());
        server.requests();
        let change = server.changer();
        let replaced = Served { tag: Some("\"second\"".into()), ..first.clone() };
        server.rule(move |request| {
            if request.number == 5 {
                change.serve(path, replaced.clone());
            }
            Act { cut: (!request.is_look()).then_some(60_000), careless, ..Act::default() }
        });
        let out = photographs.path("s3-replaced");
        let message = fails_with(&mut as_s3(&server, "s3://bucket/x/photographs.tar", &out), 2);
        assert!(message.contains("is another file than the one that was begun"), "{message}");
        assert!(message.contains("s3://bucket/x/photographs.tar"), "{message}");
        assert!(!out.join("manifest.json").exists());
    }
}

#[test]
fn prefixes_of_a_store_are_folders() {
    let Some(s3) = common::Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let scenes = scenes_folder(folder.path(), 40, 48);
    fs::write(scenes.join("a/notes.txt"), "no image").unwrap();
    fs::write(scenes.join("b/broken.png"), "no image").unwrap();
    // Class archives, a dataset of our own as parquet files, an archive alone.
    let archives = at("archives");
    fs::create_dir(&archives).unwrap();
    for (class, number) in [("a", "n00000001"), ("b", "n00000002")] {
        let file = fs::File::create(archives.join(format!("{number}.tar"))).unwrap();
        let mut builder = tar::Builder::new(file);
        builder.append_dir_all(".", scenes.join(class)).unwrap();
        builder.finish().unwrap();
    }
    run_ok(&mut ingest(scenes.to_str().unwrap(), &at("rows")));
    for name in [".lock", "ingest.json", "manifest.json"] {
        fs::remove_file(at("rows").join(name)).unwrap();
    }
    for name in ["scenes", "archives", "rows"] {
        let root = at(name);
        s3.script(&format!(
            "import os\nfor at, _, files in os.walk('{0}'):\n    for file in files:\n        \
             path = os.path.join(at, file)\n        \
             store.upload_file(path, 'laboratory', 'sets/{name}/' + os.path.relpath(path, '{0}'))",
            root.display()
        ));
    }
    for name in ["scenes", "archives", "rows", "archives/n00000001.tar"] {
        let plain = name.replace('/', "-");
        let (near, far) = (at(&format!("near-{plain}")), at(&format!("far-{plain}")));
        run_ok(&mut ingest(at(name).to_str().unwrap(), &near));
        let source = format!("s3://laboratory/sets/{name}");
        run_ok(s3.with(&mut ingest(&source, &far)));
        assert!(manifest(&near) == manifest(&far), "{name}");
        let said = s3.with(&mut ingest(&source, &far)).output().unwrap().stderr;
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("is finished already"), "{name}: {said}");
    }
    // One file becomes another one.
    s3.script(
        "store.put_object(Bucket='laboratory', Key='sets/scenes/b/broken.png', Body=b'no images')",
    );
    let far = at("far-scenes");
    let message = fails_with(s3.with(&mut ingest("s3://laboratory/sets/scenes", &far)), 2);
    assert!(message.contains("names or sizes of files changed"), "{message}");
    let message = fails_with(s3.with(&mut ingest("s3://laboratory/sets/none", &at("none"))), 2);
    assert!(message.contains("no such object, nor any below it"), "{message}");
}
