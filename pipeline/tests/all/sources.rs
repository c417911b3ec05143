//! Sources as they come from the field: what is read, what is refused by name, what is listed. Nothing
//! is lost without a word, and no label shifts.

mod labels;
mod packed;
mod parquet;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use pipeline::Dataset;
use pipeline::ingest::{Event, IngestOptions, LayoutKind, ingest};

use crate::common::{fixtures, place, scenes_folder};

/// (key, class) of every row, (key, reason) of every reject, and the notes.
struct Ingested {
    rows: Vec<(String, Option<String>)>,
    classes: Vec<String>,
    rejects: Vec<(String, String)>,
    notes: Vec<String>,
    unlabelled: u64,
    layout: String,
}

impl Ingested {
    fn keys(&self) -> Vec<&str> {
        self.rows.iter().map(|(key, _)| key.as_str()).collect()
    }

    fn class(&self, key: &str) -> Option<&str> {
        self.rows.iter().find(|(other, _)| other == key).and_then(|(_, class)| class.as_deref())
    }

    fn reason(&self, key: &str) -> &str {
        self.rejects.iter().find(|(other, _)| other == key).map_or("", |(_, reason)| reason)
    }

    fn notes(&self) -> String {
        self.notes.join("\n")
    }
}

fn tried(source: &Path, change: impl FnOnce(&mut IngestOptions)) -> Result<Ingested, String> {
    let folder = tempfile::tempdir().unwrap();
    let out = place(folder.path().join("out").to_str().unwrap());
    let mut options = IngestOptions::new(vec![source.to_owned()], out.clone());
    change(&mut options);
    let notes = Mutex::new(Vec::new());
    let tell = |event: Event| {
        if let Event::Note { note, .. } = event {
            notes.lock().unwrap().push(note);
        }
    };
    let manifest = ingest(&options, &tell).map_err(|error| error.to_string())?;
    let dataset = Dataset::open(&out).unwrap();
    let row = |record: pipeline::Record| {
        let class = record.label.map(|label| manifest.classes[label as usize].clone());
        (record.key, class)
    };
    Ok(Ingested {
        rows: dataset.records().map(|record| row(record.unwrap())).collect(),
        rejects: dataset.rejects().unwrap().into_iter().map(|r| (r.key, r.reason)).collect(),
        notes: notes.into_inner().unwrap(),
        layout: manifest.sources[0].layout.clone(),
        unlabelled: manifest.counts.unlabelled,
        classes: manifest.classes,
    })
}

fn ingested(source: &Path) -> Ingested {
    tried(source, |_| {}).unwrap()
}

/// The message of a source that is refused; one line of text.
fn refused(source: &Path) -> String {
    let message = tried(source, |_| {}).err().expect("it is refused");
    assert!(!message.contains(char::is_control) && !message.contains('\u{fffd}'), "{message:?}");
    message
}

/// A photograph, another one for each number.
fn image(number: u64) -> Vec<u8> {
    pictures::png(&pipeline::scenes::scene(number, 32)).unwrap()
}

/// A tar with names as they are, byte by byte.
fn tar_of(files: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.extend(header.as_bytes());
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn images_of(names: &[&str]) -> Vec<u8> {
    let files: Vec<(&[u8], Vec<u8>)> =
        names.iter().zip(0..).map(|(name, number)| (name.as_bytes(), image(number))).collect();
    tar_of(&files)
}

fn write(at: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = at.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn odd(name: &str) -> Option<PathBuf> {
    let path = fixtures()?.join("data/odd").join(name);
    path.exists().then_some(path)
}

fn unpack(archive: &Path, to: &Path) -> PathBuf {
    tar::Archive::new(fs::File::open(archive).unwrap()).unpack(to).unwrap();
    to.to_owned()
}

#[test]
fn archives_one_behind_the_other_are_read_and_other_bytes_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let (one, two) =
        (images_of(&["cat/0.png", "dog/1.png"]), images_of(&["dog/2.png", "owl/3.png"]));
    // The end mark of the first as a whole, as a lone block of zeros, and not there at all.
    let tar = write(at.path(), "two.tar", [one.clone(), two.clone()].concat());
    let both = tried(&tar, |_| {});
    // Both have images 0 and 1, byte by byte the same.
    let both = both.unwrap();
    assert_eq!((both.rows.len() + both.rejects.len(), both.classes.len()), (4, 3));
    assert!(both.notes().contains("behind their end mark, which are read too"), "{}", both.notes());
    let lone = [one[..one.len() - 512].to_vec(), two.clone()].concat();
    let lone = ingested(&write(at.path(), "lone.tar", lone));
    assert_eq!((lone.rows.len() + lone.rejects.len(), lone.classes.len()), (4, 3));
    let joined = [one[..one.len() - 1024].to_vec(), two].concat();
    assert!(ingested(&write(at.path(), "joined.tar", joined)).notes.is_empty());
    let padded = [one.clone(), vec![0; 100_000]].concat();
    assert_eq!(ingested(&write(at.path(), "padded.tar", padded)).rows.len(), 2);
    for junk in [b"some bytes".to_vec(), vec![7; 5000]] {
        let message = refused(&write(at.path(), "junk.tar", [one.clone(), junk].concat()));
        assert!(message.contains("has bytes behind its end mark, from byte"), "{message}");
        assert!(message.contains(&format!("truncate -s {}", one.len())), "{message}");
    }
}

#[test]
fn names_that_are_not_utf8_stay_different() {
    let at = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [b"caf\xe9/1.png", b"caf\xe8/1.png", b"dog/\xe9.png", b"dog/\xe8.png"];
    let files: Vec<_> = names.into_iter().zip(0..).map(|(n, i)| (n, image(i))).collect();
    let tar = write(at.path(), "latin1.tar", tar_of(&files));
    let packed = ingested(&tar);
    assert_eq!(packed.classes, [r"caf\xE8", r"caf\xE9", "dog"]);
    assert_eq!(packed.class(r"caf\xE9/1.png"), Some(r"caf\xE9"));
    assert_eq!(packed.rows.len(), 4);
    assert!(packed.notes().contains("names are not UTF-8"), "{}", packed.notes());
    let folder = ingested(&unpack(&tar, &at.path().join("unpacked")));
    assert_eq!((folder.rows.len(), &folder.classes), (4, &packed.classes));
}

#[test]
fn backslashes_are_separators_where_nothing_else_is() {
    let at = tempfile::tempdir().unwrap();
    let names = [r"cat\0.png", r"dog\1.png", r"owl\2.png"];
    let tar = write(at.path(), "windows.tar", images_of(&names));
    let packed = ingested(&tar);
    assert_eq!(packed.classes, ["cat", "dog", "owl"]);
    assert!(packed.notes().contains(r"names have `\` for `/`"), "{}", packed.notes());
    let folder = ingested(&unpack(&tar, &at.path().join("unpacked")));
    assert_eq!(folder.classes, packed.classes);
}

#[test]
fn a_backslash_that_writes_a_byte_separates_nothing() {
    let at = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [br"caf\xE9.png", b"caf\xe9.png", br"a\xc3\xa9.png", b"plain.png"];
    let files: Vec<_> = names.into_iter().zip(0..).map(|(n, i)| (n, image(i))).collect();
    let tar = write(at.path(), "written.tar", tar_of(&files));
    let strange = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let unpacked = unpack(&tar, &at.path().join(strange));
    for source in [&tar, &unpacked] {
        let read = ingested(source);
        assert!(read.classes.is_empty(), "{:?}", read.classes);
        let mut keys = read.keys();
        keys.sort_unstable();
        let expected = [r"a\xc3\xa9.png", r"caf\x5CxE9.png", r"caf\xE9.png", "plain.png"];
        assert_eq!(keys, expected);
        let said = read.notes().contains(r"the path is not UTF-8");
        assert_eq!(said, source == &unpacked, "{}", read.notes());
        assert_eq!(read.notes().contains(r"/caf\xE9"), said, "{}", read.notes());
    }
}

#[test]
fn what_is_no_archive_is_called_what_it_is() {
    let at = tempfile::tempdir().unwrap();
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("a.tar", b"<!DOCTYPE html><p>Log in".to_vec(), "a web page (HTML)"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\0".repeat(100), "a 7z archive"),
        ("a.tar.xz", b"\xfd7zXZ\0\0\x04\xe6".repeat(100), "xz -dk FILE"),
        ("a.tar.br", b"\x8b\xff\x07\x80".repeat(300), "brotli -dk FILE"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec(), "a single JPEG image"),
        ("a.png", image(0), "a single PNG image"),
        ("a.tar.lz4", b"\x04\x22\x4d\x18zzzz".repeat(200), "lz4 -d FILE"),
        ("b.tar", vec![0; 5_000_000], "zeros alone"),
        ("c.tar", Vec::new(), "is no tar archive but empty"),
        ("d.tar", b"\x01\x02\x03\x80\xff\x1b[31m".repeat(90), "data of an unknown format"),
    ];
    for (name, content, expected) in cases {
        let message = refused(&write(at.path(), name, content));
        assert!(message.contains(expected), "{name}: {message}");
        let again = message.contains("again");
        assert_eq!(again, name == "b.tar" || name == "c.tar", "{name}: {message}");
    }
    // An archive within the archive is named.
    let inner = b"<html>404</html>".repeat(60);
    let outer =
        tar_of(&[(b"n01440764.tar", images_of(&["n01440764_1.JPEG"])), (b"n01443537.tar", inner)]);
    let message = refused(&write(at.path(), "outer.tar", outer));
    assert!(message.contains("its n01443537.tar is no tar archive but a web page"), "{message}");
    // Gzip of something else.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    gzip.write_all(&image(0)).unwrap();
    let message = refused(&write(at.path(), "e.tar.gz", gzip.finish().unwrap()));
    assert!(message.contains("holds no tar archive but a single PNG"), "{message}");
}

#[test]
fn packed_archives_are_read_as_the_programs_read_them() {
    let at = tempfile::tempdir().unwrap();
    let tar = images_of(&["cat/0.png", "dog/1.png"]);
    let expected = ingested(&write(at.path(), "plain.tar", &tar));
    let gzip = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let (first, second) = tar.split_at(1500);
    let members = [gzip(first), gzip(second)].concat();
    let sources = [
        ("members.tar.gz", members.clone()),
        ("padded.tar.gz", [members.clone(), vec![0; 3000]].concat()),
        ("a.tar.zst", zstd::encode_all(&tar[..], 3).unwrap()),
        (
            "frames.tar.zst",
            [zstd::encode_all(first, 3), zstd::encode_all(second, 3)].map(Result::unwrap).concat(),
        ),
    ];
    for (name, bytes) in sources {
        let source = write(at.path(), name, &bytes);
        assert_eq!(ingested(&source).rows, expected.rows, "{name}");
        fs::write(&source, &bytes[..bytes.len() / 2]).unwrap();
        let message = refused(&source);
        assert!(message.contains("ends early") || message.contains("damaged"), "{message}");
    }
    let source = write(at.path(), "rest.tar.gz", [members, b"rest".to_vec()].concat());
    assert!(refused(&source).contains("bytes that are no gzip follow"), "{}", refused(&source));
}

fn zip_of(files: &[(&str, Vec<u8>)], change: impl Fn(&mut zip::ZipWriter<fs::File>), at: &Path) {
    let mut zip = zip::ZipWriter::new(fs::File::create(at).unwrap());
    for (number, (name, content)) in files.iter().enumerate() {
        let method = match number % 2 {
            0 => zip::CompressionMethod::Deflated,
            _ => zip::CompressionMethod::Stored,
        };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options.large_file(number == 2)).unwrap();
        zip.write_all(content).unwrap();
    }
    change(&mut zip);
    zip.finish().unwrap();
}

#[test]
fn zips_of_folders_are_read_with_labels_and_damage_is_listed() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("a.zip");
    let mut files =
        vec![("x/cat/0.png", image(0)), ("x/dog/1.png", image(1)), ("x/dog/2.png", image(2))];
    files.push(("x/notes.txt", b"notes".to_vec()));
    let empty = |zip: &mut zip::ZipWriter<fs::File>| {
        zip.add_directory("x/bee/", zip::write::SimpleFileOptions::default()).unwrap();
    };
    zip_of(&files, empty, &path);
    let zip = ingested(&path);
    assert_eq!(zip.keys(), ["cat/0.png", "dog/1.png", "dog/2.png"]);
    assert_eq!(zip.classes, ["bee", "cat", "dog"]);
    assert_eq!(zip.class("dog/2.png"), Some("dog"));
    assert!(zip.reason("x/notes.txt").contains("the ending .txt"), "{:?}", zip.rejects);

    // A byte of the stored image is another one: its checksum says so.
    let mut bytes = fs::read(&path).unwrap();
    let content = image(1);
    let place = bytes.windows(content.len()).position(|part| part == content).unwrap();
    bytes[place + content.len() / 2] ^= 1;
    let damaged = ingested(&write(at.path(), "damaged.zip", &bytes));
    assert_eq!(damaged.rows.len(), 2);
    assert!(damaged.reason("dog/1.png").starts_with("damaged:"), "{:?}", damaged.rejects);
    // Encrypted, by its flag in both headers.
    let mut bytes = fs::read(&path).unwrap();
    for (mark, flags) in [(&b"PK\x01\x02"[..], 8), (&b"PK\x03\x04"[..], 6)] {
        let place = bytes.windows(4).position(|part| part == mark).unwrap();
        bytes[place + flags] |= 1;
    }
    let encrypted = ingested(&write(at.path(), "encrypted.zip", &bytes));
    assert!(encrypted.reason("x/cat/0.png").starts_with("encrypted:"), "{:?}", encrypted.rejects);
    let message = refused(&write(at.path(), "cut.zip", &bytes[..bytes.len() / 2]));
    assert!(message.contains("zip archive, or one that ends early"), "{message}");
    // Longer than what is read: not inflated.
    zip_of(&[("a/0.png", image(0)), ("a/1.png", vec![0; 65 << 20])], |_| {}, &path);
    assert!(ingested(&path).reason("1.png").starts_with("too many bytes"));
}

#[test]
fn linked_class_folders_are_read_and_what_leads_nowhere_is_listed() {
    let at = tempfile::tempdir().unwrap();
    let scenes = scenes_folder(at.path(), 6, 32);
    let subset = at.path().join("subset");
    fs::create_dir_all(subset.join("c")).unwrap();
    write(&subset, "c/9.png", image(9));
    for class in ["a", "b"] {
        std::os::unix::fs::symlink(scenes.join(class), subset.join(class)).unwrap();
    }
    std::os::unix::fs::symlink(scenes.join("gone"), subset.join("c/gone.png")).unwrap();
    std::os::unix::fs::symlink(&subset, subset.join("c/round")).unwrap();
    assert!(Command::new("mkfifo").arg(subset.join("c/pipe")).status().unwrap().success());
    let read = ingested(&subset);
    assert_eq!((read.rows.len(), read.classes.len()), (7, 3));
    assert!(read.reason("c/gone.png").starts_with("unreadable: a link to"), "{:?}", read.rejects);
    assert!(read.reason("c/round").contains("leads back"), "{:?}", read.rejects);
    assert_eq!(read.reason("c/pipe"), "passed over: a pipe");
}

#[test]
fn files_of_many_endings_are_read_and_others_are_listed() {
    let at = tempfile::tempdir().unwrap();
    let names = ["0.jfif", "1.jpe", "2.pjpeg", "3.pjp", "4.jpg_large", "5.jpg?w=100", "6.PNG"];
    for (number, name) in names.iter().enumerate() {
        write(at.path(), &format!("cat/{name}"), image(number as u64));
    }
    write(at.path(), "cat/7.avif", b"no image at all");
    write(at.path(), "cat/notes.xml", "<a/>");
    write(at.path(), "README", "text");
    write(at.path(), "cat/.DS_Store", "x");
    let read = ingested(at.path());
    assert_eq!(read.rows.len(), names.len());
    assert_eq!(read.reason("cat/notes.xml"), "passed over: the ending .xml is none of an image");
    assert_eq!(read.reason("README"), "passed over: it has no ending of an image");
    assert!(!read.reason("7.avif").is_empty(), "{:?}", read.rejects);
    assert_eq!(read.rejects.len(), 3);
}

#[test]
fn splits_side_by_side_are_refused_and_one_may_be_chosen() {
    let at = tempfile::tempdir().unwrap();
    for (number, name) in
        ["train/cat/0.png", "train/dog/1.png", "val/cat/2.png", "val/dog/3.png"].iter().enumerate()
    {
        write(at.path(), &format!("ILSVRC/Data/{name}"), image(number as u64));
    }
    let message = refused(at.path());
    assert!(message.contains("holds the splits train, val in ILSVRC/Data"), "{message}");
    assert!(message.contains("--split-folder train"), "{message}");
    let val = tried(at.path(), |o| o.split_folder = Some("val".into())).unwrap();
    assert_eq!(val.keys(), ["cat/2.png", "dog/3.png"]);
    assert_eq!(val.classes, ["cat", "dog"]);
    let all = tried(at.path(), |o| o.split_folder = Some(".".into())).unwrap();
    assert_eq!(all.classes, ["train/cat", "train/dog", "val/cat", "val/dog"]);
    let none = tried(at.path(), |o| o.split_folder = Some("test".into())).err().unwrap();
    assert!(none.contains("has no folder test with images"), "{none}");
}

#[test]
fn imagenet_as_kaggle_has_it_is_read_split_by_split() {
    let at = tempfile::tempdir().unwrap();
    let root = at.path().join("ILSVRC/Data/CLS-LOC");
    for number in 0..80 {
        let name = format!("ILSVRC/Annotations/CLS-LOC/train/n01440764/{number}.xml");
        write(at.path(), &name, "<annotation/>");
    }
    write(&root, "train/n01440764/n01440764_1.JPEG", image(1));
    write(&root, "train/n01443537/n01443537_1.JPEG", image(2));
    write(&root, "val/ILSVRC2012_val_00000001.JPEG", image(3));
    write(&root, "test/ILSVRC2012_test_00000001.JPEG", image(4));
    let message = refused(at.path());
    assert!(message.contains("holds the splits test, train, val"), "{message}");
    let train = tried(at.path(), |o| o.split_folder = Some("train".into())).unwrap();
    assert_eq!(train.layout, "imagenet-train");
    assert_eq!(train.classes, ["n01440764", "n01443537"]);
    assert_eq!(train.rows.len(), 2);
    let val = tried(at.path(), |o| o.split_folder = Some("val".into())).unwrap();
    assert_eq!((val.layout.as_str(), val.rows.len()), ("imagenet-val", 1));
}

#[test]
fn many_notes_before_the_first_image_do_not_hide_it() {
    let at = tempfile::tempdir().unwrap();
    for number in 0..300 {
        write(at.path(), &format!("annotations/{number:03}.xml"), "<a/>");
    }
    write(at.path(), "images/cat/0.png", image(0));
    write(at.path(), "images/dog/1.png", image(1));
    let read = ingested(at.path());
    assert_eq!((read.layout.as_str(), read.rows.len()), ("folder", 2));
    assert_eq!(read.rejects.len(), 300);
}

#[test]
fn an_empty_class_keeps_its_label_and_classes_come_from_another_dataset() {
    let at = tempfile::tempdir().unwrap();
    let (train, val) = (at.path().join("train"), at.path().join("val"));
    for (number, class) in ["ant", "bee", "cat"].iter().enumerate() {
        write(&train, &format!("{class}/0.png"), image(number as u64));
        fs::create_dir_all(val.join(class)).unwrap();
    }
    write(&val, "ant/1.png", image(8));
    write(&val, "cat/2.png", image(9));
    let with_empty = ingested(&val);
    assert_eq!(with_empty.classes, ["ant", "bee", "cat"]);
    assert!(with_empty.notes().contains("classes without images"), "{}", with_empty.notes());

    fs::remove_dir(val.join("bee")).unwrap();
    assert_eq!(ingested(&val).classes, ["ant", "cat"]);
    let out = place(at.path().join("dataset").to_str().unwrap());
    ingest(&IngestOptions::new(vec![train.clone()], out.clone()), &|_| {}).unwrap();
    let from = |source: &Path| tried(source, |options| options.classes_from = Some(out.clone()));
    let read = from(&val).unwrap();
    assert_eq!(read.classes, ["ant", "bee", "cat"]);
    assert_eq!(read.class("cat/2.png"), Some("cat"));
    assert!(read.notes().contains("it lacks one: `bee`"), "{}", read.notes());
    write(&val, "dog/3.png", image(10));
    let message = from(&val).err().unwrap();
    assert!(message.contains("has the class `dog`, which is not in the list"), "{message}");
}

#[test]
fn lists_with_a_byte_order_mark_are_lists_without() {
    let at = tempfile::tempdir().unwrap();
    let scenes = scenes_folder(at.path(), 4, 32);
    let list = write(at.path(), "classes.txt", "\u{feff}b\r\na\r\n");
    let with = |list: &Path| tried(&scenes, |options| options.classes = Some(list.to_owned()));
    assert_eq!(with(&list).unwrap().classes, ["b", "a"]);
    fs::write(&list, b"\xff\xfeb\0\n\0a\0\n\0").unwrap();
    let message = with(&list).err().unwrap();
    assert!(message.contains("is UTF-16"), "{message}");
}

#[test]
fn webdatasets_of_images_alone_and_with_negative_labels_are_read() {
    let at = tempfile::tempdir().unwrap();
    let shards = at.path().join("shards");
    write(&shards, "0.tar", images_of(&["000000.jpg", "000001.jpg"]));
    write(&shards, "0.idx", "x");
    let read = ingested(&shards);
    assert_eq!((read.layout.as_str(), read.rows.len()), ("webdataset", 2));
    let labels = tar_of(&[
        (b"0.jpg", image(0)),
        (b"0.CLS", b"-1".to_vec()),
        (b"1.jfif", image(1)),
        (b"1.cls", b"\xef\xbb\xbf2\n".to_vec()),
        (b"2.avif", b"no image".to_vec()),
    ]);
    let read = ingested(&write(at.path(), "labels.tar", labels));
    let class = |class: &str| Some(class.to_owned());
    assert_eq!(read.rows, [("0".to_owned(), None), ("1".to_owned(), class("2"))]);
    assert!(read.reason("2.avif").starts_with("passed over"), "{:?}", read.rejects);
    let apart = tar_of(&[
        (b"0.jpg", image(0)),
        (b"1.jpg", image(1)),
        (b"0.cls", b"0".to_vec()),
        (b"1.cls", b"1".to_vec()),
    ]);
    let message = refused(&write(at.path(), "apart.tar", apart));
    assert!(message.contains("not beside their images"), "{message}");
}

/// The inputs of `data/odd`, each with its right value.
#[test]
fn odd_sources_become_what_their_list_says() {
    let at = tempfile::tempdir().unwrap();
    let Some(tar) = odd("tar") else { return };
    let all = |read: &Ingested| read.rows.len() + read.rejects.len();
    assert_eq!(all(&ingested(&tar.join("concatenated.tar"))), 16);
    let sparse = ingested(&tar.join("sparse_posix.tar"));
    assert_eq!(
        (all(&sparse), &sparse.classes[..]),
        (12, &["cat", "dog", "owl"].map(String::from)[..])
    );
    for (key, class) in &sparse.rows {
        assert_eq!(key.split('/').next(), class.as_deref());
    }
    let latin = ingested(&tar.join("latin1.tar"));
    assert_eq!((latin.rows.len(), latin.classes.len()), (4, 3));
    assert_eq!(all(&ingested(&tar.join("volume_label.tar"))), 9);
    assert_eq!(ingested(&tar.join("backslash.tar")).classes.len(), 3);
    let zip = ingested(&tar.join("std.zip"));
    assert_eq!(zip.classes.len(), 3, "{:?}", zip.keys());
    let message = refused(&tar.join("inner_html.tar"));
    assert!(message.contains("n01440762.tar is no tar archive but a web page"), "{message}");

    let wds = odd("wds").unwrap();
    let minus = ingested(&wds.join("cls_minus1.tar"));
    assert_eq!(minus.rows.len(), 6);
    assert_eq!(minus.rows.iter().filter(|(_, class)| class.is_none()).count(), 2);
    assert_eq!(ingested(&wds.join("unlabelled_idx")).layout, "webdataset");
    assert!(refused(&wds.join("unsorted.tar")).contains("not beside their images"));

    let folder = odd("folder").unwrap();
    let mixed = ingested(&unpack(&folder.join("mixed_ext.tar"), &at.path().join("mixed")));
    assert_eq!(all(&mixed), 27);
    let both = unpack(&folder.join("train_and_val.tar"), &at.path().join("both"));
    for source in [&folder.join("train_and_val.tar"), &both] {
        assert!(refused(source).contains("--split-folder train"), "{}", refused(source));
        let val = tried(source, |options| options.split_folder = Some("val".into())).unwrap();
        assert_eq!((val.rows.len(), val.classes.len()), (9, 3));
    }
    let val = unpack(&folder.join("tv_val.tar"), &at.path().join("tv"));
    assert_eq!(ingested(&val).classes, ["ant", "bee", "cat", "dog"]);
}

#[test]
fn odd_lists_are_read_without_their_mark() {
    let (Some(lists), Some(folder)) = (odd("lists"), odd("folder")) else { return };
    let list = lists.join("classes_bom.txt");
    let read = tried(&folder.join("tv_train.tar"), |options| options.classes = Some(list));
    let read = read.unwrap_or_else(|message| panic!("{message}"));
    assert!(read.classes.iter().all(|name| name.is_ascii()), "{:?}", read.classes);
    let val = fixtures().unwrap().join("data/places365/val_256.tar");
    let labels = |options: &mut IngestOptions| {
        options.labels = Some(lists.join("places365_val_bom.txt"));
        options.layout = Some(LayoutKind::Places365);
    };
    // The list is of few images: what it says nothing of is named, and not its first line.
    match tried(&val, labels) {
        Ok(read) => assert!(read.rows.iter().all(|(_, class)| class.is_some())),
        Err(message) => assert!(!message.contains("Places365_val_00000001.jpg,"), "{message}"),
    }
}

#[test]
fn sparse_files_that_gnu_tar_packs_have_their_bytes() {
    if !Command::new("tar")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.stdout.starts_with(b"tar (GNU"))
    {
        return;
    }
    let at = tempfile::tempdir().unwrap();
    let source = at.path().join("all");
    for (number, name) in ["cat/0.png", "cat/1.png", "dog/2.png"].iter().enumerate() {
        let path = write(&source, name, image(number as u64));
        // A hole behind the image: the file is longer than what is stored of it.
        if number != 1 {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
        }
    }
    let expected = ingested(&source);
    let forms: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
        &["--format=posix", "--label=VOLUME"],
    ];
    for form in forms {
        let tar = at.path().join("a.tar");
        let mut command = Command::new("tar");
        command.args(form).args(["--sparse", "--sort=name", "-cf"]).arg(&tar).arg("-C");
        assert!(command.arg(at.path()).arg("all").status().unwrap().success());
        let read = ingested(&tar);
        assert_eq!((&read.rows, &read.classes), (&expected.rows, &expected.classes), "{form:?}");
        assert_eq!(read.rejects, expected.rejects, "{form:?}");
    }
}
