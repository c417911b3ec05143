//! The points of metrics that are not stored yet: the oldest in memory, what is more than that in a file of the attempt's
//! folder, which nobody else sees and which is gone with the process. They leave only when they are stored.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::runs::metrics::NewPoint;

/// Points in memory.
const MEMORY: usize = 100_000;
/// Bytes in the file: ten million points or so.
const DISK: u64 = 512 << 20;
/// Bytes that are read from the file at once.
const PIECE: u64 = 1 << 20;

pub(super) struct Spool {
    folder: PathBuf,
    memory: VecDeque<NewPoint>,
    overflow: Option<Overflow>,
    /// Points that were left out because there was no room for them.
    lost: u64,
    limits: (usize, u64),
}

struct Overflow {
    file: File,
    read: u64,
    written: u64,
    points: usize,
}

impl Spool {
    pub fn new(folder: &Path) -> Self {
        let (folder, limits) = (folder.to_owned(), (MEMORY, DISK));
        Self { folder, memory: VecDeque::new(), overflow: None, lost: 0, limits }
    }

    /// How many points wait.
    pub fn len(&self) -> usize {
        self.memory.len() + self.overflow.as_ref().map_or(0, |overflow| overflow.points)
    }

    /// Adds points. Where there is no room for them they are left out, which is said and counted.
    pub fn push(&mut self, points: Vec<NewPoint>) {
        if self.overflow.is_none() && self.memory.len() + points.len() <= self.limits.0 {
            self.memory.extend(points);
            return;
        }
        if self.overflow.is_none() {
            tracing::info!(
                note = true,
                "the database has stored no metrics for a while: {} points wait in memory, the next \
                 ones in a file of {}",
                self.memory.len(),
                self.folder.display()
            );
        }
        let (count, first) = (points.len(), self.lost == 0);
        if let Err(error) = self.write(&points) {
            self.lost += count as u64;
            if first {
                tracing::warn!("metrics are lost from here on: no room for them to wait: {error}");
            }
        }
    }

    fn write(&mut self, points: &[NewPoint]) -> Result<()> {
        let overflow = match &mut self.overflow {
            Some(overflow) => overflow,
            none => none.insert(Overflow {
                file: tempfile::tempfile_in(&self.folder)?,
                read: 0,
                written: 0,
                points: 0,
            }),
        };
        let mut lines = String::new();
        for NewPoint { step, name, value } in points {
            // JSON knows no NaN, and a name may hold anything.
            let line = serde_json::to_string(&(step, value.to_bits(), name))?;
            lines.push_str(&line);
            lines.push('\n');
        }
        let end = overflow.written + lines.len() as u64;
        if end > self.limits.1 {
            return Err(std::io::Error::other(format!("its file has {} bytes", overflow.written)));
        }
        overflow.file.write_all_at(lines.as_bytes(), overflow.written)?;
        overflow.written = end;
        overflow.points += points.len();
        Ok(())
    }

    /// Copies up to `most` of the oldest points.
    pub fn first(&mut self, most: usize) -> Result<Vec<NewPoint>> {
        if self.memory.is_empty() {
            self.read_back()?;
        }
        Ok(self.memory.iter().take(most).cloned().collect())
    }

    /// Removes the `count` oldest points, once they are stored.
    pub fn stored(&mut self, count: usize) {
        self.memory.drain(..count.min(self.memory.len()));
        if self.len() == 0 && self.lost > 0 {
            tracing::warn!("{} points of metrics were lost: there was no room for them", self.lost);
            self.lost = 0;
        }
    }

    /// Fills the memory from the file; the file goes once all of it is read.
    fn read_back(&mut self) -> Result<()> {
        let Some(overflow) = &mut self.overflow else { return Ok(()) };
        let length = (overflow.written - overflow.read).min(PIECE);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        overflow.file.read_exact_at(&mut bytes, overflow.read)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            let (step, bits, name) = serde_json::from_slice(line)?;
            self.memory.push_back(NewPoint { step, name, value: f64::from_bits(bits) });
        }
        overflow.read += whole as u64;
        overflow.points = overflow.points.saturating_sub(self.memory.len());
        if overflow.read == overflow.written || whole == 0 {
            self.overflow = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(steps: std::ops::Range<i64>) -> Vec<NewPoint> {
        let name = |step| if step % 2 == 0 { "loss".to_owned() } else { "odd \n name".to_owned() };
        let value = |step| if step % 5 == 0 { f64::NAN } else { step as f64 / 3.0 };
        steps.map(|step| NewPoint { step, name: name(step), value: value(step) }).collect()
    }

    fn bits(points: &[NewPoint]) -> Vec<(i64, String, u64)> {
        points.iter().map(|it| (it.step, it.name.clone(), it.value.to_bits())).collect()
    }

    #[test]
    fn points_come_back_in_order_whether_they_waited_in_memory_or_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool { limits: (10, DISK), ..Spool::new(folder.path()) };
        for begin in (0..100).step_by(4) {
            spool.push(points(begin..begin + 4));
        }
        assert_eq!(spool.len(), 100);
        let (mut back, mut more) = (Vec::new(), Some(points(100..104)));
        while spool.len() > 0 {
            let some = spool.first(7).unwrap();
            assert_eq!(
                bits(&some),
                bits(&spool.first(7).unwrap()),
                "they stay until they are stored"
            );
            spool.stored(some.len());
            back.extend(some);
            // Others come meanwhile.
            if back.len() > 28
                && let Some(more) = more.take()
            {
                spool.push(more);
            }
        }
        assert!(bits(&back) == bits(&points(0..104)));
        assert!(spool.overflow.is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn where_there_is_no_room_what_waits_already_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool { limits: (10, 200), ..Spool::new(folder.path()) };
        for begin in (0..100).step_by(2) {
            spool.push(points(begin..begin + 2));
        }
        assert!(spool.lost > 0 && spool.len() + spool.lost as usize == 100, "{}", spool.lost);
        assert_eq!(bits(&spool.first(10).unwrap()), bits(&points(0..10)));

        let mut nowhere = Spool { limits: (2, DISK), ..Spool::new(Path::new("/nowhere")) };
        nowhere.push(points(0..2));
        nowhere.push(points(2..4));
        assert_eq!((nowhere.len(), nowhere.lost), (2, 2));
    }
}
