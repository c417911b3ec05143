//! Reading one shard: its page index once, then any image by one ranged read.

use std::ops::Range;
use std::path::PathBuf;

use parquet::errors::{ParquetError, Result as ParquetResult};
use storage::{Ranges, Store, atomic};

use super::Record;
use super::manifest::ShardEntry;
use super::pages::{
    BYTES, FORMAT, HEIGHT, Index, KEY, LABEL, LEAVES, PATH, RowReader, SHA256, SOURCE,
    SOURCE_SHA256, WIDTH,
};
use crate::{Error, Result, guarded};

/// One shard: its page index, and its file.
pub(crate) struct Shard {
    store: Store,
    file: String,
    ranges: Ranges,
    index: Index,
}

impl Shard {
    /// Reads footer and page index.
    pub(crate) fn open(store: &Store, entry: &ShardEntry) -> Result<Self> {
        let ranges = store.file(&entry.file, entry.bytes)?;
        let path = place(store, &entry.file);
        let wrong = Error::parquet(&path);
        let index = match index(&ranges, entry.rows) {
            Ok(index) if index.rows() == entry.rows => index,
            Ok(index) => {
                let message = format!("{} rows, the manifest says {}", index.rows(), entry.rows);
                return Err(wrong(ParquetError::General(message)));
            }
            Err(error) => return Err(Error::shortage(error).unwrap_or_else(wrong)),
        };
        Ok(Self { store: store.clone(), file: entry.file.clone(), ranges, index })
    }

    /// The shard's file, for ranged reads.
    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// The row group of a row: its number, and from where to where it lies in the file.
    pub(crate) fn group(&self, row: u64) -> Option<(usize, Range<u64>)> {
        self.index.group(row)
    }

    /// The row group of a row, where the keys and digests of that group lie, and where its image does.
    pub(crate) fn spans(&self, row: u64) -> Result<(usize, Range<u64>, Range<u64>)> {
        let wrong = |error| Error::parquet(self.place())(error);
        let image = self.index.at(row, &self.ranges).map_err(wrong)?.span(BYTES).0;
        let (group, texts) = self.index.columns(row, &[KEY, SHA256]).ok_or_else(|| self.short())?;
        Ok((group, texts, image))
    }

    /// Bytes of the file.
    pub(crate) fn read(&self, span: &Range<u64>) -> Result<bytes::Bytes> {
        let length = usize::try_from(span.end - span.start).map_err(|_| self.short())?;
        self.ranges.read(span.start, length).map_err(|error| self.unread(error.into()))
    }

    /// Image, key and digest of a row.
    pub(crate) fn fetch(&self, row: u64) -> Result<Ranges> {
        let at = self.index.at(row, &self.ranges).map_err(|error| self.unread(error))?;
        let spans = [BYTES, KEY, SHA256].map(|column| at.span(column).0);
        self.ranges.fetch(&spans).map_err(|error| self.unread(error.into()))
    }

    /// The error of a part that ends early.
    pub(crate) fn short(&self) -> Error {
        self.unread(ParquetError::EOF("ends early".into()))
    }

    fn unread(&self, error: ParquetError) -> Error {
        Error::shortage(error).unwrap_or_else(Error::parquet(self.place()))
    }

    fn place(&self) -> PathBuf {
        place(&self.store, &self.file)
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
        read: impl Fn(&RowReader) -> ParquetResult<T>,
    ) -> Result<T> {
        let read = || {
            let at = self.index.at(row, source)?;
            let spans: Vec<_> = columns.iter().map(|&column| at.span(column).0).collect();
            let source = source.fetch(&spans)?;
            guarded::net(|| read(&self.index.at(row, &source)?))
        };
        read().map_err(|error: ParquetError| {
            let damaged = |error: ParquetError| self.damaged(row, source, &error.to_string());
            Error::shortage(error).unwrap_or_else(damaged)
        })
    }

    /// The error for a row that is not as it must be, with the digest that it should have.
    pub(crate) fn damaged(&self, row: u64, source: &Ranges, message: &str) -> Error {
        let digest = self.index.at(row, source).and_then(|at| at.text(SHA256)).ok();
        let shard = place(&self.store, &self.file);
        Error::Record { shard, row, digest, message: message.to_owned() }
    }
}

/// Reads the index of a shard. Over a network its end is read at once, with enough bytes for the index of
/// `rows` rows: footer, metadata and page index would be a request each.
fn index(ranges: &Ranges, rows: u64) -> ParquetResult<Index> {
    const LEAST: u64 = 128 << 10;
    const EACH: u64 = 24;
    const MOST: u64 = 16 << 20;
    let read_index = |ranges: &Ranges| guarded::net(|| Index::read(ranges));
    if !ranges.is_remote() {
        return read_index(ranges);
    }
    let length = ranges.length();
    let tail = (LEAST + rows.saturating_mul(EACH)).min(MOST).min(length);
    let read = ranges.read(length - tail, tail as usize)?;
    // What is wrong shows again where everything is there to be read.
    read_index(&Ranges::held(length - tail, read)).or_else(|_| read_index(ranges))
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
