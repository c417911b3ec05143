//! A file of a store as a file of this machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ranges;
use crate::{Error, Result};

/// Bytes of a part of a download, and parts under way at once.
const PART: u64 = 8 << 20;
const PARTS: usize = 4;

/// Copies a file, a few parts at once and no more of it in memory.
pub(super) fn download(source: &Ranges, to: &Path) -> Result<()> {
    let length = source.length();
    let target = File::create(to).map_err(Error::io("create", to))?;
    let next = AtomicU64::new(0);
    let work = || -> io::Result<()> {
        loop {
            let at = next.fetch_add(PART, Ordering::Relaxed);
            if at >= length {
                return Ok(());
            }
            let copied = source
                .read(at, PART.min(length - at) as usize)
                .and_then(|part| target.write_all_at(&part, at));
            if copied.is_err() {
                // The others need not begin another part.
                next.store(length, Ordering::Relaxed);
                return copied;
            }
        }
    };
    let copied = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARTS).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err(io::Error::other("a thread that downloads panicked"));
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(panicked))
    });
    copied.and_then(|()| target.sync_all()).map_err(Error::io("fetch into", to))
}
