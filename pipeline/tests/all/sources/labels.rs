//! Labels and classes: none shifts, none vanishes without a word.

use super::*;

#[test]
fn labels_neither_shift_nor_vanish_without_a_word() {
    let at = tempfile::tempdir().unwrap();
    // A list of classes wants labels.
    let list = write(at.path(), "classes.txt", "cat\ndog\n");
    let listed = |source: &Path| tried(source, |options| options.classes = Some(list.clone()));
    let flat = write(at.path(), "flat.tar", images_of(&["0.png", "1.png"]));
    let unlabelled = write(at.path(), "shards/0.tar", images_of(&["0.jpg", "1.jpg"]));
    for source in [&flat, unlabelled.parent().unwrap()] {
        let message = listed(source).err().expect("it is refused");
        assert!(message.contains("has no labels that the list of classes"), "{message}");
    }
    // Shards of two splits are not one.
    let splits = at.path().join("splits");
    for (name, number) in [("train-000.tar", 0), ("train-001.tar", 1), ("val-000.tar", 2)] {
        let sample = [(&b"0.jpg"[..], image(number)), (b"0.cls", b"1".to_vec())];
        write(&splits, name, tar_of(&sample));
    }
    let message = refused(&splits);
    assert!(message.contains("archives of the splits train"), "{message}");
    // A class keeps its label when none of its images can be read. The root folder (`./`) is no class.
    let mut files = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, content: Vec<u8>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        if kind.is_symlink() {
            header.set_link_name("../elsewhere.png").unwrap();
        }
        files.append_data(&mut header, name, &content[..]).unwrap();
    };
    add("./", tar::EntryType::Directory, Vec::new());
    add("./cat/0.png", tar::EntryType::Regular, image(3));
    add("./dog/0.png", tar::EntryType::Symlink, Vec::new());
    add("./owl/0.png", tar::EntryType::Regular, image(4));
    let linked = write(at.path(), "linked.tar", files.into_inner().unwrap());
    let read = ingested(&linked);
    assert_eq!(read.classes, ["cat", "dog", "owl"]);
    assert_eq!(read.rows.len(), 2);
    assert!(!read.notes().contains("2 folders"), "{}", read.notes());
    // Zips joined one behind the other, of which a reader sees the last alone.
    let zip = |name: &str, number: u64| {
        let path = at.path().join(name);
        zip_of(&[("cat/0.png", image(number)), ("dog/1.png", image(number + 1))], |_| {}, &path);
        fs::read(path).unwrap()
    };
    let joined = [zip("one.zip", 5), zip("two.zip", 7)].concat();
    let message = refused(&write(at.path(), "joined.zip", joined));
    assert!(message.contains("another zip") && message.contains("before it"), "{message}");
}

/// An entry of a tar that is no file.
fn entry(kind: tar::EntryType, name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    header.set_link_name("../elsewhere").unwrap();
    header.set_size(0);
    header.set_mode(0o755);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_class_keeps_its_label_where_it_cannot_be_entered() {
    let at = tempfile::tempdir().unwrap();
    // A link of an archive, a link of a folder that leads nowhere.
    let link = entry(tar::EntryType::Symlink, "dog");
    let linked = [link, images_of(&["cat/0.png", "owl/1.png"])].concat();
    let read = ingested(&write(at.path(), "linked.tar", linked));
    assert_eq!(
        (read.classes, read.rows.len()),
        (["cat", "dog", "owl"].map(String::from).into(), 2)
    );
    let dead = at.path().join("dead");
    write(&dead, "cat/0.png", image(0));
    write(&dead, "owl/1.png", image(1));
    std::os::unix::fs::symlink("/nowhere", dead.join("dog")).unwrap();
    std::os::unix::fs::symlink("/nowhere", dead.join("notes.txt")).unwrap();
    let read = ingested(&dead);
    assert_eq!(read.classes, ["cat", "dog", "owl"]);
    assert!(read.reason("dog").contains("a link to /nowhere"), "{:?}", read.rejects);
    assert!(read.notes().contains("the first dog"), "{}", read.notes());
    // A folder of other files is none of the classes, and that is said.
    write(&dead, "annotations/0.xml", "<x/>");
    let read = ingested(&dead);
    assert_eq!(read.classes, ["cat", "dog", "owl"]);
    assert!(read.notes().contains("are no classes, the first annotations"), "{}", read.notes());
    // Class archives that are no tars.
    let synsets = at.path().join("train");
    write(&synsets, "n01440764.zip", "PK\x03\x04");
    write(&synsets, "n01443537.tar", images_of(&["n01443537_0.JPEG"]));
    let read = ingested(&synsets);
    assert_eq!(read.classes, ["n01440764", "n01443537"]);
    assert_eq!(read.rows[0].1.as_deref(), Some("n01443537"));
    assert!(read.notes().contains("the first n01440764"), "{}", read.notes());
}

#[test]
fn images_without_a_label_beside_others_are_counted() {
    let at = tempfile::tempdir().unwrap();
    let root = write(at.path(), "root.tar", images_of(&["0.png", "cat/1.png", "dog/2.png"]));
    assert_eq!(ingested(&root).unlabelled, 1);
    let flat = write(at.path(), "flat.tar", images_of(&["0.png", "1.png"]));
    assert_eq!(ingested(&flat).unlabelled, 0, "without classes there is nothing to lack");
    let samples = tar_of(&[(b"0.jpg", image(0)), (b"0.cls", b"0".to_vec()), (b"1.jpg", image(1))]);
    assert_eq!(ingested(&write(at.path(), "samples.tar", samples)).unlabelled, 1);
}

#[test]
fn labels_apart_from_their_images_are_refused_wherever_they_are() {
    let at = tempfile::tempdir().unwrap();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for number in 0..20 {
        files.push((format!("{number:03}.jpg"), image(number)));
        files.push((format!("{number:03}.cls"), b"1".to_vec()));
    }
    let good: Vec<(&[u8], Vec<u8>)> =
        files.iter().map(|(name, content)| (name.as_bytes(), content.clone())).collect();
    let late: [(&[u8], Vec<u8>); 4] = [
        (b"900.jpg", image(900)),
        (b"901.jpg", image(901)),
        (b"900.cls", b"0".to_vec()),
        (b"901.cls", b"0".to_vec()),
    ];
    let shard = write(at.path(), "late.tar", tar_of(&[good.clone(), late.to_vec()].concat()));
    let message = refused(&shard);
    assert!(message.contains("not beside their images, such as 900"), "{message}");
    // A label of which there is no image at all is listed.
    let lone: (&[u8], Vec<u8>) = (b"900.cls", b"0".to_vec());
    let read = ingested(&write(at.path(), "lone.tar", tar_of(&[good, vec![lone]].concat())));
    assert_eq!(read.rows.len(), 20);
    assert!(read.reason("900").contains("no image before or behind it"), "{:?}", read.rejects);
    // Two labels of one image.
    let two = tar_of(&[
        (b"0.jpg", image(0)),
        (b"0.cls", b"0".to_vec()),
        (b"0.CLS", b"1".to_vec()),
        (b"1.jpg", image(1)),
        (b"1.cls", b"1".to_vec()),
        (b"1.CLS", b"1".to_vec()),
    ]);
    let read = ingested(&write(at.path(), "two.tar", two));
    assert_eq!(read.rows.len(), 1);
    assert!(read.reason("0").contains("two labels"), "{:?}", read.rejects);
}

#[test]
fn lists_in_which_a_line_says_which_image_have_no_gaps_and_no_contradictions() {
    let at = tempfile::tempdir().unwrap();
    let val = write(
        at.path(),
        "val.tar",
        images_of(&["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]),
    );
    let with = |source: &Path, list: &Path| {
        tried(source, |options| options.labels = Some(list.to_owned()))
    };
    let list = write(at.path(), "list.txt", "n01440764\n\nn01443537\n");
    let message = with(&val, &list).err().expect("it is refused");
    assert!(message.contains("line 2 is empty"), "{message}");
    fs::write(&list, "n01440764\nn01443537\n\n").unwrap();
    assert_eq!(with(&val, &list).unwrap().rows.len(), 2);
    let places = write(at.path(), "places.tar", images_of(&["val_256/Places365_val_00000001.jpg"]));
    let list = write(
        at.path(),
        "places365_val.txt",
        "Places365_val_00000001.jpg 2\nPlaces365_val_00000001.jpg 7\n",
    );
    let message = with(&places, &list).err().expect("it is refused");
    assert!(message.contains("line 2: Places365_val_00000001.jpg is of"), "{message}");
    // A list of classes with a gap.
    let folders = write(at.path(), "folders.tar", images_of(&["cat/0.png", "dog/1.png"]));
    let list = write(at.path(), "classes.txt", "cat\n\ndog\n");
    let message = tried(&folders, |options| options.classes = Some(list.clone()));
    let message = message.err().expect("it is refused");
    assert!(message.contains("line 2 is empty"), "{message}");
}

#[test]
fn archives_that_may_be_classes_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let archives = [("cat.tar", 1), ("dog.tar", 2)]
        .map(|(name, number)| (name, tar_of(&[(b"1.jpg", image(number))])));
    let folder = at.path().join("archives");
    archives.iter().for_each(|(name, tar)| drop(write(&folder, name, tar)));
    let members: Vec<(&[u8], Vec<u8>)> =
        archives.iter().map(|(name, tar)| (name.as_bytes(), tar.clone())).collect();
    let tar = write(at.path(), "classes.tar", tar_of(&members));
    for source in [&folder, &tar] {
        let message = refused(source);
        assert!(message.contains("cat.tar, dog.tar and so on, which may be classes"), "{message}");
        let kind = Some(LayoutKind::WebDataset);
        assert_eq!(tried(source, |options| options.layout = kind).unwrap().rows.len(), 2);
    }
}
