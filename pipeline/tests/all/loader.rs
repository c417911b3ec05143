//! The stream: the same whatever makes it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pipeline::{
    Batch, Crop, DataConfig, DatasetRef, ImageSize, Loader, OnBadSample, Shuffle, Stream, Task,
};

use crate::common::{self, scenes_dataset, scenes_folder};

fn config(uri: &str, threads: usize) -> DataConfig {
    DataConfig {
        datasets: vec![DatasetRef { uri: common::place(uri), weight: 1.0 }],
        image_size: ImageSize::square(32),
        crop: Crop::Random,
        flip: true,
        tasks: Task::ALL.map(|task| (task, 1.0)).into(),
        threads,
        prefetch: 3,
        ..DataConfig::default()
    }
}

fn stream(batch_size: usize, first_batch: u64, rank: usize, world_size: usize) -> Stream {
    Stream { seed: 42, batch_size, first_batch, rank, world_size }
}

fn batches(config: &DataConfig, stream: Stream, count: usize) -> Vec<Batch> {
    let mut loader = Loader::start(config, stream).unwrap();
    (0..count).map(|_| loader.next_batch().unwrap()).collect()
}

#[test]
fn the_stream_does_not_depend_on_threads_ranks_or_start() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 70, 48);
    for shuffle in [Shuffle::Full, Shuffle::Window, Shuffle::None] {
        let config = |threads| DataConfig { shuffle, window: 2, ..config(&uri, threads) };
        let reference = batches(&config(1), stream(24, 0, 0, 1), 8);
        for threads in [2, 5] {
            assert!(reference == batches(&config(threads), stream(24, 0, 0, 1), 8));
        }
        for ranks in [2, 3, 7, 8] {
            let slices: Vec<_> =
                (0..ranks).map(|rank| batches(&config(2), stream(24, 0, rank, ranks), 8)).collect();
            for (index, whole) in reference.iter().enumerate() {
                let slices = || slices.iter().map(|slice| &slice[index]);
                let join = |part: fn(&Batch) -> &[u8]| slices().flat_map(part).copied().collect();
                let joined: [Vec<u8>; 3] =
                    [join(|batch| &batch.target), join(|b| &b.source), join(|b| &b.mask)];
                assert!(joined[0] == whole.target, "{ranks} ranks");
                assert!(joined[1] == whole.source, "{ranks} ranks");
                assert!(joined[2] == whole.mask, "{ranks} ranks");
                let keys: Vec<_> = slices().flat_map(|slice| slice.keys.clone()).collect();
                let positions: Vec<_> = slices().flat_map(|s| s.positions.clone()).collect();
                assert_eq!((keys, positions), (whole.keys.clone(), whole.positions.clone()));
            }
        }
        // Batch 5 lies in the second epoch.
        for first in [1, 5] {
            let later = batches(&config(3), stream(24, first, 0, 1), 3);
            assert!(later == reference[first as usize..first as usize + 3]);
        }
    }
}

#[test]
fn every_image_comes_once_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 60, 40);
    for shuffle in [Shuffle::Full, Shuffle::Window] {
        let config = DataConfig { shuffle, window: 2, ..config(&uri, 2) };
        let all = batches(&config, stream(20, 0, 0, 1), 6);
        let keys: Vec<_> = all.iter().flat_map(|batch| batch.keys.clone()).collect();
        for epoch in keys.chunks(60) {
            assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 60);
        }
        assert_ne!(keys[..60], keys[60..]);
    }
}

#[test]
fn tasks_come_by_weight() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&scenes_dataset(folder.path(), 20, 16), 2);
    config.image_size = ImageSize::square(8);
    let weights = [(Task::Colorization, 1.0), (Task::Inpainting, 0.0), (Task::Jpeg, 3.0)];
    config.tasks = weights.into();
    let mut counts: HashMap<Task, f64> = HashMap::new();
    for batch in batches(&config, stream(100, 0, 0, 1), 40) {
        for task in batch.tasks {
            *counts.entry(task).or_default() += 1.0;
        }
    }
    // 4000 draws: the standard deviation of a share of 1/4 is 0.0068.
    assert!((counts[&Task::Colorization] / 4000.0 - 0.25).abs() < 0.03, "{counts:?}");
    assert_eq!(counts[&Task::Colorization] + counts[&Task::Jpeg], 4000.0);
}

#[test]
fn half_of_the_images_are_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = config(&scenes_dataset(folder.path(), 100, 16), 2);
    plain.image_size = ImageSize { height: 8, width: 12 };
    (plain.crop, plain.flip) = (Crop::Center, false);
    let flipped = DataConfig { flip: true, ..plain.clone() };
    let (plain, flipped) =
        (batches(&plain, stream(100, 0, 0, 1), 1), batches(&flipped, stream(100, 0, 0, 1), 1));
    let mut mirrored = 0;
    for (a, b) in plain[0].target.chunks(3 * 96).zip(flipped[0].target.chunks(3 * 96)) {
        let rows = a.chunks(3 * 12);
        let turned: Vec<u8> = rows.flat_map(|row| row.chunks(3).rev().flatten()).copied().collect();
        assert!(b == a || b == turned);
        mirrored += usize::from(b == turned && a != turned);
    }
    // Binomial with a standard deviation of 5.
    assert!((30..=70).contains(&mirrored), "{mirrored}");
}

#[test]
fn images_need_not_be_square() {
    let folder = tempfile::tempdir().unwrap();
    let mut wide = config(&scenes_dataset(folder.path(), 8, 64), 2);
    wide.image_size = ImageSize { height: 24, width: 40 };
    (wide.crop, wide.flip) = (Crop::Center, false);
    let batch = &batches(&wide, stream(8, 0, 0, 1), 1)[0];
    assert_eq!((batch.size, batch.height, batch.width), (8, 24, 40));
    assert_eq!((batch.target.len(), batch.mask.len()), (8 * 3 * 960, 8 * 960));
    // The middle rows of the same image scaled to a square of the longer side.
    let mut square = wide.clone();
    square.image_size = ImageSize::square(40);
    let whole = &batches(&square, stream(8, 0, 0, 1), 1)[0];
    assert_eq!(batch.keys, whole.keys);
    for (image, (wide, square)) in
        batch.target.chunks(3 * 960).zip(whole.target.chunks(3 * 1600)).enumerate()
    {
        for (a, b) in wide.iter().zip(&square[3 * 8 * 40..3 * 32 * 40]) {
            assert!(a.abs_diff(*b) <= 1, "image {image}: {a} and {b}");
        }
    }
}

/// Ingests drawn photographs as JPEG and gives the dataset's address.
fn jpeg_dataset(at: &Path, count: u64, side: u32) -> String {
    let photos = at.join("photos");
    std::fs::create_dir(&photos).unwrap();
    for number in 0..count {
        let scene = pipeline::scenes::scene(number, side);
        let bytes = pipeline::image::jpeg::encode(&scene, 95, Default::default()).unwrap();
        std::fs::write(photos.join(format!("{number:02}.jpg")), bytes).unwrap();
    }
    let uri = at.join("dataset").to_str().unwrap().to_owned();
    let options = pipeline::ingest::IngestOptions::new(vec![photos], common::place(&uri));
    pipeline::ingest::ingest(&options, &|_| {}).unwrap();
    uri
}

#[test]
fn scaled_decoding_changes_little() {
    let folder = tempfile::tempdir().unwrap();
    let uri = jpeg_dataset(folder.path(), 4, 512);
    let whole = config(&uri, 1);
    let scaled = DataConfig { scaled_decoding: true, ..whole.clone() };
    let [whole, scaled] =
        [whole, scaled].map(|config| batches(&config, stream(4, 0, 0, 1), 1).remove(0));
    assert_eq!((&whole.keys, &whole.tasks), (&scaled.keys, &scaled.tasks));
    let pairs = whole.target.iter().zip(&scaled.target);
    let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    let mean = sum / whole.target.len() as f64;
    assert!(mean > 0.0 && mean < 2.0, "differs by {mean} levels on average");
}

#[test]
fn a_slow_consumer_stops_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let mut loader =
        Loader::start(&config(&scenes_dataset(folder.path(), 20, 40), 4), stream(6, 0, 0, 1))
            .unwrap();
    for _ in 0..5 {
        testkit::until("three batches are ahead", || loader.ahead() == 3);
        for _ in 0..10_000 {
            std::thread::yield_now();
            assert!(loader.ahead() <= 3);
        }
        loader.next_batch().unwrap();
    }
}

#[test]
fn batches_hold_pixels_and_binary_masks() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 16, 64);
    let mut only = config(&uri, 2);
    (only.crop, only.flip) = (Crop::Center, false);
    only.tasks = [(Task::Inpainting, 1.0)].into();
    let dataset = pipeline::Dataset::open(&common::place(&uri)).unwrap();
    let batch = &batches(&only, stream(4, 0, 0, 1), 1)[0];
    assert_eq!((batch.size, batch.height, batch.width), (4, 32, 32));
    assert_eq!((batch.target.len(), batch.mask.len()), (4 * 3 * 32 * 32, 4 * 32 * 32));
    assert!(batch.mask.iter().all(|&value| value <= 1));
    let record = dataset.records().map(Result::unwrap).find(|r| r.key == batch.keys[0]).unwrap();
    let photo = pipeline::image::decode(&record.bytes).unwrap();
    let photo = pipeline::image::fit(&photo, 32, pipeline::image::Window::CENTER).unwrap();
    for (x, y, pixel) in photo.enumerate_pixels() {
        for (channel, &value) in pixel.0.iter().enumerate() {
            let at = (y * 32 + x) as usize;
            let masked = batch.mask[at] == 1;
            let at = 3 * at + channel;
            assert_eq!(batch.target[at], value);
            assert_eq!(batch.source[at], if masked { 128 } else { value });
        }
    }
}

#[test]
fn large_batches_are_made_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 12, 64);
    let mut large = config(&uri, 1);
    large.image_size = ImageSize::square(512);
    let one = batches(&large, stream(7, 0, 0, 1), 2);
    large.threads = 4;
    assert!(one == batches(&large, stream(7, 0, 0, 1), 2));
}

#[test]
fn a_mixture_of_datasets_keeps_its_weights() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut both = config(&scenes_dataset(first.path(), 30, 40), 2);
    let uri = scenes_dataset(second.path(), 12, 56);
    both.datasets.push(DatasetRef { uri: common::place(&uri), weight: 3.0 });
    let keys: Vec<_> =
        batches(&both, stream(50, 0, 0, 1), 20).into_iter().flat_map(|batch| batch.keys).collect();
    // Scenes 12 to 29 are in the first dataset alone: 18/30 of a quarter of the stream.
    let number = |key: &String| key[2..6].parse::<u32>().unwrap();
    let only_first = keys.iter().filter(|key| number(key) >= 12).count() as f64;
    assert!((only_first / keys.len() as f64 - 0.15).abs() < 0.04, "{only_first} of {}", keys.len());
}

#[test]
fn a_vanished_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 60, 48);
    let dataset = pipeline::Dataset::open(&common::place(&uri)).unwrap();
    assert!(dataset.manifest().shards.len() > 1);
    let mut loader = Loader::start(&config(&uri, 1), stream(4, 0, 0, 1)).unwrap();
    for shard in &dataset.manifest().shards {
        std::fs::remove_file(dataset.folder().unwrap().join(&shard.file)).unwrap();
    }
    // Files that are open stay readable; a new loader must refuse.
    let _ = loader.next_batch();
    let error = Loader::start(&config(&uri, 1), stream(4, 0, 0, 1)).err().unwrap().to_string();
    assert!(error.contains("-00000-of-") && error.contains("cannot be read"), "{error}");
}

/// Overwrites the image of row `index`, so that its page is there and no image.
fn damage(uri: &str, index: u64) -> pipeline::Record {
    overwrite(uri, index, |image| image[..64].fill(0))
}

/// Changes the stored bytes of row `index`; gives the row as it was.
fn overwrite(uri: &str, index: u64, change: impl Fn(&mut [u8])) -> pipeline::Record {
    let dataset = pipeline::Dataset::open(&common::place(uri)).unwrap();
    let record = dataset.record(index).unwrap();
    for entry in &dataset.manifest().shards {
        let shard = Path::new(uri).join(&entry.file);
        let mut bytes = std::fs::read(&shard).unwrap();
        let at = bytes.windows(record.bytes.len()).position(|part| part == record.bytes);
        if let Some(at) = at {
            change(&mut bytes[at..at + record.bytes.len()]);
            std::fs::write(&shard, bytes).unwrap();
        }
    }
    record
}

#[test]
fn damage_that_still_decodes_is_found_by_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    let uri = jpeg_dataset(folder.path(), 12, 64);
    // A step of the quantization: another picture, and no decoder can know.
    let requantize = |image: &mut [u8]| {
        let table = image.windows(2).position(|marker| marker == [0xff, 0xdb]).unwrap();
        image[table + 8] ^= 1;
    };
    let record = overwrite(&uri, 5, requantize);
    let mut changed = record.bytes.to_vec();
    requantize(&mut changed);
    pipeline::image::decode(&changed).unwrap();

    let mut loader = Loader::start(&config(&uri, 2), stream(1, 0, 0, 1)).unwrap();
    let errors: Vec<_> = (0..12).filter_map(|_| loader.next_batch().err()).collect();
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(text.contains("row 5") && text.contains(&record.sha256), "{text}");
    assert!(text.contains("its bytes have sha256"), "{text}");
}

#[test]
fn a_damaged_page_is_named_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 20, 48);
    let record = damage(&uri, 3);
    let mut loader = Loader::start(&config(&uri, 2), stream(1, 0, 0, 1)).unwrap();
    let results: Vec<_> = (0..20).map(|_| loader.next_batch()).collect();
    let errors: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(text.contains("row 3") && text.contains(&record.sha256), "{text}");
    assert_eq!(loader.skipped().count, 0);
}

#[test]
fn a_damaged_page_is_passed_over_and_counted_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 20, 48);
    let good = batches(&config(&uri, 1), stream(10, 0, 0, 1), 4);
    let record = damage(&uri, 3);
    let skip = |threads| DataConfig { on_bad_sample: OnBadSample::Skip, ..config(&uri, threads) };
    let mut loader = Loader::start(&skip(1), stream(10, 0, 0, 1)).unwrap();
    let reference: Vec<_> = (0..4).map(|_| loader.next_batch().unwrap()).collect();
    // Two epochs, and the image may have been drawn in its own place.
    assert!((2..8).contains(&loader.skipped().count), "{:?}", loader.skipped());
    let text = loader.skipped().first[0].to_string();
    assert!(text.contains("row 3") && text.contains(&record.sha256), "{text}");
    let mut replaced = 0;
    for (with, without) in reference.iter().zip(&good) {
        for (a, b) in with.keys.iter().zip(&without.keys) {
            assert!(*a != record.key);
            assert!(a == b || *b == record.key);
            replaced += usize::from(a != b);
        }
    }
    assert_eq!(replaced, 2);
    assert!(reference == batches(&skip(4), stream(10, 0, 0, 1), 4));
    let ranks = [0, 1].map(|rank| batches(&skip(2), stream(10, 0, rank, 2), 4));
    for (index, whole) in reference.iter().enumerate() {
        assert_eq!(whole.target, [0, 1].map(|rank| ranks[rank][index].target.clone()).concat());
    }
}

#[test]
fn a_lost_dataset_ends_the_search_for_substitutes() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 60, 48);
    for entry in pipeline::Dataset::open(&common::place(&uri)).unwrap().manifest().shards.iter() {
        let shard = Path::new(&uri).join(&entry.file);
        std::fs::write(&shard, vec![0; entry.bytes as usize]).unwrap();
    }
    let skip = DataConfig { on_bad_sample: OnBadSample::Skip, ..config(&uri, 2) };
    let mut loader = Loader::start(&skip, stream(2, 0, 0, 1)).unwrap();
    let text = loader.next_batch().unwrap_err().to_string();
    assert!(text.contains("64 images") && text.contains("-of-"), "{text}");
    assert!(loader.skipped().count >= 64 && loader.skipped().first.len() == 8);
}

#[test]
fn the_index_of_ten_million_images_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 3000, 8);
    let uri = folder.path().join("dataset").to_str().unwrap().to_owned();
    // One shard: what a shard takes by itself weighs nothing against the images of a real one.
    let options = pipeline::ingest::IngestOptions::new(vec![source], common::place(&uri));
    pipeline::ingest::ingest(&options, &|_| {}).unwrap();
    let dataset = pipeline::Dataset::open(&common::place(&uri)).unwrap();
    for index in 0..dataset.len() {
        dataset.photograph(index).unwrap();
    }
    let bytes = dataset.index_bytes() as f64 / dataset.len() as f64;
    assert!(bytes > 0.0 && bytes < 10.0, "{bytes} bytes an image");
}

#[test]
fn impossible_streams_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 4, 40);
    for (batch_size, rank, ranks) in [(0, 0, 1), (4, 1, 1), (2, 0, 3)] {
        assert!(Loader::start(&config(&uri, 1), stream(batch_size, 0, rank, ranks)).is_err());
    }
}

#[test]
fn a_reopened_dataset_and_another_process_see_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 60, 48);
    let first = batches(&config(&uri, 2), stream(20, 0, 0, 1), 4);
    assert!(first == batches(&config(&uri, 1), stream(20, 0, 0, 1), 4), "opened again");
    let sheet = |name: &str| {
        let picture = folder.path().join(name);
        let mut command = common::pipeline();
        command.args(["preview", "--dataset", &uri, "--set", "data.image_size=32", "--out"]);
        common::run_ok(command.arg(&picture));
        std::fs::read(picture).unwrap()
    };
    assert!(sheet("a.png") == sheet("b.png"), "two processes");
    // A copy elsewhere is the same dataset.
    let copy = folder.path().join("copy");
    std::fs::create_dir_all(copy.join("data")).unwrap();
    std::fs::copy(Path::new(&uri).join("manifest.json"), copy.join("manifest.json")).unwrap();
    for shard in std::fs::read_dir(Path::new(&uri).join("data")).unwrap() {
        let shard = shard.unwrap();
        std::fs::copy(shard.path(), copy.join("data").join(shard.file_name())).unwrap();
    }
    let moved = config(copy.to_str().unwrap(), 2);
    assert!(first == batches(&moved, stream(20, 0, 0, 1), 4), "moved");
}

#[test]
fn more_shards_than_files_may_be_open_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = scenes_folder(folder.path(), 400, 128);
    let uri = folder.path().join("dataset").to_str().unwrap().to_owned();
    let mut options = pipeline::ingest::IngestOptions::new(vec![source], common::place(&uri));
    options.shard_bytes = 1 << 16;
    pipeline::ingest::ingest(&options, &|_| {}).unwrap();
    let shards = std::fs::read_dir(Path::new(&uri).join("data")).unwrap().count();
    assert!(shards > 64, "{shards}");
    // Both the soft limit alone, which the program raises, and one that it cannot raise.
    for limit in ["ulimit -S -n 64", "ulimit -n 64"] {
        let program = env!("CARGO_BIN_EXE_pipeline");
        let bench = "--seconds 0.5 --rounds 1 --threads 2 --task colorization --size 16";
        for call in [format!("verify '{uri}'"), format!("bench --dataset '{uri}' {bench}")] {
            let mut command = std::process::Command::new("sh");
            common::run_ok(command.args(["-c", &format!("{limit} && exec '{program}' {call}")]));
        }
    }
}
