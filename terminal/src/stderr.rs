//! The one writer to stderr. It never fails, and where a reader may stop to read (a terminal after Ctrl-S, a pipe) it
//! never keeps who writes: what it is given waits in a queue of bounded size, which a thread of its own empties. What
//! finds no room there is left out and counted.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

/// What waits at most.
const MOST: usize = 1 << 20;
/// How long a reader that reads nothing is waited for: once by who finds the queue full, and at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// None where stderr is a file or a device that keeps nobody waiting.
static QUEUE: LazyLock<Option<Arc<Queue>>> = LazyLock::new(|| {
    if !may_stall() {
        return None;
    }
    let queue = Arc::new(Queue::default());
    let theirs = Arc::clone(&queue);
    let thread = std::thread::Builder::new().name("stderr".into());
    thread.spawn(move || theirs.empty(write_all)).ok().map(|_| queue)
});

fn may_stall() -> bool {
    let stderr = std::io::stderr();
    let kind =
        fstat(&stderr).map_or(SFlag::empty(), |file| SFlag::from_bits_truncate(file.st_mode));
    stderr.is_terminal() || [SFlag::S_IFIFO, SFlag::S_IFSOCK].contains(&(kind & SFlag::S_IFMT))
}

/// Writes lines, their colours where stderr is a terminal.
pub(crate) fn write(text: &[u8]) {
    match &*QUEUE {
        Some(queue) => queue.add(fit(text)),
        None => write_all(&fit(text)),
    }
}

/// Without colours where stderr is no terminal.
fn fit(text: &[u8]) -> Vec<u8> {
    match AutoStream::choice(&std::io::stderr()) {
        ColorChoice::Never => anstream::adapter::strip_bytes(text).into_vec(),
        _ => text.to_vec(),
    }
}

/// Writes what is of use only now (a frame of a progress bar), unless others wait before it.
pub(crate) fn draw(frame: Vec<u8>) {
    match &*QUEUE {
        Some(queue) => queue.add_frame(frame),
        None => write_all(&frame),
    }
}

/// Comes back when all is written, or nothing of it was for a while.
pub(crate) fn drain() {
    if let Some(queue) = &*QUEUE {
        queue.drain();
    }
}

/// Drains at the end of its life, also in a panic.
pub(crate) struct Drained;

impl Drop for Drained {
    fn drop(&mut self) {
        drain();
    }
}

/// Not by the standard library's stderr: who waits in there would hold its lock.
fn write_all(mut bytes: &[u8]) {
    let stderr = std::io::stderr();
    while !bytes.is_empty() {
        match nix::unistd::write(stderr.as_fd(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            // Another process has set it so.
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(20)),
            // Closed, or full: nobody can be told.
            Err(_) => return,
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    texts: VecDeque<Vec<u8>>,
    bytes: usize,
    /// One was taken out and is not written yet.
    writing: bool,
    /// How many were written.
    written: u64,
    /// Nothing was written for so long that nobody waits any more until something is.
    stalled: bool,
    /// Lines that found no room since the last one that did.
    left_out: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, text: Vec<u8>) {
        let mut waiting = self.lock();
        if !waiting.has_room(&text) {
            waiting = self.wait(waiting, |waiting| waiting.has_room(&text));
        }
        if !waiting.has_room(&text) {
            waiting.left_out += text.iter().filter(|byte| **byte == b'\n').count() as u64;
            return;
        }
        waiting.own_up();
        waiting.push(text);
        self.changed.notify_all();
    }

    fn add_frame(&self, frame: Vec<u8>) {
        let mut waiting = self.lock();
        if !waiting.stalled && waiting.bytes < MOST / 16 {
            waiting.push(frame);
            self.changed.notify_all();
        }
    }

    fn drain(&self) {
        drop(self.wait(self.lock(), |waiting| waiting.texts.is_empty() && !waiting.writing));
    }

    /// Waits until something holds, as long as there is progress.
    fn wait<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        holds: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        while !holds(&waiting) && !waiting.stalled {
            let written = waiting.written;
            let still = |waiting: &mut Waiting| waiting.written == written && !holds(waiting);
            let (after, time) = self
                .changed
                .wait_timeout_while(waiting, PATIENCE, still)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = after;
            waiting.stalled |= time.timed_out();
        }
        waiting
    }

    /// Writes what comes, for ever.
    fn empty(&self, write: impl Fn(&[u8])) {
        loop {
            let mut waiting = self.lock();
            while waiting.texts.is_empty() {
                if waiting.left_out > 0 {
                    waiting.own_up();
                    continue;
                }
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let text = waiting.texts.pop_front().unwrap_or_default();
            waiting.bytes -= text.len();
            waiting.writing = true;
            drop(waiting);
            write(&text);
            let mut waiting = self.lock();
            waiting.writing = false;
            waiting.stalled = false;
            waiting.written += 1;
            self.changed.notify_all();
        }
    }
}

impl Waiting {
    fn has_room(&self, text: &[u8]) -> bool {
        self.bytes == 0 || self.bytes + text.len() <= MOST
    }

    fn push(&mut self, text: Vec<u8>) {
        self.bytes += text.len();
        self.texts.push_back(text);
    }

    /// Says in place of what was left out how much that was.
    fn own_up(&mut self) {
        if self.left_out > 0 {
            let line = crate::messages::left_out(std::mem::take(&mut self.left_out));
            self.push(fit(line.as_bytes()));
        }
    }
}

/// Progress bars by a writer such as [`draw`]: what they draw is written a frame at a time.
#[derive(Debug)]
pub(crate) struct Bars {
    frame: Mutex<String>,
    draw: fn(Vec<u8>),
}

impl Bars {
    pub fn new(draw: fn(Vec<u8>)) -> Self {
        Self { frame: Mutex::default(), draw }
    }

    fn add(&self, text: &str) -> std::io::Result<()> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    fn move_cursor(&self, count: usize, direction: char) -> std::io::Result<()> {
        if count == 0 { Ok(()) } else { self.add(&format!("\x1b[{count}{direction}")) }
    }
}

impl indicatif::TermLike for Bars {
    fn width(&self) -> u16 {
        terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0)
    }

    fn height(&self) -> u16 {
        terminal_size::terminal_size_of(std::io::stderr()).map_or(24, |(_, height)| height.0)
    }

    fn move_cursor_up(&self, count: usize) -> std::io::Result<()> {
        self.move_cursor(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> std::io::Result<()> {
        self.move_cursor(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> std::io::Result<()> {
        self.move_cursor(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> std::io::Result<()> {
        self.move_cursor(count, 'D')
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> std::io::Result<()> {
        let frame = std::mem::take(&mut *self.frame.lock().unwrap_or_else(PoisonError::into_inner));
        if !frame.is_empty() {
            (self.draw)(frame.into_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_reader_that_stops_keeps_nobody_and_learns_what_was_left_out() {
        let queue = Arc::new(Queue::default());
        let (reader, mut writer) = std::io::pipe().unwrap();
        let theirs = Arc::clone(&queue);
        std::thread::spawn(move || {
            let writer = Mutex::new(&mut writer);
            theirs.empty(|bytes| drop(writer.lock().unwrap().write_all(bytes)));
        });
        let line = |number: usize| format!("{number:>63}\n");
        let count = 4 * MOST / 64;
        for number in 0..count {
            queue.add(line(number).into_bytes());
        }
        assert!(queue.lock().stalled && queue.lock().left_out > 0);
        queue.add_frame(b"a frame\n".to_vec());
        queue.drain();
        // The reader is back.
        let lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        let mut read = 0;
        let mut told = 0;
        for text in lines.map(Result::unwrap) {
            if let Some(left_out) = text.strip_prefix("warning: ") {
                told += left_out.split(' ').next().unwrap().parse::<usize>().unwrap();
                break;
            }
            assert_eq!(format!("{text}\n"), line(read), "in order and whole");
            read += 1;
        }
        assert_eq!(read + told, count);
        queue.drain();
        assert!(!queue.lock().stalled);
    }
}
