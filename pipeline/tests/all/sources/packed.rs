//! Packed sources: what cannot be read of them is called what it is, and what is the same stays the same.

use super::*;

#[test]
fn zips_of_which_nothing_can_be_read_say_why() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("packed.zip");
    zip_of(&[("cat/0.png", image(0)), ("dog/1.png", image(1))], |_| {}, &path);
    // Every entry is said to be packed by bzip2, here and in the directory.
    let mut bytes = fs::read(&path).unwrap();
    for (mark, method) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        let places: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(mark)).collect();
        places.iter().for_each(|at| bytes[at + method] = 12);
    }
    fs::write(&path, bytes).unwrap();
    let message = refused(&path);
    assert!(message.contains("2 files cannot be read, the first cat/0.png"), "{message}");
    let message = tried(&path, |options| options.layout = Some(LayoutKind::Folder)).err().unwrap();
    assert!(message.contains("compressed by"), "{message}");
}

#[test]
fn a_zip_of_another_time_is_the_same_zip_and_one_of_other_content_is_not() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("images.zip");
    let files = |number| [("cat/0.png", image(number)), ("dog/1.png", image(7))];
    zip_of(&files(0), |_| {}, &path);
    let out = place(at.path().join("out").to_str().unwrap());
    let again = || {
        let options = IngestOptions::new(vec![path.clone()], out.clone());
        ingest(&options, &|_| {}).map_err(|error| error.to_string())
    };
    let made = again().unwrap();
    let touched = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().write(true).open(&path).unwrap().set_modified(touched).unwrap();
    assert_eq!(again().unwrap().shards, made.shards);
    // Other content of the same time.
    zip_of(&[("cat/0.png", image(0)), ("dog/1.png", image(8))], |_| {}, &path);
    fs::File::options().write(true).open(&path).unwrap().set_modified(touched).unwrap();
    let message = again().expect_err("it is refused");
    assert!(message.contains("names or content of files changed"), "{message}");
}

#[test]
fn a_tar_whose_first_header_is_damaged_is_a_damaged_tar() {
    let at = tempfile::tempdir().unwrap();
    let mut tar = images_of(&["cat/0.png", "dog/1.png"]);
    tar[0] ^= 1;
    let message = refused(&write(at.path(), "damaged.tar", &tar));
    assert!(message.contains("is a damaged tar archive (the checksum of its first"), "{message}");
}

#[test]
fn zstd_with_frames_that_hold_nothing_is_read() {
    let at = tempfile::tempdir().unwrap();
    let tar = zstd::encode_all(&images_of(&["cat/0.png", "dog/1.png"])[..], 1).unwrap();
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec();
    let source = write(at.path(), "skippable.tar.zst", [skippable, tar.clone()].concat());
    assert_eq!(ingested(&source).classes, ["cat", "dog"]);
    let source = write(at.path(), "rest.tar.zst", [tar, b"rest".to_vec()].concat());
    let message = refused(&source);
    assert!(message.contains("follow the zstd data"), "{message}");
}

#[test]
fn a_further_archive_within_a_class_archive_is_reported() {
    let at = tempfile::tempdir().unwrap();
    let class = [images_of(&["n01440764_0.JPEG"]), images_of(&["n01440764_1.JPEG"])].concat();
    let folder = at.path().join("train");
    write(&folder, "n01440764.tar", class);
    let read = ingested(&folder);
    assert_eq!(read.rows.len() + read.rejects.len(), 2);
    assert!(read.notes().contains("behind their end mark, which are read too"), "{}", read.notes());
}

#[test]
fn backslashes_in_names_of_folders_are_part_of_them() {
    let at = tempfile::tempdir().unwrap();
    let names = ["a\\b/1.png", "a/b/1.png", "caf\\xE9/2.png"];
    let folder = at.path().join("folder");
    names.iter().zip(0..).for_each(|(name, number)| drop(write(&folder, name, image(number))));
    let tar = write(at.path(), "folder.tar", images_of(&names));
    let (folder, tar) = (ingested(&folder), ingested(&tar));
    assert_eq!(folder.classes, tar.classes);
    assert_eq!(folder.classes.len(), 3);
    let sorted = |read: &Ingested| {
        let mut rows = read.rows.clone();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&folder), sorted(&tar));
}

#[test]
fn shards_in_a_zip_are_a_webdataset() {
    let at = tempfile::tempdir().unwrap();
    let shard = |number: u64| {
        tar_of(&[(b"0.jpg", image(number)), (b"0.cls", format!("{number}").into_bytes())])
    };
    let path = at.path().join("shards.zip");
    zip_of(&[("00000.tar", shard(0)), ("00001.tar", shard(1))], |_| {}, &path);
    let read = ingested(&path);
    assert_eq!((read.layout.as_str(), read.rows.len()), ("webdataset", 2));
}

/// Entries that share bytes cost more than the archive is long: each image of these is read once an entry.
#[test]
fn zips_whose_entries_overlap_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("overlap.zip");
    zip_of(&[("cat/0.png", image(0)), ("dog/1.png", image(1))], |_| {}, &path);
    let sound = fs::read(&path).unwrap();
    let marks: Vec<usize> =
        (0..sound.len()).filter(|at| sound[*at..].starts_with(b"PK\x01\x02")).collect();
    let offset = |of: &[u8], entry: usize| {
        u32::from_le_bytes(of[marks[entry] + 42..marks[entry] + 46].try_into().unwrap())
    };
    let second = offset(&sound, 1);
    // The second entry is the first one once more, or begins within it.
    for start in [0, second / 2] {
        let mut bytes = sound.clone();
        bytes[marks[1] + 42..marks[1] + 46].copy_from_slice(&start.to_le_bytes());
        let message = refused(&write(at.path(), "overlap.zip", bytes));
        assert!(
            message.contains(&format!("entries that overlap, such as two at byte {start}:")),
            "{message}"
        );
    }
    // The first one has all bytes of the second.
    let mut bytes = sound.clone();
    bytes[marks[0] + 20..marks[0] + 24].copy_from_slice(&second.to_le_bytes());
    let message = refused(&write(at.path(), "overlap.zip", bytes));
    assert!(message.contains(&format!("overlap, such as two at byte {second}:")), "{message}");
}

#[test]
fn zips_of_other_writers_are_read() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("sound.zip");
    let files = [("cat/0.png", image(0)), ("dog/1.png", image(1)), ("owl/2.png", image(2))];
    zip_of(&files, |_| {}, &path);
    let expected = ingested(&path).rows;
    let sound = fs::read(&path).unwrap();
    // Lengths behind the data, as a writer that cannot seek has them.
    let mut streamed = zip::ZipWriter::new_stream(Vec::new());
    for (name, content) in &files {
        streamed.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        streamed.write_all(content).unwrap();
    }
    let streamed = streamed.finish().unwrap().into_inner();
    assert!(streamed.windows(4).any(|mark| mark == b"PK\x07\x08"));
    assert_eq!(ingested(&write(at.path(), "streamed.zip", streamed)).rows, expected);
    // A directory in another order than the data.
    let marks: Vec<usize> =
        (0..sound.len()).filter(|at| sound[*at..].starts_with(b"PK\x01\x02")).collect();
    let end = sound.len() - 22;
    let entries = [marks[2]..end, marks[0]..marks[1], marks[1]..marks[2], end..sound.len()];
    let mut sorted = sound[..marks[0]].to_vec();
    entries.into_iter().for_each(|entry| sorted.extend(&sound[entry]));
    let mut rows = ingested(&write(at.path(), "sorted.zip", sorted)).rows;
    rows.sort();
    assert_eq!(rows, expected);
}
