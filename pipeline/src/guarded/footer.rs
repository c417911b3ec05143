//! The footer of a Parquet file: looked at before the library reads it, which makes room for what counts in it say,
//! and once more when it is read, since offsets and sizes are believed later.

use std::ops::Range;

use parquet::basic::{Compression, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::ChunkReader;

use super::thrift::{Path, Seen, Walk};

/// Longest footer.
const LONGEST: u64 = 32 << 20;
/// Columns within one another.
const NESTED: usize = 16;

/// A column of a row group: where its pages are.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) span: Range<u64>,
    pub(super) compression: Compression,
    /// Values are of any length, and may be one and the same again and again.
    pub(super) texts: bool,
}

/// Looks at the bytes of a file's footer.
///
/// # Errors
/// When it is no footer, or counts more than there is.
pub(super) fn check(file: &impl ChunkReader) -> Result<(), String> {
    let length = file.len();
    let early = || "it has no footer".to_owned();
    let tail = length.checked_sub(8).ok_or_else(early)?;
    let tail_bytes = file.get_bytes(tail, 8).map_err(|error| error.to_string())?;
    let (size, magic) = tail_bytes.split_first_chunk::<4>().ok_or_else(early)?;
    if magic != b"PAR1" {
        return Err(early());
    }
    let size = u64::from(u32::from_le_bytes(*size));
    if size > LONGEST {
        return Err(format!("its footer has {size} bytes, at most {LONGEST} are read"));
    }
    let start = tail.checked_sub(size).ok_or_else(early)?;
    let bytes = file.get_bytes(start, size as usize).map_err(|error| error.to_string())?;
    walk(&bytes).map_err(|error| format!("its footer: {error}"))
}

/// The structure of a footer, its schema above all: the library makes room for the columns that an element says it
/// has within, and goes down into them.
fn walk(bytes: &[u8]) -> Result<(), String> {
    let mut schema: Vec<i64> = Vec::new();
    let mut visit = |path: Path, seen: Seen| {
        match (path, seen) {
            ([2], Seen::Structure) => schema.push(0),
            ([2, 5], Seen::Number(count)) => {
                *schema.last_mut().ok_or("no schema")? = count;
            }
            // The library would read a number there, and make room for that many.
            ([2, 5], _) => return Err("a count of its schema is no number".to_owned()),
            _ => {}
        }
        Ok(())
    };
    Walk::over(bytes, bytes.len() as u64, &mut visit)?;
    nesting(&schema)
}

/// Checks that a schema, as numbers of the columns within each element, is one tree of a small depth.
fn nesting(schema: &[i64]) -> Result<(), String> {
    let mut open: Vec<i64> = Vec::new();
    for (place, &within) in schema.iter().enumerate() {
        if place > 0 {
            while open.last() == Some(&0) {
                open.pop();
            }
            *open.last_mut().ok_or("its schema has more columns than it says")? -= 1;
        }
        if within < 0 || within as u64 > schema.len() as u64 {
            return Err(format!("its schema says {within} columns"));
        }
        open.push(within);
        if open.len() > NESTED + 1 {
            return Err(format!("its columns are more than {NESTED} levels deep"));
        }
    }
    match open.iter().all(|&left| left == 0) {
        true => Ok(()),
        false => Err("its schema has fewer columns than it says".to_owned()),
    }
}

/// Checks rows, offsets and sizes of what was read of a file of this length; gives its columns in their order in the
/// file.
///
/// # Errors
/// Where they contradict each other or the file.
pub(super) fn chunks(metadata: &ParquetMetaData, length: u64) -> Result<Vec<Chunk>, String> {
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    let mut rows = 0i64;
    let mut chunks = Vec::new();
    for group in metadata.row_groups() {
        let here = group.num_rows();
        rows = rows.checked_add(here).filter(|_| here >= 0).ok_or("its rows cannot be counted")?;
        if group.columns().len() != leaves {
            return Err("a row group has other columns than the file".to_owned());
        }
        for column in group.columns() {
            let is = |what: String| format!("column {}: {what}", column.column_path().string());
            chunks.push(chunk(column, here, length).map_err(is)?);
        }
    }
    let said = metadata.file_metadata().num_rows();
    if rows != said {
        return Err(format!("its row groups have {rows} rows, its footer says {said}"));
    }
    chunks.sort_by_key(|chunk| (chunk.span.start, chunk.span.end));
    let overlaps = |pair: &[Chunk]| {
        let [first, second] = pair else { return false };
        !second.span.is_empty() && second.span.start < first.span.end
    };
    match chunks.windows(2).any(overlaps) {
        true => Err("its columns are in one another's place".to_owned()),
        false => Ok(chunks),
    }
}

fn chunk(column: &ColumnChunkMetaData, rows: i64, length: u64) -> Result<Chunk, String> {
    if column.file_path().is_some_and(|path| !path.is_empty()) {
        return Err("it is in another file".to_owned());
    }
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let outside = || "it is outside of the file".to_owned();
    let start = u64::try_from(start).map_err(|_| outside())?;
    let size = u64::try_from(column.compressed_size()).map_err(|_| outside())?;
    let end = start.checked_add(size).filter(|&end| end <= length).ok_or_else(outside)?;
    let values = column.num_values();
    let flat = column.column_descr().max_rep_level() == 0;
    if values < 0 || flat && values != rows {
        return Err(format!("it has {values} values for {rows} rows"));
    }
    let texts = column.column_type() == Type::BYTE_ARRAY;
    Ok(Chunk { span: start..end, compression: column.compression(), texts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_one_tree() {
        assert_eq!(nesting(&[3, 2, 0, 0, 0, 1, 0]), Ok(()));
        assert_eq!(nesting(&[]), Ok(()));
        let said = |schema: &[i64]| nesting(schema).unwrap_err();
        assert!(said(&[1 << 31, 0]).contains("says 2147483648 columns"));
        assert!(said(&[-1]).contains("says -1 columns"));
        assert!(said(&[2, 0]).contains("fewer"));
        assert!(said(&[1, 0, 0]).contains("more columns"));
        assert!(said(&[1; 50]).contains("levels deep"));
    }
}
