//! Row groups that are held in memory. Over a network one read of a row group costs little more than
//! one of an image, so that readers which mix a few groups read each of them once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::shard::Shard;
use crate::Result;
use storage::Ranges;

/// A group being read or held; whoever comes while it is read waits for it.
type Group = Arc<OnceLock<Result<Ranges, String>>>;

/// The latest row groups, at most `count` of them.
pub(super) struct Held {
    count: usize,
    groups: Mutex<VecDeque<((usize, usize), Group)>>,
}

impl Held {
    pub(super) fn new(count: usize) -> Self {
        Self { count: count.max(1), groups: Mutex::default() }
    }

    /// The row group of a row, read at most once while it is held.
    pub(super) fn group(
        &self,
        number: usize,
        shard: &Shard,
        row: u64,
        source: &Ranges,
    ) -> Result<Ranges> {
        let Some((group, span)) = shard.group(row) else { return Ok(source.clone()) };
        let cell = self.cell((number, group));
        let read = cell.get_or_init(|| {
            let length = (span.end - span.start) as usize;
            match source.read(span.start, length) {
                Ok(bytes) => Ok(Ranges::held(span.start, bytes)),
                Err(error) => Err(error.to_string()),
            }
        });
        read.clone().map_err(|message| {
            // Not held: whoever asks next tries again.
            self.lock().retain(|(key, _)| *key != (number, group));
            shard.damaged(row, source, &message)
        })
    }

    fn cell(&self, key: (usize, usize)) -> Group {
        let mut groups = self.lock();
        let found = groups.iter().position(|(held, _)| *held == key);
        let entry = match found.and_then(|at| groups.remove(at)) {
            Some(entry) => entry,
            None => (key, Group::default()),
        };
        let cell = Arc::clone(&entry.1);
        groups.push_back(entry);
        if groups.len() > self.count {
            groups.pop_front();
        }
        cell
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<((usize, usize), Group)>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
