//! The options that name a file, with all that may have that name.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use testkit::named::{check, fifo};

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
fn files_in_a_folder_that_an_option_names_are_replaced_whole_and_links_and_fifos_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("out")).unwrap();
    std::fs::write(path("target"), "old").unwrap();
    std::os::unix::fs::symlink(path("target"), path("out/scene-00000000.png")).unwrap();
    let reader = fifo(path("out/scene-00000001.png"));
    std::fs::write(path("out/scene-00000002.png"), "old").unwrap();
    let inode = |name: &str| std::fs::metadata(path(name)).unwrap().ino();
    let before = inode("out/scene-00000002.png");
    let mut command = common::pipeline();
    command.args(["scenes", "--count", "3", "--size", "8", "--out"]).arg(path("out"));
    testkit::run_ok(&mut command);
    assert!(reader.join().unwrap().starts_with(b"\x89PNG"));
    assert!(path("out/scene-00000000.png").is_symlink());
    assert!(std::fs::read(path("target")).unwrap().starts_with(b"\x89PNG"));
    let kind = std::fs::symlink_metadata(path("out/scene-00000001.png")).unwrap().file_type();
    assert!(kind.is_fifo());
    assert_ne!(inode("out/scene-00000002.png"), before, "not replaced whole");
    assert_eq!(std::fs::read_dir(path("out")).unwrap().count(), 3, "something was left behind");
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
