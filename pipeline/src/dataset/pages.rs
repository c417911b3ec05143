//! The page index of a shard: where every value lies in its file, and how it is read there.
//!
//! What stays in memory is four bytes an image (where its page starts within its row group) and
//! eight a page of the small columns, under six bytes a row in all.

use std::ops::Range;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::levels;
use crate::guarded::{self, Header, Use};
use crate::image::Limits;
use storage::Ranges;

/// Leaf columns in the order of the schema.
pub(super) const BYTES: usize = 0;
pub(super) const PATH: usize = 1;
pub(super) const LABEL: usize = 2;
pub(super) const KEY: usize = 3;
pub(super) const SHA256: usize = 4;
pub(super) const WIDTH: usize = 5;
pub(super) const HEIGHT: usize = 6;
pub(super) const FORMAT: usize = 7;
pub(super) const SOURCE: usize = 8;
pub(super) const ORIENTATION: usize = 9;
pub(super) const SOURCE_SHA256: usize = 10;
pub(super) const LEAVES: [&str; 11] = [
    "image.bytes",
    "image.path",
    "label",
    "key",
    "sha256",
    "width",
    "height",
    "format",
    "source",
    "orientation",
    "source_sha256",
];

/// The page index of one shard.
pub(super) struct Index {
    leaves: Vec<Leaf>,
    groups: Vec<Group>,
    rows: u64,
}

struct Leaf {
    description: ColumnDescPtr,
    compression: Compression,
}

struct Group {
    first_row: u64,
    columns: Vec<Pages>,
}

/// Pages of one column of one row group: offsets count from `start`; without `rows` every page has
/// one row.
struct Pages {
    start: u64,
    end: u64,
    offsets: Vec<u32>,
    rows: Option<Vec<u32>>,
}

impl Index {
    /// Reads footer and page index of a file.
    pub(super) fn read(file: &Ranges) -> ParquetResult<Self> {
        let metadata = metadata(&Chunks(file.clone()))?;
        let leaves = leaves(&metadata).map_err(ParquetError::General)?;
        let groups = groups(&metadata, file.length()).map_err(ParquetError::General)?;
        let rows = metadata.row_groups().iter().map(|group| group.num_rows() as u64).sum();
        Ok(Self { leaves, groups, rows })
    }

    /// Rows of the shard.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// A row whose values are read from `source`; an error past the end.
    pub(super) fn at<'a>(&'a self, row: u64, source: &'a Ranges) -> ParquetResult<RowReader<'a>> {
        let past = || ParquetError::EOF(format!("has {} rows", self.rows));
        let number = self.group_of(row).filter(|_| row < self.rows).ok_or_else(past)?;
        let group = &self.groups[number];
        Ok(RowReader { leaves: &self.leaves, group, row: row - group.first_row, source })
    }

    fn group_of(&self, row: u64) -> Option<usize> {
        self.groups.partition_point(|group| group.first_row <= row).checked_sub(1)
    }

    /// The row group of a row: its number, and from where to where it lies in the file.
    pub(super) fn group(&self, row: u64) -> Option<(usize, Range<u64>)> {
        let all: Vec<usize> = (0..LEAVES.len()).collect();
        self.columns(row, &all)
    }

    /// The row group of a row, and from where to where these columns of it lie, with what is between.
    pub(super) fn columns(&self, row: u64, columns: &[usize]) -> Option<(usize, Range<u64>)> {
        let number = self.group_of(row)?;
        let all = &self.groups[number].columns;
        let start = columns.iter().filter_map(|&at| all.get(at)).map(|pages| pages.start).min()?;
        let end = columns.iter().filter_map(|&at| all.get(at)).map(|pages| pages.end).max()?;
        Some((number, start..end))
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let pages = self.groups.iter().flat_map(|group| &group.columns).map(|pages| {
            size_of::<Pages>()
                + 4 * pages.offsets.capacity()
                + 4 * pages.rows.as_ref().map_or(0, Vec::capacity)
        });
        size_of::<Self>() + size_of::<Group>() * self.groups.capacity() + pages.sum::<usize>()
    }

    /// Lengths of the pages of all images.
    pub(super) fn image_lengths(&self) -> impl Iterator<Item = u64> + '_ {
        self.groups.iter().flat_map(|group| {
            let pages = &group.columns[BYTES];
            let ends = pages.offsets.iter().skip(1).map(|&offset| u64::from(offset));
            let ends = ends.chain(std::iter::once(pages.end - pages.start));
            pages.offsets.iter().zip(ends).map(|(&from, to)| to - u64::from(from))
        })
    }
}

/// A row of a shard on its way to its values.
pub(super) struct RowReader<'a> {
    leaves: &'a [Leaf],
    group: &'a Group,
    row: u64,
    source: &'a Ranges,
}

impl RowReader<'_> {
    /// Where the page of a column that holds the row lies in the file, and the row's place in it.
    pub(super) fn span(&self, column: usize) -> (Range<u64>, usize) {
        let pages = &self.group.columns[column];
        let row = self.row as u32;
        let (page, within) = match &pages.rows {
            None => (row as usize, 0),
            Some(rows) => {
                let page = rows.partition_point(|&first| first <= row) - 1;
                (page, (row - rows[page]) as usize)
            }
        };
        let from = pages.start + u64::from(pages.offsets[page]);
        let to = pages
            .offsets
            .get(page + 1)
            .map_or(pages.end, |&offset| pages.start + u64::from(offset));
        (from..to, within)
    }

    /// The values of that page, and the row's place in them.
    fn page(&self, column: usize) -> ParquetResult<(bytes::Bytes, usize)> {
        let (span, within) = self.span(column);
        Ok((read_page(self.source, &self.leaves[column], span)?, within))
    }

    /// A value of variable length: length as u32, then the bytes; values before it are passed over.
    pub(super) fn value(&self, column: usize) -> ParquetResult<bytes::Bytes> {
        let (page, within) = self.page(column)?;
        let short = || ParquetError::EOF(format!("page of {} ends early", LEAVES[column]));
        let mut at = 0usize;
        for step in 0..=within {
            let length: [u8; 4] =
                page.get(at..at + 4).and_then(|l| l.try_into().ok()).ok_or_else(short)?;
            let (from, length) = (at + 4, u32::from_le_bytes(length) as usize);
            at = from.checked_add(length).filter(|&end| end <= page.len()).ok_or_else(short)?;
            if step == within {
                return Ok(page.slice(from..at));
            }
        }
        Err(short())
    }

    pub(super) fn text(&self, column: usize) -> ParquetResult<String> {
        let value = self.value(column)?;
        let text = std::str::from_utf8(&value)
            .map_err(|_| ParquetError::General(format!("{} is not UTF-8", LEAVES[column])))?;
        Ok(text.to_owned())
    }

    /// EXIF orientation, 1 to 8.
    pub(super) fn orientation(&self) -> ParquetResult<u8> {
        let value = i32::from_le_bytes(self.fixed(ORIENTATION)?);
        u8::try_from(value)
            .ok()
            .filter(|value| (1..=8).contains(value))
            .ok_or_else(|| ParquetError::General(format!("orientation is {value}, not 1 to 8")))
    }

    pub(super) fn fixed<const N: usize>(&self, column: usize) -> ParquetResult<[u8; N]> {
        let (page, within) = self.page(column)?;
        page.get(within * N..(within + 1) * N)
            .and_then(|value| value.try_into().ok())
            .ok_or_else(|| ParquetError::EOF(format!("page of {} ends early", LEAVES[column])))
    }
}

/// Reads one page by one ranged read and gives its values, decompressed.
fn read_page(source: &Ranges, leaf: &Leaf, span: Range<u64>) -> ParquetResult<bytes::Bytes> {
    let Range { start: from, end: to } = span;
    let bytes = source.read(from, (to - from) as usize)?;
    let of = Use { texts: true, rows: 1 };
    Header::read(&bytes[..], of)
        .and_then(|header| header.is_plain())
        .map_err(|what| guarded::damaged(format!("its page {what}")))?;
    let chunk = ColumnChunkMetaData::builder(Arc::clone(&leaf.description))
        .set_compression(leaf.compression)
        .set_data_page_offset(from as i64)
        .set_total_compressed_size((to - from) as i64)
        .set_num_values(1)
        .build()?;
    let location = PageLocation {
        offset: from as i64,
        compressed_page_size: (to - from) as i32,
        first_row_index: 0,
    };
    let source = Arc::new(Chunks(Ranges::held(from, bytes)));
    match SerializedPageReader::new(source, &chunk, 1, Some(vec![location]))?.get_next_page()? {
        Some(Page::DataPage { buf, num_values, encoding: Encoding::PLAIN, .. }) => {
            levels::without(buf, num_values, leaf.description.max_def_level())
        }
        _ => Err(ParquetError::General("not a plain data page".into())),
    }
}

/// Footer and page index of a file, each looked at before the library reads it.
fn metadata(file: &Chunks) -> ParquetResult<ParquetMetaData> {
    guarded::check_footer(file)?;
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
    reader.try_parse(file)?;
    let metadata = reader.finish()?;
    guarded::check_chunks(&metadata, file.len())?;
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let place = column.offset_index_offset().zip(column.offset_index_length());
        let place = place.and_then(|(at, length)| {
            Some((u64::try_from(at).ok()?, usize::try_from(length).ok()?))
        });
        let (at, length) = place.ok_or_else(|| guarded::damaged("it has no page index".into()))?;
        guarded::check_index(&file.get_bytes(at, length)?[..])?;
    }
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Required);
    reader.read_page_indexes(file)?;
    reader.finish()
}

fn leaves(metadata: &ParquetMetaData) -> Result<Vec<Leaf>, String> {
    let schema = metadata.file_metadata().schema_descr();
    let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
    if names != LEAVES {
        return Err(format!("columns are {}, not {}", names.join(", "), LEAVES.join(", ")));
    }
    if schema.columns().iter().any(|column| column.max_rep_level() > 0) {
        return Err("columns are lists".into());
    }
    let mut leaves = Vec::new();
    for (index, description) in schema.columns().iter().enumerate() {
        let compression = match metadata.row_groups().first() {
            Some(group) => group.column(index).compression(),
            None => Compression::UNCOMPRESSED,
        };
        leaves.push(Leaf { description: Arc::clone(description), compression });
    }
    Ok(leaves)
}

fn groups(metadata: &ParquetMetaData, length: u64) -> Result<Vec<Group>, String> {
    let mut first_row = 0;
    let mut groups = Vec::new();
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let index = metadata.page_index_for_row_group(number);
        let rows = u32::try_from(group.num_rows()).map_err(|_| "row group is too large")?;
        if group.columns().len() != LEAVES.len() {
            return Err("row group lacks columns".into());
        }
        let mut columns = Vec::new();
        for (column, chunk) in group.columns().iter().enumerate() {
            let index = index.offset_index(column).ok_or("no page index")?;
            let same = metadata.row_group(0).column(column).compression();
            if chunk.compression() != same || chunk.dictionary_page_offset().is_some() {
                return Err(format!("column {} is not as ingest writes it", LEAVES[column]));
            }
            let pages = pages(index.page_locations(), rows, length)
                .map_err(|error| format!("column {}: {error}", LEAVES[column]))?;
            // The bits for all rows are made room for: as many as there are pages, which the file holds.
            if column == BYTES && pages.rows.is_some() {
                return Err("has several images in a page".into());
            }
            columns.push(pages);
        }
        groups.push(Group { first_row, columns });
        first_row += u64::from(rows);
    }
    Ok(groups)
}

/// Checks that pages follow one another within the file, and keeps where they start.
fn pages(locations: &[PageLocation], rows: u32, length: u64) -> Result<Pages, String> {
    let limit = i64::try_from(Limits::DECODE.bytes + (1 << 20)).unwrap_or(i64::MAX);
    let (Some(first), Some(last)) = (locations.first(), locations.last()) else {
        return match rows {
            0 => Ok(Pages { start: 0, end: 0, offsets: Vec::new(), rows: None }),
            _ => Err("no pages".into()),
        };
    };
    let mut offsets = Vec::with_capacity(locations.len());
    let mut firsts = Vec::with_capacity(locations.len());
    let (mut at, mut previous) = (first.offset, -1);
    for page in locations {
        let size = i64::from(page.compressed_page_size);
        let in_order = page.first_row_index > previous && page.first_row_index < i64::from(rows);
        if page.offset != at || size <= 0 || size > limit || !in_order {
            return Err("pages do not follow one another".into());
        }
        let offset = u32::try_from(page.offset - first.offset).map_err(|_| "chunk over 4 GB")?;
        offsets.push(offset);
        firsts.push(page.first_row_index as u32);
        previous = page.first_row_index;
        at += size;
    }
    let end = last.offset + i64::from(last.compressed_page_size);
    if first.offset < 0 || end as u64 > length || firsts[0] != 0 {
        return Err("pages lie outside of the file".into());
    }
    let single = firsts.len() == rows as usize;
    offsets.shrink_to_fit();
    firsts.shrink_to_fit();
    let rows = (!single).then_some(firsts);
    Ok(Pages { start: first.offset as u64, end: end as u64, offsets, rows })
}

/// A file as Parquet reads it.
pub struct Chunks(pub(super) Ranges);

impl Chunks {
    /// The file that is read in these ranges.
    pub fn new(file: Ranges) -> Self {
        Self(file)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.length()
    }
}

impl ChunkReader for Chunks {
    type T = std::io::Cursor<bytes::Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let length = self.0.length().saturating_sub(start).min(1 << 16) as usize;
        Ok(std::io::Cursor::new(self.get_bytes(start, length)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<bytes::Bytes> {
        Ok(self.0.read(start, length)?)
    }
}
