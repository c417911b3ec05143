//! Reading one shard: its page index once, then any image by one ranged read.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet::errors::{ParquetError, Result as ParquetResult};

use super::Record;
use super::manifest::ShardEntry;
use super::pages::{
    BYTES, FORMAT, HEIGHT, Index, KEY, LABEL, LEAVES, PATH, Row, SHA256, SOURCE, SOURCE_SHA256,
    WIDTH,
};
use crate::{Error, Result, Store, atomic};
use storage::Ranges;

/// Files of all datasets of the process that are kept open.
const MAX_OPEN: usize = 256;
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One shard: its page index, and its file where it is kept open.
pub(crate) struct Shard {
    store: Store,
    file: String,
    bytes: u64,
    kept: Option<Kept>,
    index: Index,
}

/// A file that is kept open; objects of a store are not counted, they take no file descriptor.
struct Kept(Ranges);

impl Kept {
    fn new(ranges: Ranges) -> Option<Self> {
        if ranges.is_remote() || OPEN.fetch_add(1, Ordering::Relaxed) < MAX_OPEN {
            return Some(Self(ranges));
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.0.is_remote() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Shard {
    /// Reads footer and page index.
    pub(crate) fn open(store: &Store, entry: &ShardEntry) -> Result<Self> {
        let ranges = store.file(&entry.file, entry.bytes)?;
        let path = place(store, &entry.file);
        let wrong = Error::parquet(&path);
        let index = match Index::read(&ranges) {
            Ok(index) if index.rows() == entry.rows => index,
            Ok(index) => {
                let message = format!("{} rows, the manifest says {}", index.rows(), entry.rows);
                return Err(wrong(ParquetError::General(message)));
            }
            Err(error) => return Err(wrong(error)),
        };
        Ok(Self {
            store: store.clone(),
            file: entry.file.clone(),
            bytes: entry.bytes,
            kept: Kept::new(ranges),
            index,
        })
    }

    /// The shard's file, for ranged reads.
    pub(crate) fn ranges(&self) -> Result<Ranges> {
        match &self.kept {
            Some(kept) => Ok(kept.0.clone()),
            None => Ok(self.store.file(&self.file, self.bytes)?),
        }
    }

    /// The row group of a row: its number, and from where to where it lies in the file.
    pub(crate) fn group(&self, row: u64) -> Option<(usize, Range<u64>)> {
        self.index.group(row)
    }

    /// Bytes that the index takes in memory.
    pub(crate) fn index_bytes(&self) -> usize {
        size_of::<Self>() + self.index.bytes()
    }

    /// Lengths of the pages of all images.
    pub(crate) fn image_lengths(&self) -> impl Iterator<Item = u64> + '_ {
        self.index.image_lengths()
    }

    /// Key and bytes of one image: one ranged read each. With `check` the bytes are compared with the
    /// row's digest.
    pub(crate) fn photograph(
        &self,
        row: u64,
        source: &Ranges,
        check: bool,
    ) -> Result<(String, bytes::Bytes)> {
        let columns = if check { &[BYTES, KEY, SHA256][..] } else { &[BYTES, KEY] };
        self.with(row, source, columns, |at| {
            let bytes = at.value(BYTES)?;
            if check {
                compare(&bytes, &at.text(SHA256)?)?;
            }
            Ok((at.text(KEY)?, bytes))
        })
    }

    /// The key of one image.
    pub(crate) fn key(&self, row: u64, source: &Ranges) -> Result<String> {
        self.with(row, source, &[KEY], |at| at.text(KEY))
    }

    /// The whole row; the bytes are compared with their digest.
    pub(crate) fn record(&self, row: u64, source: &Ranges) -> Result<Record> {
        let all: Vec<usize> = (0..LEAVES.len()).collect();
        self.with(row, source, &all, |at| {
            let label = i64::from_le_bytes(at.fixed(LABEL)?);
            let (bytes, sha256) = (at.value(BYTES)?, at.text(SHA256)?);
            compare(&bytes, &sha256)?;
            Ok(Record {
                bytes,
                path: at.text(PATH)?,
                label: (label >= 0).then_some(label),
                key: at.text(KEY)?,
                sha256,
                width: u32::from_le_bytes(at.fixed(WIDTH)?),
                height: u32::from_le_bytes(at.fixed(HEIGHT)?),
                format: at.text(FORMAT)?,
                source: at.text(SOURCE)?,
                orientation: at.orientation()?,
                source_sha256: Some(at.text(SOURCE_SHA256)?).filter(|digest| !digest.is_empty()),
            })
        })
    }

    /// Reads these columns of a row, at once where a read is dear.
    fn with<T>(
        &self,
        row: u64,
        source: &Ranges,
        columns: &[usize],
        read: impl Fn(&Row) -> ParquetResult<T>,
    ) -> Result<T> {
        let read = || {
            let at = self.index.at(row, source)?;
            let spans: Vec<_> = columns.iter().map(|&column| at.span(column).0).collect();
            read(&self.index.at(row, &source.fetch(&spans)?)?)
        };
        read().map_err(|error: ParquetError| self.damaged(row, source, &error.to_string()))
    }

    /// The error for a row that is not as it must be, with the digest that it should have.
    pub(crate) fn damaged(&self, row: u64, source: &Ranges, message: &str) -> Error {
        let digest = self.index.at(row, source).and_then(|at| at.text(SHA256)).ok();
        let shard = place(&self.store, &self.file);
        Error::Record { shard, row, digest, message: message.to_owned() }
    }
}

/// Compares an image with its digest.
fn compare(bytes: &[u8], promised: &str) -> ParquetResult<()> {
    let found = atomic::sha256(bytes);
    match found == promised {
        true => Ok(()),
        false => Err(ParquetError::General(format!("damaged: its bytes have sha256 {found}"))),
    }
}

/// How messages name a shard.
fn place(store: &Store, file: &str) -> PathBuf {
    match store.folder() {
        Some(folder) => folder.join(file),
        None => PathBuf::from(format!("{}/{file}", store.place())),
    }
}
