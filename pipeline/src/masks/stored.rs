//! The masks of an evaluation stored beside its dataset: those that the evaluation draws on the fly,
//! in a Parquet file of columns `key`, `mask` (a PNG of one bit a pixel, white in the hole) and
//! `area`. The same dataset, bin, seed and size give the same bytes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use image::GrayImage;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use storage::atomic;

use crate::dataset::schema::image_fields;
use crate::dataset::writer::{image_column, text_column};
use crate::degrade::area;
use crate::degrade::inpainting::Hole;
use crate::{Dataset, Error, Result, guarded};

/// Rows of a row group.
const GROUP: u64 = 1024;
/// Largest file that is read.
const LARGEST: u64 = 1 << 30;

/// What is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMasks {
    /// Percent of the image that the strokes cover: at least the first number, less than the second.
    pub bin: [u8; 2],
    /// Seed of the evaluation.
    pub seed: u64,
    /// Side of the square masks in pixels.
    pub size: u32,
}

impl StoredMasks {
    /// Name of the file, such as `free-form-10-20-seed-0-256.parquet`.
    pub fn file(&self) -> String {
        let Self { bin: [low, high], seed, size } = self;
        format!("free-form-{low}-{high}-seed-{seed}-{size}.parquet")
    }

    fn mask(&self, key: &str) -> GrayImage {
        Hole::FreeForm(self.bin).mask(self.size, self.size, self.seed, key)
    }
}

/// Draws the mask of every record and stores them in `folder`; gives the file. One that is there
/// with the same bytes is left as it is. `progress` is told the rows done.
///
/// # Errors
/// For a file of the name with other contents; when a key cannot be read or the folder not written.
pub fn store(
    dataset: &Dataset,
    wanted: &StoredMasks,
    folder: &Path,
    progress: &dyn Fn(u64),
) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    let path = folder.join(wanted.file());
    let beside = atomic::beside(&path);
    let written = write(dataset, wanted, &beside, progress);
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    if !path.exists() {
        atomic::rename(&beside, &path)?;
        return Ok(path);
    }
    let same = atomic::sha256_file(&beside)? == atomic::sha256_file(&path)?;
    fs::remove_file(&beside).map_err(Error::io("remove", &beside))?;
    if same {
        return Ok(path);
    }
    let message = "holds other masks; remove it first where it is no longer needed";
    Err(Error::Refused { place: path.display().to_string(), message: message.into() })
}

fn write(
    dataset: &Dataset,
    wanted: &StoredMasks,
    path: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let schema = schema();
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
        .map_err(Error::parquet(path))?;
    let mut first = 0;
    while first < dataset.len() {
        let last = dataset.len().min(first + GROUP);
        let keys = (first..last).map(|row| dataset.key(row)).collect::<Result<Vec<_>>>()?;
        let masks = draw(wanted, &keys)?;
        let names: Vec<_> = keys.iter().map(|key| format!("{key}.png")).collect();
        let images =
            masks.iter().zip(&names).map(|((png, _), name)| (png.as_slice(), name.as_str()));
        let columns: Vec<ArrayRef> = vec![
            text_column(keys.iter().map(String::as_str)),
            image_column(images),
            Arc::new(Float64Array::from_iter_values(masks.iter().map(|(_, area)| *area))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .map_err(|error| Error::parquet(path)(error.into()))?;
        writer.write(&batch).and_then(|()| writer.flush()).map_err(Error::parquet(path))?;
        first = last;
        progress(first);
    }
    let file = writer.into_inner().map_err(Error::parquet(path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// PNG and area of the masks of these keys, drawn on all cores.
fn draw(wanted: &StoredMasks, keys: &[String]) -> Result<Vec<(Vec<u8>, f64)>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let one = |key: &String| {
        let mask = wanted.mask(key);
        Ok((png(&mask)?, area(&mask)))
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = keys
            .chunks(keys.len().div_ceil(threads).max(1))
            .map(|keys| scope.spawn(move || keys.iter().map(one).collect::<Result<Vec<_>>>()))
            .collect();
        let mut drawn = Vec::with_capacity(keys.len());
        for part in parts {
            let failed = |_| Error::Image("a thread that drew masks panicked".into());
            drawn.extend(part.join().map_err(failed)??);
        }
        Ok(drawn)
    })
}

/// A PNG of one bit a pixel, white where the mask is 1.
fn png(mask: &GrayImage) -> Result<Vec<u8>> {
    let failed = |error: png::EncodingError| Error::Image(format!("not encodable: {error}"));
    let rows = mask.as_raw().chunks_exact(mask.width() as usize);
    let bits: Vec<u8> = rows
        .flat_map(|row| {
            row.chunks(8).map(|pixels| {
                pixels.iter().enumerate().fold(0, |byte, (at, value)| byte | value << (7 - at))
            })
        })
        .collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, mask.width(), mask.height());
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&bits).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The columns, with the features by which Hugging Face `datasets` knows them.
fn schema() -> Arc<Schema> {
    let features = serde_json::json!({ "info": { "features": {
        "key": { "dtype": "string", "_type": "Value" },
        "mask": { "_type": "Image" },
        "area": { "dtype": "float64", "_type": "Value" },
    } } });
    let fields = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("mask", DataType::Struct(image_fields()), false),
        Field::new("area", DataType::Float64, false),
    ];
    let metadata = [("huggingface".to_owned(), features.to_string())];
    Arc::new(Schema::new_with_metadata(fields, HashMap::from(metadata)))
}

/// Stored masks by key, as PNG files in memory (about a kilobyte each).
pub(super) struct Stored {
    path: PathBuf,
    masks: HashMap<String, Vec<u8>>,
}

impl Stored {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, bytes) = storage::regular::open(path).map_err(Error::io("open", path))?;
        if bytes > LARGEST {
            let message = format!("has {bytes} bytes, at most {LARGEST} are read as masks");
            return Err(Error::source(path, message));
        }
        let batches =
            guarded::open(file, 256).and_then(guarded::batches).map_err(Error::parquet(path))?;
        let mut masks = HashMap::new();
        for batch in batches {
            let batch = batch.map_err(Error::parquet(path))?;
            rows(&batch, &mut masks).ok_or_else(|| {
                Error::source(path, "has no columns `key` and `mask`: store the masks again")
            })?;
        }
        Ok(Self { path: path.to_owned(), masks })
    }

    pub(super) fn mask(&self, key: &str) -> Result<GrayImage> {
        let bytes = self.masks.get(key).ok_or_else(|| {
            let message = format!("holds no mask for `{key}`; store the masks of this dataset");
            Error::source(&self.path, message)
        })?;
        let picture = crate::image::decode(bytes)
            .map_err(|error| Error::source(&self.path, format!("mask of `{key}`: {error}")))?;
        Ok(image::DynamicImage::from(picture).into_luma8())
    }
}

/// Adds the rows of a batch, where it has the columns.
fn rows(batch: &RecordBatch, masks: &mut HashMap<String, Vec<u8>>) -> Option<()> {
    let keys = batch.column_by_name("key")?.as_string_opt::<i32>()?;
    let images = batch.column_by_name("mask")?.as_struct_opt()?;
    let images = images.column_by_name("bytes")?.as_binary_opt::<i32>()?;
    for row in 0..batch.num_rows() {
        masks.insert(keys.value(row).to_owned(), images.value(row).to_vec());
    }
    Some(())
}
