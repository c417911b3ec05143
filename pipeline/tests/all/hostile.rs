//! Parquet whose metadata lie: whatever they say, the outcome is rows or an error of one line that no panic is
//! behind; what a file costs is bounded by what it is.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::schema::types::ColumnPath;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use pipeline::Dataset;
use pipeline::ingest::{IngestOptions, ingest};
use random::Rng;

use crate::common::{place, scenes_dataset};
use crate::mutants::mutants;
use crate::thrift::{self, Value};

/// A parquet file in its parts.
#[derive(Clone)]
pub struct File {
    pub footer: Value,
    /// Pages of each column of each row group: header and bytes.
    pub chunks: Vec<Vec<(Value, Vec<u8>)>>,
    /// What follows the pages, such as the page index, and where that is.
    rest: (usize, Vec<u8>),
}

impl File {
    pub fn read(bytes: &[u8]) -> Self {
        let tail = bytes.len() - 8;
        let size = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap()) as usize;
        let mut footer = thrift::structure(&mut &bytes[tail - size..tail]);
        let (mut chunks, mut end) = (Vec::new(), 4);
        for column in columns(&mut footer) {
            let data = *column.number(9).unwrap();
            let from = column.number(11).map_or(data, |at| *at) as usize;
            let to = from + *column.number(7).unwrap() as usize;
            let (mut left, mut pages) = (&bytes[from..to], Vec::new());
            while !left.is_empty() {
                let mut header = thrift::structure(&mut left);
                let length = *header.number(3).unwrap() as usize;
                pages.push((header, left.split_off(..length).unwrap().to_vec()));
            }
            chunks.push(pages);
            end = end.max(to);
        }
        let rest = (end, bytes[end..tail - size].to_vec());
        Self { footer, chunks, rest }
    }

    /// The bytes of it; with `settle` offsets and sizes of columns are set to where they are.
    pub fn written(mut self, settle: bool) -> Vec<u8> {
        let mut bytes = b"PAR1".to_vec();
        let mut places = Vec::new();
        for pages in &self.chunks {
            let from = bytes.len() as i64;
            for (header, body) in pages {
                bytes.extend(header.written());
                bytes.extend(body);
            }
            places.push((from, bytes.len() as i64 - from));
        }
        bytes.resize(bytes.len().max(self.rest.0), 0);
        bytes.extend(&self.rest.1);
        if settle {
            for (column, (from, length)) in columns(&mut self.footer).into_iter().zip(places) {
                let start = if column.number(11).is_some() { 11 } else { 9 };
                *column.number(start).unwrap() = from;
                *column.number(7).unwrap() = length;
            }
        }
        let footer = self.footer.written();
        bytes.extend(&footer);
        bytes.extend((footer.len() as u32).to_le_bytes());
        bytes.extend(b"PAR1");
        bytes
    }

    /// A copy with something changed in its footer or in the header of a page.
    fn mutant(&self, seed: u64) -> Vec<u8> {
        let rng = &mut Rng::new(random::key(&[seed, 0x7468]));
        let mut file = self.clone();
        let in_page = rng.chance(0.5);
        if in_page {
            let chunk = rng.integer(0, file.chunks.len() as u32 - 1) as usize;
            let page = rng.integer(0, file.chunks[chunk].len() as u32 - 1) as usize;
            file.chunks[chunk][page].0.mutate(rng);
        } else {
            file.footer.mutate(rng);
        }
        file.written(in_page)
    }
}

/// The metadata of all columns.
pub fn columns(footer: &mut Value) -> Vec<&mut Value> {
    let groups = footer.field(4).unwrap().elements().iter_mut();
    let columns = groups.flat_map(|group| group.field(1).unwrap().elements().iter_mut());
    columns.map(|column| column.field(3).unwrap()).collect()
}

/// Twelve pictures with labels of text.
pub fn pictures(properties: WriterProperties, picture: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
    let images: BinaryArray = (0..12).map(|row| Some(picture(row))).collect();
    let labels: StringArray = (0..12).map(|row| Some(["cat", "dog"][row % 2])).collect();
    let columns: [(&str, ArrayRef); 2] = [("image", Arc::new(images)), ("label", Arc::new(labels))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn picture(row: u64) -> Vec<u8> {
    let scene = pipeline::scenes::scene(row % 5, 8);
    pipeline::image::jpeg::encode(&scene, 50, pipeline::image::jpeg::Codec::default()).unwrap()
}

/// The error of an ingest, or nothing.
pub fn ingested(source: &Path, out: &Path) -> Option<String> {
    let options = IngestOptions {
        workers: 1,
        ..IngestOptions::new(vec![source.to_owned()], place(out.to_str().unwrap()))
    };
    let error = ingest(&options, &|_| {}).err().map(|error| error.to_string());
    let _ = fs::remove_dir_all(out);
    error
}

/// An error is of one line, names the file and comes from no panicking thread.
fn sound(error: &str, file: &Path, about: &str) {
    assert!(!error.contains("panicked") && !error.contains('\n'), "{about}: {error}");
    assert!(error.contains(file.to_str().unwrap()), "{about}: {error}");
}

#[test]
fn metadata_of_others_that_lie_are_an_error_of_the_file() {
    let new =
        || WriterProperties::builder().set_data_page_row_count_limit(5).set_write_batch_size(5);
    let column = ColumnPath::from("image");
    let kinds = [
        new().set_compression(Compression::SNAPPY).build(),
        new()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .build(),
        new()
            .set_compression(Compression::GZIP(GzipLevel::default()))
            .set_dictionary_enabled(false)
            .build(),
        new().set_compression(Compression::LZ4).build(),
        new()
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BYTE_ARRAY)
            .build(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("a.parquet"), folder.path().join("out"));
    for (kind, properties) in kinds.into_iter().enumerate() {
        let file = File::read(&pictures(properties, picture));
        fs::write(&source, file.clone().written(true)).unwrap();
        assert_eq!(ingested(&source, &out), None, "{kind}");
        let mut refused = 0;
        for seed in 0..mutants() / 20 {
            fs::write(&source, file.mutant(seed)).unwrap();
            let Some(error) = ingested(&source, &out) else { continue };
            sound(&error, &source, &format!("{kind} {seed}"));
            refused += 1;
        }
        assert!(refused > mutants() / 100, "{kind}: {refused}");
    }
}

#[test]
fn metadata_of_shards_that_lie_are_an_error_of_the_shard() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = scenes_dataset(folder.path(), 6, 24);
    let root = Path::new(&dataset);
    let shard = fs::read_dir(root.join("data")).unwrap().next().unwrap().unwrap().path();
    let sound_bytes = fs::read(&shard).unwrap();
    let manifest = root.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let file = File::read(&sound_bytes);
    let bytes_of = |length: usize| format!("\"bytes\": {length}");
    assert!(text.contains(&bytes_of(sound_bytes.len())), "{text}");
    let read = || -> pipeline::Result<()> {
        let dataset = Dataset::open(&place(&dataset))?;
        dataset.labels()?;
        (0..dataset.len()).try_for_each(|index| dataset.record(index).map(drop))
    };
    read().unwrap();
    for seed in 0..mutants() / 4 {
        let mutant = file.mutant(seed);
        fs::write(&manifest, text.replace(&bytes_of(sound_bytes.len()), &bytes_of(mutant.len())))
            .unwrap();
        fs::write(&shard, mutant).unwrap();
        if let Err(error) = read() {
            sound(&error.to_string(), &shard, &seed.to_string());
        }
    }
}

#[test]
fn values_that_unpack_to_more_than_a_file_may_cost_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("bomb.parquet"), folder.path().join("out"));
    let refused = |compression, dictionary: bool| {
        let new = WriterProperties::builder().set_compression(compression);
        let properties = new.set_dictionary_enabled(dictionary).build();
        let bytes = pictures(properties, |_| vec![0; 20 << 20]);
        assert!(bytes.len() < 20 << 20, "{}", bytes.len());
        fs::write(&source, bytes).unwrap();
        ingested(&source, &out).unwrap_or_default()
    };
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for error in [refused(zstd, false), refused(zstd, true)] {
        sound(&error, &source, "bomb");
        assert!(error.contains("unpacked, at most"), "{error}");
    }
    // A page of gzip that becomes more than its header says.
    let gzip = WriterProperties::builder().set_compression(Compression::GZIP(GzipLevel::default()));
    let bytes = pictures(gzip.set_dictionary_enabled(false).build(), |_| vec![0; 20 << 20]);
    let mut file = File::read(&bytes);
    let header = &mut file.chunks[0][0].0;
    assert!(*header.number(2).unwrap() > 1 << 20);
    *header.number(2).unwrap() = 1000;
    fs::write(&source, file.written(true)).unwrap();
    let error = ingested(&source, &out).unwrap();
    sound(&error, &source, "gzip");
    assert!(error.contains("has more than the 1000 bytes"), "{error}");
}
