//! Properties that every layout has, on small sources of every form: an archive and its unpacked
//! folder give the same images, a reading may begin anywhere, an archive that was cut off is an error.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_schema::{DataType, Field, Schema};
use flate2::write::GzEncoder;
use storage::atomic;

use super::*;

type Named = (String, Vec<u8>);

/// A source of this machine, opened as the given layout.
fn open(kind: LayoutKind, source: &Path, options: &SourceOptions) -> Result<Box<dyn Layout>> {
    super::open(kind, &Origin::local(source), options)
}

fn options() -> SourceOptions {
    SourceOptions {
        labels: None,
        classes: None,
        split: None,
        label_column: None,
        split_folder: None,
        max_bytes: 1 << 20,
    }
}

/// Files of several lengths, whose content tells their name.
fn files(names: &[&str]) -> Vec<Named> {
    let content = |(number, name): (usize, &&str)| {
        ((*name).to_owned(), format!("{name} ").repeat(1 + 37 * (number % 4)).into_bytes())
    };
    names.iter().enumerate().map(content).collect()
}

fn tar_of(files: &[Named]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The files as a folder.
fn unpacked(root: &Path, files: &[Named]) -> PathBuf {
    for (name, content) in files {
        write(&root.join(name), content);
    }
    root.to_owned()
}

/// The files as a tar in a file of this name.
fn packed(path: PathBuf, files: &[Named]) -> PathBuf {
    write(&path, &tar_of(files));
    path
}

/// The files of each leading folder as a tar of its own, without the folder in their names.
fn by_folder(files: &[Named], ending: &str) -> Vec<Named> {
    let mut tars: Vec<(String, Vec<Named>)> = Vec::new();
    for (name, content) in files {
        let (folder, rest) = name.split_once('/').unwrap();
        let file = (rest.to_owned(), content.clone());
        match tars.last_mut().filter(|(last, _)| last == folder) {
            Some((_, files)) => files.push(file),
            None => tars.push((folder.to_owned(), vec![file])),
        }
    }
    tars.into_iter().map(|(folder, files)| (format!("{folder}{ending}"), tar_of(&files))).collect()
}

/// A parquet file as pandas or pyarrow write it: all columns nullable, one image and one label null.
fn nullable_parquet(path: &Path, count: usize) {
    let bytes: BinaryArray =
        (0..count).map(|row| (row != 2).then(|| format!("bytes of {row}").into_bytes())).collect();
    let paths: StringArray = (0..count).map(|row| Some(format!("{row}.png"))).collect();
    let fields =
        vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(paths)];
    let image = StructArray::new(fields.into(), columns, None);
    let labels: Int64Array = (0..count).map(|row| (row != 3).then_some(row as i64 % 3)).collect();
    let notes: StringArray = (0..count).map(|_| Some("a note")).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("notes", DataType::Utf8, true),
        Field::new("label", DataType::Int64, true),
        Field::new("picture", image.data_type().clone(), true),
    ]));
    let columns: Vec<ArrayRef> = vec![Arc::new(notes), Arc::new(labels), Arc::new(image)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Forms of the same images in one layout.
struct Forms {
    kind: LayoutKind,
    sources: Vec<PathBuf>,
    images: usize,
}

fn train(at: &Path) -> Forms {
    let files = files(&[
        "n01440764/n01440764_18.JPEG",
        "n01440764/n01440764_36.JPEG",
        "n01443537/n01443537_2.JPEG",
        "n02100735/n02100735_7.JPEG",
        "n02100735/n02100735_9.JPEG",
    ]);
    let tars = by_folder(&files, ".tar");
    let sources = vec![
        packed(at.join("ILSVRC2012_img_train.tar"), &tars),
        unpacked(&at.join("tars"), &tars),
        unpacked(&at.join("folders"), &files),
        packed(at.join("folders.tar"), &files),
    ];
    Forms { kind: LayoutKind::ImagenetTrain, sources, images: 5 }
}

fn val(at: &Path) -> Forms {
    let files = files(&[
        "ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00000002.JPEG",
        "ILSVRC2012_val_00000005.JPEG",
    ]);
    let sources =
        vec![packed(at.join("ILSVRC2012_img_val.tar"), &files), unpacked(&at.join("val"), &files)];
    Forms { kind: LayoutKind::ImagenetVal, sources, images: 3 }
}

fn places(at: &Path) -> Forms {
    let inner = files(&[
        "a/airfield/00000001.jpg",
        "a/airfield/00000002.jpg",
        "b/beach/00000001.jpg",
        "s/swimming_pool/indoor/00000001.jpg",
    ]);
    let below = |folder: &str| -> Vec<Named> {
        inner.iter().map(|(name, content)| (format!("{folder}/{name}"), content.clone())).collect()
    };
    let letters = by_folder(&inner, ".tar");
    // Letter archives whose members repeat the letter, as those of the challenge do.
    let repeated: Vec<Named> = ["a", "b", "s"]
        .iter()
        .map(|letter| {
            let of_letter = |(name, _): &Named| name.starts_with(&format!("data_large/{letter}/"));
            let files: Vec<_> = below("data_large").into_iter().filter(of_letter).collect();
            (format!("train_large_places365challenge_{letter}.tar"), tar_of(&files))
        })
        .collect();
    let sources = vec![
        packed(at.join("train_256_places365standard.tar"), &below("data_256")),
        unpacked(at, &below("data_256")).join("data_256"),
        packed(at.join("letters.tar"), &letters),
        unpacked(&at.join("letters"), &letters),
        packed(at.join("challenge.tar"), &repeated),
        unpacked(&at.join("challenge"), &repeated),
    ];
    Forms { kind: LayoutKind::Places365, sources, images: 4 }
}

fn folders(at: &Path) -> Forms {
    let files =
        files(&["cat/1.jpg", "cat/2.PNG", "cat/notes.txt", "dog/poodle/1.jpg", "dog/1.jpg"]);
    let plain = packed(at.join("animals.tar"), &files);
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&fs::read(&plain).unwrap()).unwrap();
    let gzipped = at.join("animals.tar.gz");
    write(&gzipped, &gzip.finish().unwrap());
    let sources = vec![plain, unpacked(&at.join("animals"), &files), gzipped];
    // The notes are an item too, that of a file that is passed over.
    Forms { kind: LayoutKind::Folder, sources, images: 5 }
}

fn webdataset(at: &Path) -> Forms {
    let mut files = files(&[
        "s0/000.jpg",
        "s0/000.cls",
        "s0/000.json",
        "s0/001.png",
        "s0/001.cls",
        "s1/002.cls",
        "s1/002.jpg",
        "s1/003.txt",
        "s1/003.webp",
        "s1/004.cls",
    ]);
    for (name, content) in &mut files {
        if let Some(number) = name.strip_suffix(".cls") {
            *content =
                format!("{}\n", 5 * (number.len() + usize::from(number.as_bytes()[5] - b'0')))
                    .into_bytes();
        }
    }
    let sources = vec![
        packed(at.join("all.tar"), &files),
        unpacked(&at.join("shards"), &by_folder(&files, ".tar")),
        unpacked(&at.join("loose"), &files),
    ];
    Forms { kind: LayoutKind::WebDataset, sources, images: 5 }
}

fn rows(at: &Path) -> Forms {
    let folder = at.join("rows");
    nullable_parquet(&folder.join("data/train-00000-of-00002.parquet"), 20);
    nullable_parquet(&folder.join("data/train-00001-of-00002.parquet"), 5);
    Forms { kind: LayoutKind::Parquet, sources: vec![folder], images: 25 }
}

/// All layouts in all forms, each below a folder of its own.
fn all(at: &Path) -> Vec<Forms> {
    let makers: [fn(&Path) -> Forms; 6] = [train, val, places, folders, webdataset, rows];
    makers.iter().enumerate().map(|(number, make)| make(&at.join(number.to_string()))).collect()
}

/// Items with the name of their class; the digest of the source.
type Whole = (Vec<(Item, Option<String>)>, Option<String>);

/// Reads from `from` on.
fn read(kind: LayoutKind, source: &Path, from: u64) -> Result<Whole> {
    let layout = open(kind, source, &options())?;
    let classes = layout.classes().to_vec();
    let mut items = Vec::new();
    let ended = layout.read(from, &mut |item| {
        let class = item.class.map(|class| classes[class].clone());
        items.push((item, class));
        true
    })?;
    Ok((items, ended.sha256))
}

#[test]
fn an_archive_and_its_unpacked_folder_give_the_same_images() {
    let folder = tempfile::tempdir().unwrap();
    for Forms { kind, sources, images } in all(folder.path()) {
        let mut first: Option<Vec<_>> = None;
        for source in &sources {
            let (mut items, digest) = read(kind, source, 0).unwrap();
            assert_eq!(items.len(), images, "{}", source.display());
            let keys: HashSet<_> = items.iter().map(|(item, _)| &item.key).collect();
            assert_eq!(keys.len(), images, "keys are unique in {}", source.display());
            let expected = source.is_file().then(|| atomic::sha256_file(source).unwrap().0);
            assert_eq!(digest, expected, "{}", source.display());
            items.sort_by(|a, b| a.0.key.cmp(&b.0.key));
            assert_eq!(&items, first.get_or_insert(items.clone()), "{}", source.display());
        }
    }
}

#[test]
fn a_reading_may_begin_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    for Forms { kind, sources, images } in all(folder.path()) {
        for source in &sources {
            let (whole, digest) = read(kind, source, 0).unwrap();
            for from in 0..images + 2 {
                let (items, again) = read(kind, source, from as u64).unwrap();
                let rest = whole.get(from..).unwrap_or_default();
                assert_eq!(items, rest, "{} from {from}", source.display());
                assert_eq!(again, digest, "{} from {from}", source.display());
            }
        }
    }
}

#[test]
fn a_reading_that_is_stopped_has_no_digest() {
    let folder = tempfile::tempdir().unwrap();
    for Forms { kind, sources, .. } in all(folder.path()) {
        for source in &sources {
            let mut count = 0;
            let ended = open(kind, source, &options()).unwrap().read(1, &mut |_| {
                count += 1;
                false
            });
            assert_eq!((count, ended.unwrap().sha256), (1, None), "{}", source.display());
        }
    }
}

#[test]
fn every_form_is_recognized_by_its_names() {
    let folder = tempfile::tempdir().unwrap();
    for Forms { kind, sources, .. } in all(folder.path()) {
        for source in &sources {
            assert_eq!(LayoutKind::recognize(source).unwrap(), kind, "{}", source.display());
        }
    }
}

#[test]
fn an_archive_that_was_cut_off_is_an_error_wherever_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let cut_off = folder.path().join("cut.tar");
    for Forms { kind, sources, .. } in all(folder.path()) {
        for source in sources.iter().filter(|source| source.is_file()) {
            let bytes = fs::read(source).unwrap();
            let is_tar = source.extension().is_some_and(|ending| ending == "tar");
            // One of the two blocks of zeros at the end is enough.
            let enough = if is_tar { bytes.len() - 512 } else { bytes.len() };
            for cut in (0..enough).step_by(128) {
                fs::write(&cut_off, &bytes[..cut]).unwrap();
                let error = read(kind, &cut_off, 0).err();
                assert!(error.is_some(), "{} cut at {cut} of {}", source.display(), bytes.len());
            }
        }
    }
}

#[test]
fn labels_of_webdatasets_and_parquet_are_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let source = &webdataset(&folder.path().join("w")).sources[0];
    let (items, _) = read(LayoutKind::WebDataset, source, 0).unwrap();
    let labels: Vec<_> = items.iter().map(|(item, _)| item.class).collect();
    assert_eq!(labels, [Some(30), Some(35), Some(40), None, Some(50)]);
    let reason = items[4].0.content.as_ref().unwrap_err();
    assert!(reason.contains("no image"), "{reason}");

    let source = &rows(&folder.path().join("p")).sources[0];
    let (items, _) = read(LayoutKind::Parquet, source, 0).unwrap();
    assert_eq!(items[2].0.content, Err("null: the row has no image bytes".into()));
    assert_eq!((items[3].0.class, items[4].0.class), (None, Some(1)));
    assert_eq!(items[24].0.key, "data/train-00001-of-00002/4");
    assert_eq!(items[24].0.path, "4.png");
}

#[test]
fn files_that_are_no_images_are_counted_and_links_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let source = &folders(folder.path()).sources[1];
    write(&source.join(".hidden"), b"x");
    let found = open(LayoutKind::Folder, source, &options()).unwrap().found();
    let expected = "a folder of 3 class folders with 4 images; 2 other files are passed over, the \
                    first .hidden";
    assert_eq!(found, expected);

    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "a/2.jpg", "a/1.jpg").unwrap();
    let path = folder.path().join("links.tar");
    write(&path, &builder.into_inner().unwrap());
    let (items, _) = read(LayoutKind::Folder, &path, 0).unwrap();
    let reason = items[0].0.content.as_ref().unwrap_err();
    assert!(reason.contains("a link to a/1.jpg"), "{reason}");
}

#[test]
fn files_that_are_too_long_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = SourceOptions { max_bytes: 100, ..options() };
    for source in &folders(folder.path()).sources {
        let layout = open(LayoutKind::Folder, source, &options).unwrap();
        let mut long = 0;
        let take = &mut |item: Item| {
            long += usize::from(item.content.is_err_and(|why| why.contains("too many bytes")));
            true
        };
        layout.read(0, take).unwrap();
        assert_eq!(long, 2, "{}", source.display());
    }
}

#[test]
fn what_could_be_several_layouts_or_none_is_an_error_that_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let mixed = unpacked(&folder.path().join("mixed"), &files(&["1.jpg", "rows.parquet"]));
    let notes = unpacked(&folder.path().join("notes"), &files(&["notes.txt"]));
    let both = unpacked(
        &folder.path().join("both"),
        &files(&["n01440764/n01440764_1.JPEG", "n01440764.tar"]),
    );
    let said = |result: Result<LayoutKind>| result.unwrap_err().to_string();
    let message = said(LayoutKind::recognize(&mixed));
    assert!(message.contains("parquet or folder") && message.contains("webdataset"), "{message}");
    let message = said(LayoutKind::recognize(&notes));
    assert!(message.contains("no images") && message.contains("webdataset"), "{message}");
    let opened = open(LayoutKind::ImagenetTrain, &both, &options());
    let message = opened.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("both n01440764.tar and n01440764/"), "{message}");
}

#[test]
fn places_are_told_apart_and_unknown_classes_named() {
    let folder = tempfile::tempdir().unwrap();
    let about = |name: &str, names: &[&str]| {
        let path = packed(folder.path().join(name), &files(names));
        open(LayoutKind::Places365, &path, &options())
    };
    let published = |name: &str, names: &[&str]| {
        let layout = about(name, names).unwrap();
        assert_eq!(layout.classes().len(), 365);
        (layout.split(), layout.published())
    };
    let train = ["data_large/a/airfield/00000001.jpg"];
    let standard = published("train_large_places365standard.tar", &train);
    assert_eq!(standard, ("train", Some(1_803_460)));
    let challenge = published("train_large_places365challenge.tar", &train);
    assert_eq!(challenge, ("train", Some(8_026_628)));
    let val = published("val_large.tar", &["val_large/Places365_val_00000001.jpg"]);
    assert_eq!(val, ("val", Some(36_500)));
    let test = published("test_256.tar", &["test_256/Places365_test_00000001.jpg"]);
    assert_eq!(test, ("test", Some(328_500)));

    let path = folder.path().join("x.tar");
    packed(path.clone(), &files(&["data_256/a/airfield/1.jpg", "data_256/x/xylophone/1.jpg"]));
    let message = read(LayoutKind::Places365, &path, 0).unwrap_err().to_string();
    assert!(message.contains("has the class `data_256/x/xylophone`"), "{message}");
    let mixed = ["a/airfield/1.jpg", "val_256/Places365_val_00000001.jpg"];
    let message = about("y.tar", &mixed).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("holds train and val images"), "{message}");
}
