//! The bytes of a parquet file, on this machine or far away.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};
use storage::FarReaders;

use crate::ingest::origin::Packed;
use crate::{Error, Result};

/// Buffer of a reading that begins somewhere.
const BUFFER: usize = 8 << 10;

/// A parquet file that is read.
pub(super) enum Rows {
    Disk(File),
    Far(Arc<FarReaders>),
}

impl Rows {
    pub(super) fn open(file: &Packed) -> Result<Self> {
        Ok(match file.as_far() {
            Some(far) => Self::Far(Arc::new(far.readers())),
            None => Self::Disk(File::open(file.name()).map_err(Error::io("open", file.name()))?),
        })
    }
}

impl Length for Rows {
    fn len(&self) -> u64 {
        match self {
            Self::Disk(file) => file.len(),
            Self::Far(readers) => readers.length(),
        }
    }
}

impl ChunkReader for Rows {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(match self {
            Self::Disk(file) => Box::new(file.get_read(start)?),
            Self::Far(readers) => {
                let from = Onward { readers: Arc::clone(readers), at: start };
                Box::new(BufReader::with_capacity(BUFFER, from))
            }
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Self::Disk(file) => file.get_bytes(start, length),
            Self::Far(readers) => Ok(readers.read_exact(start, length)?),
        }
    }
}

/// A reading of a far file from some place on.
struct Onward {
    readers: Arc<FarReaders>,
    at: u64,
}

impl Read for Onward {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.readers.read(self.at, bytes)?;
        self.at += count as u64;
        Ok(count)
    }
}
