//! What a program prints on stderr: the same lines as text and as JSON, and less or more of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::common::{pipeline, scenes_folder};

/// What `pipeline --layout auto` prints on stderr of an ingest, with these arguments and variables.
fn ingest(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 4, 32);
    let mut command = pipeline();
    command.arg("ingest").arg(&source).arg("--out").arg(folder.path().join("dataset"));
    command.args(["--layout", "auto"]).args(arguments);
    command.env_remove("RUST_LOG").env_remove("PALETTE_LOG_FORMAT");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}: {stderr}");
    stderr
}

fn objects(stderr: &str) -> Vec<Value> {
    stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_message_is_a_line_for_people_or_an_object_for_programs() {
    let text = ingest(&[], &[]);
    let line = text.lines().find(|line| line.contains(" is taken for ")).expect(&text);
    assert!(!line.contains("INFO") && !line.contains("pipeline::"), "{line}");
    for json in
        [ingest(&["--log-format", "json"], &[]), ingest(&[], &[("PALETTE_LOG_FORMAT", "json")])]
    {
        let objects = objects(&json);
        let taken = |object: &&Value| {
            object["message"].as_str().is_some_and(|message| message.contains(" is taken for "))
        };
        let object = objects.iter().find(taken).expect(&json);
        assert_eq!(
            (&object["level"], &object["target"]),
            (&"INFO".into(), &"pipeline::commands::ingest".into())
        );
        assert!(object["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{object}");
    }
}

/// A name may have as many characters as a file says, and four are printed for each of these bytes.
#[test]
fn a_warning_is_cut_where_an_archive_makes_it_long() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("names.tar");
    let mut tar = tar::Builder::new(fs::File::create(&source).unwrap());
    let image = pictures::png(&pipeline::scenes::scene(1, 32)).unwrap();
    for name in [[b"a/", &b"\xff".repeat(60_000)[..], b".png"].concat(), b"a/1.png".to_vec()] {
        let mut header = tar::Header::new_gnu();
        header.set_size(image.len() as u64);
        tar.append_data(&mut header, OsStr::from_bytes(&name), &image[..]).unwrap();
    }
    tar.finish().unwrap();
    let said = |form: &str| {
        let mut command = pipeline();
        command.arg("ingest").arg(&source).arg("--out").arg(folder.path().join(form));
        let output = command.args(["--log-format", form]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let text = said("text");
    let warning = text.lines().find(|line| line.starts_with("warning: ")).unwrap();
    assert!(warning.ends_with('…'), "{warning}");
    assert!((3900..=4001).contains(&warning.chars().count()), "{warning}");
    let objects = objects(&said("json"));
    let messages = objects.iter().filter_map(|object| object["message"].as_str());
    assert_eq!(messages.map(|message| message.chars().count()).max(), Some(4001));
}

#[test]
fn flags_and_rust_log_say_how_much_is_printed() {
    assert_eq!(ingest(&["--quiet"], &[]), "");
    assert_eq!(ingest(&["--quiet"], &[("RUST_LOG", "trace")]), "");
    assert_eq!(ingest(&[], &[("RUST_LOG", "warn")]), "");
    assert!(ingest(&[], &[("RUST_LOG", "off,pipeline=info")]).contains(" is taken for "));
    assert!(ingest(&["--verbose"], &[("RUST_LOG", "off")]).contains(" is taken for "));
}

#[test]
fn an_error_is_printed_in_either_form_and_wrong_levels_are_wrong_use() {
    let inspect = |arguments: &[&str], log: &str| {
        let mut command = pipeline();
        command.args(["inspect", "/nowhere/at/all"]).args(arguments).env("RUST_LOG", log);
        let output = command.env_remove("PALETTE_LOG_FORMAT").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = inspect(&["--quiet"], "");
    let error = text.strip_prefix("error: ").unwrap().trim_end();
    assert!(error.contains("/nowhere/at/all") && !error.contains('\n'), "{text}");
    let (same, json) = inspect(&["--log-format", "json"], "");
    assert_eq!(status, same);
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&object["level"], &object["message"]), (&"ERROR".into(), &error.into()));
    let (status, text) = inspect(&[], "pipeline=loud");
    assert!(status == Some(2) && text.contains("RUST_LOG is `pipeline=loud`"), "{text}");
}
