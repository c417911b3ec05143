//! The stream: the same whatever makes it.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use common::scenes_dataset;
use pipeline::{Batch, Crop, DataConfig, DatasetRef, Loader, Stream, Task};

fn config(uri: &str, threads: usize) -> DataConfig {
    DataConfig {
        datasets: vec![DatasetRef { uri: uri.to_owned(), weight: 1.0 }],
        image_size: 32,
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
    let reference = batches(&config(&uri, 1), stream(24, 0, 0, 1), 8);
    for threads in [2, 5] {
        assert!(reference == batches(&config(&uri, threads), stream(24, 0, 0, 1), 8));
    }
    for ranks in [2, 3, 7, 8] {
        let slices: Vec<_> = (0..ranks)
            .map(|rank| batches(&config(&uri, 2), stream(24, 0, rank, ranks), 8))
            .collect();
        for (index, whole) in reference.iter().enumerate() {
            let join = |part: fn(&Batch) -> &[u8]| {
                slices.iter().flat_map(|slice| part(&slice[index])).copied().collect::<Vec<_>>()
            };
            assert!(whole.target == join(|batch| &batch.target), "{ranks} ranks");
            assert!(whole.source == join(|batch| &batch.source), "{ranks} ranks");
            assert!(whole.mask == join(|batch| &batch.mask), "{ranks} ranks");
            let positions: Vec<u64> =
                slices.iter().flat_map(|slice| slice[index].positions.clone()).collect();
            assert_eq!(whole.positions, positions);
        }
    }
    for first in [1, 5] {
        let later = batches(&config(&uri, 3), stream(24, first, 0, 1), 3);
        assert!(later == reference[first as usize..first as usize + 3]);
    }
}

#[test]
fn every_image_comes_once_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 60, 40);
    let all = batches(&config(&uri, 2), stream(20, 0, 0, 1), 6);
    let keys: Vec<_> = all.iter().flat_map(|batch| batch.keys.clone()).collect();
    for epoch in keys.chunks(60) {
        assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 60);
    }
    assert_ne!(keys[..60], keys[60..]);
}

#[test]
fn batches_hold_planes_and_binary_masks() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 16, 64);
    let mut only = config(&uri, 2);
    (only.crop, only.flip) = (Crop::Center, false);
    only.tasks = [(Task::Inpainting, 1.0)].into();
    let dataset = pipeline::Dataset::open(&uri).unwrap();
    let batch = &batches(&only, stream(4, 0, 0, 1), 1)[0];
    assert_eq!((batch.size, batch.height, batch.width), (4, 32, 32));
    assert_eq!((batch.target.len(), batch.mask.len()), (4 * 3 * 32 * 32, 4 * 32 * 32));
    assert!(batch.mask.iter().all(|&value| value <= 1));
    let record = dataset.records().map(Result::unwrap).find(|r| r.key == batch.keys[0]).unwrap();
    let photo = pipeline::image::decode(&record.bytes).unwrap();
    let photo = pipeline::image::fit(&photo, 32, pipeline::image::Window::CENTER).unwrap();
    for (x, y, pixel) in photo.enumerate_pixels() {
        for (channel, &value) in pixel.0.iter().enumerate() {
            let at = channel * 1024 + (y * 32 + x) as usize;
            assert_eq!(batch.target[at], value);
            let masked = batch.mask[(y * 32 + x) as usize] == 1;
            assert_eq!(batch.source[at], if masked { 128 } else { value });
        }
    }
}

#[test]
fn large_batches_are_made_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 12, 64);
    let mut large = config(&uri, 1);
    large.image_size = 512;
    let one = batches(&large, stream(7, 0, 0, 1), 2);
    large.threads = 4;
    assert!(one == batches(&large, stream(7, 0, 0, 1), 2));
}

#[test]
fn a_mixture_of_datasets_keeps_its_weights() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut both = config(&scenes_dataset(first.path(), 30, 40), 2);
    let uri = scenes_dataset(second.path(), 12, 56);
    both.datasets.push(DatasetRef { uri, weight: 3.0 });
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
    let dataset = pipeline::Dataset::open(&uri).unwrap();
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

#[test]
fn a_damaged_page_is_named_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 20, 48);
    let dataset = pipeline::Dataset::open(&uri).unwrap();
    let record = dataset.record(3).unwrap();
    let shard = dataset.folder().unwrap().join(&dataset.manifest().shards[0].file);
    let mut bytes = std::fs::read(&shard).unwrap();
    let at = bytes.windows(record.bytes.len()).position(|part| part == record.bytes).unwrap();
    bytes[at..at + 64].fill(0);
    std::fs::write(&shard, bytes).unwrap();
    let mut loader = Loader::start(&config(&uri, 2), stream(1, 0, 0, 1)).unwrap();
    let results: Vec<_> = (0..20).map(|_| loader.next_batch()).collect();
    let errors: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(text.contains("row 3") && text.contains(&record.sha256), "{text}");
}

#[test]
fn impossible_streams_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uri = scenes_dataset(folder.path(), 4, 40);
    for (batch_size, rank, ranks) in [(0, 0, 1), (4, 1, 1), (2, 0, 3)] {
        assert!(Loader::start(&config(&uri, 1), stream(batch_size, 0, rank, ranks)).is_err());
    }
}
