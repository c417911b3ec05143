//! Reading ahead from an object store: which requests get some images of a shard, near ones by one, and
//! what they answer. The keys and digests of a row group are read once for all of its images.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use storage::Ranges;

use super::Dataset;
use super::shard::Shard;
use crate::{Error, Result};

/// Bytes between two images that are read along rather than asked for apart: half a millisecond at 1 Gb/s,
/// less than another request costs.
const GAP: u64 = 64 << 10;
/// Most bytes of a request for several images.
const MOST: u64 = 4 << 20;
/// Bytes of a request for a part of a row group.
const PART: usize = 16 << 20;
/// Keys and digests of a row group that are read at once; of a larger group, an image's own pages.
const MOST_TEXTS: u64 = 4 << 20;
/// Keys and digests that a dataset keeps: 64 MB, those of 700,000 images or so.
const KEPT_TEXTS: u64 = 64 << 20;

/// One request for images of a shard.
pub(crate) struct Request {
    shard: Arc<Shard>,
    span: Range<u64>,
    /// What it is for: which of the rows that were asked for, where its image is, its keys and digests.
    images: Vec<Wanted>,
}

struct Wanted {
    at: usize,
    row: u64,
    span: Range<u64>,
    texts: Option<Ranges>,
}

impl Request {
    /// Which of the rows that were asked for it answers.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.images.iter().map(|image| image.at)
    }

    /// Bytes of its answer.
    pub(crate) fn bytes(&self) -> u64 {
        self.span.end - self.span.start
    }

    /// Sends the request; gives each of [`Self::rows`] in their order.
    pub(crate) fn answer(&self) -> Result<Vec<Ranges>> {
        let shard = &self.shard;
        if let [Wanted { row, texts: None, .. }] = self.images.as_slice() {
            return Ok(vec![shard.fetch(*row)?]);
        }
        let bytes = shard.read(&self.span)?;
        let part = |image: &Wanted| {
            let from = usize::try_from(image.span.start - self.span.start).ok()?;
            let to = usize::try_from(image.span.end - self.span.start).ok()?;
            let part = (to <= bytes.len()).then(|| bytes.slice(from..to))?;
            Some(Ranges::parts(vec![(image.span.start, part)]).with(image.texts.as_ref()?))
        };
        let parts: Option<Vec<_>> = self.images.iter().map(part).collect();
        parts.ok_or_else(|| shard.short())
    }
}

/// Keys and digests of the row groups that were read last.
#[derive(Default)]
pub(super) struct Texts(Mutex<VecDeque<Entry>>);

struct Entry {
    shard: usize,
    group: usize,
    bytes: u64,
    /// None where they could not be read.
    cell: Arc<OnceLock<Option<Ranges>>>,
}

impl Texts {
    /// Those of a group, read where they are not kept; whoever comes meanwhile waits.
    fn of(&self, number: usize, group: usize, shard: &Shard, span: Range<u64>) -> Option<Ranges> {
        let bytes = span.end - span.start;
        if bytes > MOST_TEXTS {
            return None;
        }
        let read = self.cell(number, group, bytes);
        let read = read.get_or_init(|| Some(Ranges::held(span.start, shard.read(&span).ok()?)));
        if read.is_none() {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            entries.retain(|entry| (entry.shard, entry.group) != (number, group));
        }
        read.clone()
    }

    fn cell(&self, shard: usize, group: usize, bytes: u64) -> Arc<OnceLock<Option<Ranges>>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(|entry| (entry.shard, entry.group) == (shard, group));
        let entry = match found.and_then(|at| entries.remove(at)) {
            Some(entry) => entry,
            None => Entry { shard, group, bytes, cell: Arc::default() },
        };
        let cell = Arc::clone(&entry.cell);
        entries.push_back(entry);
        let mut sum: u64 = entries.iter().map(|entry| entry.bytes).sum();
        while sum > KEPT_TEXTS && entries.len() > 1 {
            sum -= entries.pop_front().map_or(0, |entry| entry.bytes);
        }
        cell
    }
}

impl Dataset {
    /// Whether its images are read over a network.
    pub(crate) fn is_far(&self) -> bool {
        self.shards_in.is_remote()
    }

    /// Whether its groups are row groups of its shards; those of a cut are not.
    pub(crate) fn has_groups(&self) -> bool {
        self.manifest.cut.is_none()
    }

    /// Bytes of an image, on average.
    pub(crate) fn mean_bytes(&self) -> u64 {
        let bytes = self.manifest.shards.iter().map(|shard| shard.bytes).sum::<u64>();
        let rows = self.manifest.shards.iter().map(|shard| shard.rows).sum::<u64>();
        bytes / rows.max(1)
    }

    /// Shard, row group and row of an image, as the manifest has them: nothing is read.
    pub(crate) fn address(&self, index: u64) -> Option<(usize, usize, u64)> {
        let row = match &self.manifest.cut {
            None => (index < self.len()).then_some(index)?,
            Some(cut) => u64::from(*cut.rows.get(usize::try_from(index).ok()?)?),
        };
        let (shard, row) = self.row(row);
        let mut end = 0;
        let group = self.manifest.shards.get(shard)?.groups.iter().position(|rows| {
            end += rows;
            row < end
        })?;
        Some((shard, group, row))
    }

    /// A whole row group, the one of this row.
    pub(crate) fn read_group(&self, shard: usize, row: u64) -> Result<Ranges> {
        let shard = self.shard(shard)?;
        let span = shard.group(row).map(|(_, span)| span).ok_or_else(|| shard.short())?;
        let length = usize::try_from(span.end - span.start).map_err(|_| shard.short())?;
        // In parts, so that each comes within the time that a request may take on a slow line.
        let mut whole = bytes::BytesMut::with_capacity(length);
        for from in span.clone().step_by(PART) {
            let to = span.end.min(from + PART as u64);
            whole.extend_from_slice(&shard.read(&(from..to))?);
        }
        Ok(Ranges::held(span.start, whole.freeze()))
    }

    /// The requests that get these rows of a shard.
    pub(crate) fn requests(&self, number: usize, rows: &[u64]) -> Result<Vec<Request>> {
        let shard = self.shard(number)?;
        let mut wanted = Vec::with_capacity(rows.len());
        for (at, &row) in rows.iter().enumerate() {
            let (group, texts, span) = shard.spans(row)?;
            wanted.push(Wanted {
                at,
                row,
                span,
                texts: self.texts.of(number, group, &shard, texts),
            });
        }
        wanted.sort_by_key(|image| image.span.start);
        let mut requests: Vec<Request> = Vec::new();
        for image in wanted {
            let whole = image.texts.is_some();
            match requests.last_mut() {
                Some(last)
                    if whole
                        && last.images.iter().all(|image| image.texts.is_some())
                        && image.span.start <= last.span.end.saturating_add(GAP)
                        && image.span.end.max(last.span.end) - last.span.start <= MOST =>
                {
                    last.span.end = last.span.end.max(image.span.end);
                    last.images.push(image);
                }
                _ => requests.push(Request {
                    shard: Arc::clone(&shard),
                    span: image.span.clone(),
                    images: vec![image],
                }),
            }
        }
        Ok(requests)
    }

    /// As [`Self::photograph`], of what was read ahead; what that does not hold is an error.
    pub(crate) fn photograph_of(
        &self,
        index: u64,
        source: &Ranges,
    ) -> Result<(String, bytes::Bytes)> {
        let past = || Error::dataset(self.store.place(), format!("has no row {index}"));
        let (number, _, row) = self.address(index).ok_or_else(past)?;
        let at = self.base_row(index);
        let photograph = self.shard(number)?.photograph(row, source, !self.checked.is(at))?;
        self.checked.set(at);
        Ok(photograph)
    }
}
