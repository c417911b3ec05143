//! Folders of finished files, on this machine and in an S3 server (moto).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use storage::folder::{fetch, publish, remove};
use storage::{Place, Store};
use testkit::run_ok;
use testkit::s3::Server;

/// A folder with these files.
fn folder(at: &Path, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = at.join(name);
    fs::create_dir_all(&folder).unwrap();
    for (file, bytes) in files {
        fs::write(folder.join(file), bytes).unwrap();
    }
    folder
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn names(files: &[&str]) -> Vec<String> {
    files.iter().map(|&file| file.to_owned()).collect()
}

fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn message<T: std::fmt::Debug>(result: storage::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_local_folder_is_copied_used_where_it_is_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let from = folder(home, "from", &[("model", b"weights"), ("state", b"1"), ("other", b"-")]);
    let to = home.join("runs/step-1");
    let uri = place(&format!("file://{}", to.display()));
    publish(&from, &names(&["model", "state"]), &uri).unwrap();
    assert_eq!(listed(&to), ["model", "state"]);
    assert_eq!(listed(&from), ["model", "other", "state"]);
    assert_eq!(fetch(&uri, "state", &home.join("cache")).unwrap(), to);
    assert!(!home.join("cache").exists());

    // Where the files lie already nothing is done, least of all is one removed.
    publish(&from, &names(&["model", "state"]), &place(from.to_str().unwrap())).unwrap();
    assert_eq!(listed(&from), ["model", "other", "state"]);
    // A mistake is found before the old folder is touched.
    let missing = publish(&from, &names(&["nothing", "state"]), &uri);
    assert!(message(missing).starts_with("publish "));
    assert!(
        message(publish(&from, &names(&["../from/model"]), &uri)).contains("no name of a file")
    );
    assert!(message(publish(&from, &[], &uri)).contains("no files to publish"));
    assert_eq!(listed(&to), ["model", "state"]);

    // One that cannot be replaced whole is incomplete, and says so.
    fs::remove_file(to.join("model")).unwrap();
    fs::create_dir(to.join("model")).unwrap();
    assert!(publish(&from, &names(&["model", "state"]), &uri).is_err());
    let incomplete = message(fetch(&uri, "state", home));
    assert!(incomplete.contains("not complete: there is no state in it"), "{incomplete}");

    fs::remove_dir(to.join("model")).unwrap();
    publish(&from, &names(&["model", "state"]), &uri).unwrap();
    folder(home, "runs/.step-1.removed", &[("model", b"left by a kill")]);
    let sealed = |text: &[u8]| storage::atomic::sha256(text);
    let other = message(remove(&uri, "state", &sealed(b"another")));
    assert!(other.contains("has another state than the one that is known"), "{other}");
    let seal = sealed(&fs::read(to.join("state")).unwrap());
    remove(&uri, "state", &seal).unwrap();
    assert_eq!(listed(&home.join("runs")), [""; 0]);
    remove(&uri, "state", &seal).unwrap();
    folder(home, "runs/step-1", &[("model", b"1")]);
    assert!(message(remove(&uri, "state", &seal)).contains("has no state"));
}

#[test]
fn what_is_no_folder_of_plain_files_is_not_removed() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let tree = folder(home, "tree", &[("state", b"1")]);
    folder(&tree, "step-1", &[("state", b"1")]);
    let linked = folder(home, "linked", &[("state", b"1")]);
    std::os::unix::fs::symlink(&tree, linked.join("tree")).unwrap();
    let plain = folder(home, "plain", &[("state", b"1")]);
    std::os::unix::fs::symlink(&plain, home.join("link")).unwrap();
    for wrong in ["tree", "linked", "link", "plain/state"] {
        let refused = remove(
            &place(home.join(wrong).to_str().unwrap()),
            "state",
            &storage::atomic::sha256(b"1"),
        );
        assert!(message(refused).ends_with("is no folder of plain files: not removed"));
    }
    assert_eq!(listed(home), ["link", "linked", "plain", "tree"]);
    assert_eq!(listed(&tree), ["state", "step-1"]);
    assert_eq!(listed(&plain), ["state"]);
}

/// Many writers at once: one of them creates the file, and all see what it wrote.
fn one_creates(place: &Place) {
    let won: Vec<usize> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    let store = Store::open(place).unwrap();
                    store.create("begun", vec![number as u8; 1000]).unwrap().then_some(number)
                })
            })
            .collect();
        writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect()
    });
    let store = Store::open(place).unwrap();
    let [winner] = won[..] else { panic!("{won:?} have won") };
    assert_eq!(store.read("begun", 1000).unwrap().unwrap(), vec![winner as u8; 1000]);
    assert_eq!(store.list("").unwrap().into_keys().collect::<Vec<_>>(), ["begun"]);
    store.probe().unwrap();
    assert_eq!(store.list("").unwrap().len(), 1);
}

#[test]
fn of_many_writers_one_creates_a_file() {
    let home = tempfile::tempdir().unwrap();
    one_creates(&Place::folder(home.path().join("new")).unwrap());
    fs::write(home.path().join("file"), b"").unwrap();
    let wrong = Store::open(&Place::folder(home.path().join("file/in")).unwrap()).unwrap();
    assert!(wrong.probe().unwrap_err().is_usage());
}

/// The library reads where the server is from the environment, so the test runs itself with one.
#[test]
fn a_folder_in_a_store_is_published_fetched_once_and_removed() {
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return in_a_store();
    }
    let Some(server) = Server::start() else { return };
    let mut again = Command::new(std::env::current_exe().unwrap());
    let name = "a_folder_in_a_store_is_published_fetched_once_and_removed";
    run_ok(server.with(again.args(["--exact", name])));
    assert_eq!(server.names(""), ["runs/tree/deep/state", "runs/tree/state"]);
}

fn in_a_store() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let cache = home.join("cache");
    // Three parts of an upload and of a download, the last one short; an empty file.
    let large: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let files = names(&["model", "empty", "state"]);
    let from = folder(home, "from", &[("model", &large), ("empty", b""), ("state", b"one")]);
    let text = "s3://laboratory/runs/1/step-1";
    let uri = &place(text);
    let incomplete = message(fetch(uri, "state", &cache));
    assert!(incomplete.contains(text) && incomplete.contains("not complete"), "{incomplete}");
    publish(&from, &files, uri).unwrap();

    let fetched = fetch(uri, "state", &cache).unwrap();
    assert_eq!(fetched.parent(), Some(cache.as_path()));
    let digits = fetched.file_name().unwrap().to_str().unwrap();
    assert!(digits.len() == 16 && digits.chars().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(listed(&fetched), ["empty", "model", "state"]);
    assert!(fs::read(fetched.join("model")).unwrap() == large);
    // Again, also by another spelling, nothing is downloaded; but it counts as used.
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    fs::File::open(&fetched).unwrap().set_modified(long_ago).unwrap();
    let made = |file: &str| fs::metadata(fetched.join(file)).unwrap().ino();
    let before = made("model");
    assert_eq!(fetch(&place(&format!("{text}/")), "state", &cache).unwrap(), fetched);
    assert_eq!(made("model"), before);
    let copy = storage::cache::copies(&cache).unwrap().remove(0);
    assert!(copy.name == digits && copy.bytes == 20_000_003 && copy.used > long_ago);
    assert_eq!(listed(&cache), [digits.to_owned(), format!("{digits}.lock")]);

    // Another content, by several at once.
    fs::write(from.join("model"), b"small").unwrap();
    fs::write(from.join("state"), b"two").unwrap();
    publish(&from, &files, uri).unwrap();
    folder(&cache, &format!("{digits}.part"), &[("model", b"left by a kill")]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let fetched = fetch(uri, "state", &cache).unwrap();
                assert_eq!(fs::read(fetched.join("model")).unwrap(), b"small");
            });
        }
    });
    assert_eq!(fs::read(fetched.join("state")).unwrap(), b"two");
    assert_eq!(listed(&cache), [digits.to_owned(), format!("{digits}.lock")]);

    // What was let go is fetched anew.
    assert!(storage::cache::discard(&cache, digits).unwrap());
    assert_eq!(listed(&cache), [format!("{digits}.lock")]);
    assert_eq!(fetch(uri, "state", &cache).unwrap(), fetched);
    assert_eq!(listed(&fetched), ["empty", "model", "state"]);

    // A folder whose last file is gone is none, however much of it is cached.
    let seal = storage::atomic::sha256(b"two");
    remove(uri, "state", &seal).unwrap();
    publish(&from, &names(&["empty", "model"]), uri).unwrap();
    assert!(message(fetch(uri, "state", &cache)).contains("not complete"));
    remove(uri, "state", &seal).unwrap();

    for tree in ["runs/tree", "runs/tree/deep"] {
        publish(&from, &names(&["state"]), &place(&format!("s3://laboratory/{tree}"))).unwrap();
    }
    one_creates(&place("s3://laboratory/created"));
    Store::open(&place("s3://laboratory/created")).unwrap().remove("begun").unwrap();
    let nowhere = Store::open(&place("s3://nowhere/created")).unwrap();
    let missing = nowhere.probe().unwrap_err();
    assert!(missing.is_usage() && missing.to_string().contains("no such bucket"), "{missing}");
    let refused = message(remove(&place("s3://laboratory/runs/tree"), "state", ""));
    assert!(refused.ends_with("is no folder of plain files: not removed"), "{refused}");
}
