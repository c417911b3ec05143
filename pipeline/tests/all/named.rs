//! The options that name a file, with all that may have that name.

use testkit::named::check;

use crate::common;

#[test]
fn options_that_name_a_file_leave_devices_fifos_and_links_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let uri = common::scenes_dataset(folder.path(), 4, 32);
    let preview =
        ["preview", "--dataset", &uri, "--set", "data.image_size=32", "--count", "2", "--out"];
    let masks = ["masks", &uri, "--bin", "10-20", "--size", "32", "--picture"];
    for arguments in [&["inspect", &uri, "--picture"][..], &masks, &preview] {
        check(b"\x89PNG", ".png", true, |path| {
            let mut command = common::pipeline();
            command.args(arguments).arg(path);
            command
        });
    }
}

#[test]
fn typed_control_characters_and_bad_names_come_back_harmless() {
    for arguments in [
        &["inspect", "no\u{1b}]0;x\u{7}/where"][..],
        &["ingest", "x", "--out", "y", "--name", "a\u{1b}[2Jb"],
    ] {
        let output = common::pipeline().args(arguments).output().unwrap();
        let error = testkit::text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(error.contains("\\x1b") && !error.contains(['\u{1b}', '\u{7}']), "{error:?}");
    }
}
