//! The log of an attempt: its end as the database keeps it, sent there while it grows, and its lines
//! as they come.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use registry::{Fence, Tail};

use super::attend::End;
use super::{Shared, WorkerEvent};

/// What is kept of a log in the database.
const TAIL_BYTES: u64 = 16 * 1024;

/// How often a log that grows is sent to the database, where followers on other hosts read it.
const SEND_EVERY: Duration = Duration::from_secs(1);

/// The last lines of a log. As many bytes as in the file, so that a reader who counts them knows what
/// is new; what is no text, or a zero, which Postgres does not take, is a question mark.
pub(super) fn tail(path: &Path) -> Tail {
    let Some(mut file) = opened(path) else { return Tail::default() };
    let length = file.metadata().map_or(0, |file| file.len());
    let from = length.saturating_sub(TAIL_BYTES);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_err()
        || file.take(TAIL_BYTES).read_to_end(&mut bytes).is_err()
    {
        return Tail::default();
    }
    let end = from + bytes.len() as u64;
    // From the first whole line on, where there is one.
    let first = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(line_end) if from > 0 && line_end + 1 < bytes.len() => line_end + 1,
        _ => 0,
    };
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes[first..].utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if c == '\0' { '?' } else { c }));
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Tail { text, bytes: i64::try_from(end).unwrap_or(i64::MAX) }
}

/// A log, to be read. A child may write in its folder: what it puts in the log's place must neither lead the worker to a
/// file that the child cannot read itself, nor make it wait.
fn opened(log: &Path) -> Option<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(log).ok()?;
    file.metadata().is_ok_and(|meta| meta.is_file()).then_some(file)
}

/// A line as a terminal shows it in the end: of what was drawn over itself (progress bars) the last.
pub(super) fn shown(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    line.rsplit('\r').next().unwrap_or(line)
}

/// Sends the end of a log whenever it has grown, until the attempt ends.
pub(super) async fn send(shared: &Shared, fence: Fence, log: &Path, end: &mut End) {
    let mut sent = 0;
    while end.not_within(SEND_EVERY).await {
        let length = std::fs::metadata(log).map_or(0, |file| file.len());
        if length != sent && shared.database.keep_log(fence, &tail(log)).await.is_ok() {
            sent = length;
        }
    }
}

/// Reads a log as it grows.
pub(super) struct Follower {
    file: Option<File>,
    read: u64,
    rest: Vec<u8>,
}

impl Follower {
    pub fn new(log: &Path) -> Self {
        Self { file: opened(log), read: 0, rest: Vec::new() }
    }

    /// Reports the lines that are new; at the end also one without a line end, and how much is left out where a child
    /// printed faster than it was followed.
    pub fn pass_on(&mut self, shared: &Shared, short: &str, end: bool) {
        const AT_ONCE: u64 = 1 << 20;
        let Some(file) = &mut self.file else { return };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        let mut fresh = Vec::new();
        if let Ok(count) = file.take(AT_ONCE).read_to_end(&mut fresh) {
            self.read += count as u64;
        }
        self.rest.append(&mut fresh);
        // In one pass: whoever prints a million lines must not keep the leases from being renewed.
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        let lines = std::mem::replace(&mut self.rest, rest);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.line(shared, short, &line[..line.len() - 1]);
        }
        if (end && !self.rest.is_empty()) || self.rest.len() as u64 > AT_ONCE {
            let line = std::mem::take(&mut self.rest);
            self.line(shared, short, &line);
        }
        let length =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |it| it.len());
        if end && length > self.read {
            let left = terminal::bytes(length - self.read);
            shared.note(format!(
                "{short}: {left} of its log are left out here (`scheduler logs {short}`)"
            ));
        }
    }

    fn line(&self, shared: &Shared, short: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        (shared.report)(WorkerEvent::Line { job: short.to_owned(), line: shown(&text).to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_puts_in_the_place_of_its_log_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("secret"), "secret\n").unwrap();
        assert_eq!(tail(&path("secret")).text, "secret\n");
        std::os::unix::fs::symlink(path("secret"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "pipe", "nowhere"] {
            assert_eq!(tail(&path(name)).text, "", "{name}");
        }
    }

    #[test]
    fn a_tail_is_short_whole_lines_and_counts_the_bytes_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tail_of = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            tail(file.path())
        };
        let lines: String = (0..5000).map(|line| format!("line {line}\n")).collect();
        let long = tail_of(lines.as_bytes());
        assert!(long.text.starts_with("line ") && long.text.ends_with("line 4999\n"));
        assert!(long.text.len() as u64 <= TAIL_BYTES);
        assert_eq!(long.bytes, lines.len() as i64);

        let odd = tail_of(b"zero \0 byte \xff\xfe end \xe2\x82\xac\nno line end");
        assert_eq!(odd.text, "zero ? byte ?? end \u{20ac}\nno line end");
        assert_eq!(odd.text.len() as i64, odd.bytes);
        let endless = tail_of(&[b'x'; 40_000]);
        assert_eq!(endless.text.len() as u64, TAIL_BYTES);
        assert_eq!(tail(Path::new("/nowhere")), Tail::default());
    }

    #[test]
    fn what_was_drawn_over_itself_is_shown_once() {
        assert_eq!(shown("10%\r20%\r30%\r"), "30%");
        assert_eq!(shown("plain"), "plain");
    }
}
