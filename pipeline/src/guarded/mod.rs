//! Parquet files of strangers, and our own where they may be damaged. The library believes what metadata say: it
//! panics on offsets and counts that cannot be, and makes room for gigabytes on the word of twenty kilobytes. Here
//! footer and headers of pages are checked before the library sees them (`thrift`, `footer`, `page`), and what it
//! panics on all the same is an error ([`caught`]). Every reading of Parquet goes through [`open`] and [`batches`],
//! but for single pages of our shards, which `dataset::pages` reads by the same checks.
//!
//! The schema of Arrow that writers put beside that of Parquet is not read: types are those of the file itself,
//! and texts and bytes have 32-bit offsets, which bounds a batch.

mod footer;
mod page;
mod thrift;

use std::collections::HashMap;
use std::io::{Chain, Cursor, Read};
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use footer::Chunk;
pub(crate) use page::{Header, Use};

/// A page of the old LZ4 says nothing of its unpacked size before it is unpacked, to 255 times its size.
const OLD_LZ4: u64 = 4 << 20;

/// A file whose pages are checked as they are read.
pub struct Guarded<R> {
    file: R,
    /// In their order in the file.
    chunks: Vec<Chunk>,
    rows: u64,
    /// Pages whose headers were read and whose bytes were not: where these begin, and the unpacked size.
    pages: Mutex<HashMap<u64, u64>>,
}

/// Reads a guarded file.
pub type Builder<R> = ParquetRecordBatchReaderBuilder<Guarded<R>>;

/// Opens a file of which `rows` rows are made at once.
///
/// # Errors
/// Where footer or schema are damaged, or the file cannot be read.
pub fn open<R: ChunkReader + 'static>(file: R, rows: usize) -> ParquetResult<Builder<R>> {
    net(|| {
        footer::check(&file).map_err(damaged)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        let chunks = footer::chunks(metadata.metadata(), file.len()).map_err(damaged)?;
        let guarded = Guarded { file, chunks, rows: rows as u64, pages: Mutex::default() };
        Ok(Builder::new_with_metadata(guarded, metadata).with_batch_size(rows))
    })
}

/// The rows of a file that [`open`] opened.
///
/// # Errors
/// Where the file cannot be read.
pub fn batches<R: ChunkReader + 'static>(builder: Builder<R>) -> ParquetResult<Batches> {
    net(|| builder.build()).map(|reader| Batches(Some(reader)))
}

/// Batches of rows; none after an error.
pub struct Batches(Option<ParquetRecordBatchReader>);

impl Iterator for Batches {
    type Item = ParquetResult<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.0.take()?;
        // A reader that panicked is dropped within the net.
        let next = net(move || match reader.next() {
            Some(batch) => Ok(Some((batch?, reader))),
            None => Ok(None),
        });
        match next.transpose()? {
            Ok((batch, reader)) => {
                self.0 = Some(reader);
                Some(Ok(batch))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Looks at a footer before the library reads it.
pub(crate) fn check_footer(file: &impl ChunkReader) -> ParquetResult<()> {
    footer::check(file).map_err(damaged)
}

/// Checks what was read of a footer against a file of this length.
pub(crate) fn check_chunks(metadata: &ParquetMetaData, length: u64) -> ParquetResult<()> {
    footer::chunks(metadata, length).map(|_| ()).map_err(damaged)
}

/// Looks at a page index before the library makes room for the pages that it counts.
pub(crate) fn check_index(bytes: &[u8]) -> ParquetResult<()> {
    let whole = thrift::Walk::over(bytes, bytes.len() as u64, &mut |_, _| Ok(()));
    whole.map(|_| ()).map_err(|what| damaged(format!("its page index: {what}")))
}

/// Runs the library; where it panics the file is damaged.
pub(crate) fn net<T>(work: impl FnOnce() -> ParquetResult<T>) -> ParquetResult<T> {
    caught::panics(work)
        .unwrap_or_else(|said| Err(damaged(format!("the library gave it up: {said}"))))
}

pub(crate) fn damaged(message: String) -> ParquetError {
    ParquetError::General(message)
}

impl<R: Length> Length for Guarded<R> {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl<R: ChunkReader> Guarded<R> {
    fn chunk(&self, place: u64) -> Option<&Chunk> {
        let after = self.chunks.partition_point(|chunk| chunk.span.start <= place);
        // Empty chunks may share a start with the one that is meant.
        self.chunks[..after].iter().rev().find(|chunk| chunk.span.contains(&place))
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u64>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: ChunkReader> ChunkReader for Guarded<R> {
    type T = Chain<Cursor<Vec<u8>>, R::T>;

    /// The library reads on from here where it reads the header of a page, and where it has read it already.
    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut reader = self.file.get_read(start)?;
        let mut read = Vec::new();
        if let Some(chunk) = self.chunk(start).filter(|_| !self.pages().contains_key(&start)) {
            let of = Use { texts: chunk.texts, rows: self.rows };
            let header = Header::read(Kept { reader: &mut reader, read: &mut read }, of)
                .map_err(|what| damaged(format!("the page at byte {start} {what}")))?;
            let (packed, unpacked) = (header.packed as u64, header.unpacked as u64);
            let body = start + header.length;
            if body.checked_add(packed).is_none_or(|end| end > chunk.span.end) {
                return Err(damaged(format!("the page at byte {start} is longer than its column")));
            }
            if matches!(chunk.compression, Compression::LZ4) && packed > OLD_LZ4 {
                return Err(damaged(format!(
                    "the page at byte {start} has {packed} bytes packed by the old LZ4; write it again with zstd"
                )));
            }
            // Where a page without bytes has its own, the next one begins.
            if packed > 0 {
                self.pages().insert(body, unpacked);
            }
        }
        Ok(Cursor::new(read).chain(reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let end = start.checked_add(length as u64).filter(|&end| end <= self.len());
        end.ok_or_else(|| ParquetError::EOF("it ends early".to_owned()))?;
        let bytes = self.file.get_bytes(start, length)?;
        let unpacked = self.pages().remove(&start);
        let gzip = self.chunk(start).is_some_and(|c| matches!(c.compression, Compression::GZIP(_)));
        if let Some(unpacked) = unpacked.filter(|_| gzip) {
            inflates(&bytes, unpacked)?;
        }
        Ok(bytes)
    }
}

/// The library unpacks gzip to its end, however far that is. Little enough cannot become much.
fn inflates(bytes: &Bytes, unpacked: u64) -> ParquetResult<()> {
    const LITTLE: usize = 16 << 10;
    if bytes.len() <= LITTLE {
        return Ok(());
    }
    let inflated = flate2::read::MultiGzDecoder::new(&bytes[..]);
    let there = std::io::copy(&mut inflated.take(unpacked + 1), &mut std::io::sink())?;
    match there > unpacked {
        true => Err(damaged(format!("a page has more than the {unpacked} bytes that it says"))),
        false => Ok(()),
    }
}

/// A reader that keeps what was read.
struct Kept<'a, R> {
    reader: R,
    read: &'a mut Vec<u8>,
}

impl<R: Read> Read for Kept<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(bytes)?;
        self.read.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}
