//! What an attempt printed, as far as this server can know it: the whole file where the attempt ran on this host and under
//! this server's home, and otherwise the end that its worker sends to the database each second while it grows.
//!
//! A log is what a program of a stranger printed: it is text here, without control characters, in pieces of bounded size.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use home::Home;
use nix::fcntl::OFlag;
use registry::{AttemptRow, Job, SeatRow, Uuid};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Answer, Refusal, Room};

/// Bytes of a piece.
const PIECE: u64 = 128 << 10;
/// Bytes of the end that a page begins with.
const END: i64 = 48 << 10;
/// Bytes of what is downloaded.
pub const WHOLE: u64 = 16 << 20;
/// Characters of a line; what is longer is cut.
const LINE: usize = 4000;
/// How old an answer to the same question may be.
const AGE: Duration = Duration::from_millis(900);

/// Which piece of which log.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// The attempt; the newest where none is named.
    pub attempt: Option<i32>,
    /// The host beside the attempt's own, in an attempt of several hosts: the number of its seat.
    pub seat: Option<i32>,
    /// From this byte on; the end of the log where none is named.
    pub from: Option<i64>,
}

/// A piece of a log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Piece {
    /// The attempt; none where there is none yet.
    pub attempt: Option<i32>,
    /// The newest attempt.
    pub newest: Option<i32>,
    /// The first byte of the log that is in the text.
    pub from: i64,
    /// Where the next piece begins.
    pub next: i64,
    /// Bytes before `from` that were asked for and cannot be had here.
    pub missing: i64,
    /// Whole lines, without control characters.
    pub text: String,
    /// There is more already.
    pub more: bool,
    /// The attempt has ended, and this is the end of its log.
    pub ended: bool,
    /// `file`: all of the log is read on its host. `tail`: only its end, at most 16 KiB at a time, comes by the database.
    pub source: &'static str,
    /// Where the log is.
    pub host: String,
    /// The file there.
    pub path: Option<String>,
}

/// A log of an attempt, or of a host beside it.
#[derive(Clone, Debug)]
struct Log {
    attempt: i32,
    newest: i32,
    host: String,
    path: Option<String>,
    tail: String,
    bytes: i64,
    ended: bool,
}

impl Log {
    fn of_attempt(row: AttemptRow, newest: i32) -> Self {
        Self {
            attempt: row.number,
            newest,
            host: row.host,
            path: row.log_path,
            tail: row.log_tail.unwrap_or_default(),
            bytes: row.log_bytes,
            ended: row.ended_at.is_some(),
        }
    }

    fn of_seat(row: SeatRow, newest: i32) -> Self {
        Self {
            attempt: row.attempt,
            newest,
            host: row.host.unwrap_or_default(),
            path: row.log_path,
            tail: row.log_tail.unwrap_or_default(),
            bytes: row.log_bytes,
            ended: row.ended_at.is_some(),
        }
    }

    /// The file, where it is on this host and among the logs in the home of this server. A path that the database names and that leads
    /// elsewhere is not followed: whoever writes it may be a stranger.
    fn file(&self, home: &Path) -> Option<PathBuf> {
        if self.host != registry::host() {
            return None;
        }
        let path = Path::new(self.path.as_deref()?).canonicalize().ok()?;
        path.starts_with(home.join("jobs").canonicalize().ok()?).then_some(path)
    }
}

/// A piece of a job's log; the same question at the same moment is answered once.
pub async fn piece(room: &Arc<Room>, job: &Job, asked: Asked) -> Answer<Piece> {
    let key = format!("log/{}/{asked:?}", job.id);
    let piece = room.shared.get(&key, AGE, async {
        let Some(log) = find(room, job.id, asked).await? else {
            return Ok(nothing());
        };
        let reading = tokio::task::spawn_blocking(move || read(&log, asked.from));
        reading.await.map_err(|_| Refusal::later("the log cannot be read now"))
    });
    Ok(Piece::clone(&*piece.await?))
}

/// The end of a log, to be downloaded.
pub async fn whole(room: &Arc<Room>, job: &Job, asked: Asked) -> Answer<String> {
    let Some(log) = find(room, job.id, asked).await? else { return Ok(String::new()) };
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = home().and_then(|home| log.file(&home)).and_then(|path| {
            let length = path.metadata().ok()?.len();
            bytes(&path, length.saturating_sub(WHOLE), WHOLE)
        });
        match bytes {
            Some(bytes) => clean(&String::from_utf8_lossy(&bytes)),
            None => clean(&log.tail),
        }
    });
    reading.await.map_err(|_| Refusal::later("the log cannot be read now"))
}

fn nothing() -> Piece {
    Piece {
        attempt: None,
        newest: None,
        from: 0,
        next: 0,
        missing: 0,
        text: String::new(),
        more: false,
        ended: false,
        source: "tail",
        host: String::new(),
        path: None,
    }
}

async fn find(room: &Room, job: Uuid, asked: Asked) -> Answer<Option<Log>> {
    let attempts = room.database.attempts(job).await?;
    let Some(newest) = attempts.last().map(|attempt| attempt.number) else { return Ok(None) };
    let number = asked.attempt.unwrap_or(newest);
    if let Some(seat) = asked.seat.filter(|seat| *seat > 0) {
        let mut seats = room.database.seats(job).await?.into_iter();
        let found = seats.find(|row| (row.attempt, row.number) == (number, seat));
        let missing = || Refusal::missing(format!("attempt {number} has no host {seat}"));
        return Ok(Some(Log::of_seat(found.ok_or_else(missing)?, newest)));
    }
    let found = attempts.into_iter().find(|attempt| attempt.number == number);
    let missing = || Refusal::missing(format!("there is no attempt {number}"));
    Ok(Some(Log::of_attempt(found.ok_or_else(missing)?, newest)))
}

fn home() -> Option<PathBuf> {
    Some(Home::from_env().ok()?.path().to_owned())
}

fn read(log: &Log, from: Option<i64>) -> Piece {
    let file = home().and_then(|home| log.file(&home));
    let piece = |from, next, missing, text, length, source| Piece {
        attempt: Some(log.attempt),
        newest: Some(log.newest),
        from,
        next,
        missing,
        text,
        more: next < length && length - next > 0 && source == "file",
        ended: log.ended && next >= length,
        source,
        host: log.host.clone(),
        path: log.path.clone(),
    };
    if let Some(path) = file
        && let Ok(meta) = path.metadata()
    {
        let length = i64::try_from(meta.len()).unwrap_or(i64::MAX);
        let asked = from.unwrap_or_else(|| (length - END).max(0)).clamp(0, length);
        if let Some(bytes) = bytes(&path, asked.unsigned_abs(), PIECE) {
            // What a page begins with begins with a line.
            let cut = from.is_none() && asked > 0;
            let (first, end) = lines(&bytes, cut, log.ended);
            let text = clean(&String::from_utf8_lossy(&bytes[first..end]));
            let (from, next) = (asked + first as i64, asked + end as i64);
            return piece(from, next, 0, text, length, "file");
        }
    }
    let begins = log.bytes - i64::try_from(log.tail.len()).unwrap_or(0);
    let asked = from.unwrap_or(begins).clamp(0, log.bytes.max(0));
    let mut at = usize::try_from(asked - begins).unwrap_or(0).min(log.tail.len());
    while !log.tail.is_char_boundary(at) {
        at += 1;
    }
    let rest = &log.tail.as_bytes()[at..];
    let (first, end) = lines(rest, false, log.ended);
    let text = clean(&String::from_utf8_lossy(&rest[first..end]));
    let starts = begins + at as i64;
    piece(starts, starts + end as i64, (starts - asked).max(0), text, log.bytes, "tail")
}

/// The part of some bytes that is whole lines: from after the first line end where the beginning is `cut`, to the last.
/// All where there is none, or nothing comes after them.
fn lines(bytes: &[u8], cut: bool, ended: bool) -> (usize, usize) {
    let first = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if cut && end + 1 < bytes.len() => end + 1,
        _ => 0,
    };
    if ended && (bytes.len() as u64) < PIECE {
        return (first, bytes.len());
    }
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => (first.min(end + 1), end + 1),
        // A line without an end that fills the piece goes on in the next.
        None if bytes.len() as u64 >= PIECE => (first, bytes.len()),
        None => (0, 0),
    }
}

/// Bytes of a file that is one: no link, no pipe.
fn bytes(path: &Path, from: u64, most: u64) -> Option<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = File::options().read(true).custom_flags(flags.bits()).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A log as a page shows it: of lines that were drawn over themselves (progress bars) the last, without the sequences
/// of terminals and without control and direction characters, each line bounded.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').next().unwrap_or(line);
        clean_line(line, &mut out);
        out.push_str(end);
    }
    out
}

fn clean_line(line: &str, out: &mut String) {
    let mut characters = line.chars().peekable();
    let mut written = 0;
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' | '\u{9b}' => skip_sequence(c, &mut characters),
            '\t' => out.push('\t'),
            c if c.is_control() || is_direction(c) => {}
            _ if written >= LINE => {
                out.push('…');
                return;
            }
            c => {
                out.push(c);
                written += 1;
            }
        }
    }
}

/// Skips what follows an escape: `ESC [ … letter`, `ESC ] … BEL` or `ESC \`, or one character.
fn skip_sequence(first: char, characters: &mut std::iter::Peekable<std::str::Chars>) {
    let kind = if first == '\u{9b}' { Some('[') } else { characters.next() };
    match kind {
        Some('[') => {
            for c in characters.by_ref() {
                if ('@'..='~').contains(&c) {
                    return;
                }
            }
        }
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(c) = characters.next() {
                if c == '\u{7}' || c == '\u{9c}' {
                    return;
                }
                if c == '\u{1b}' {
                    characters.next();
                    return;
                }
            }
        }
        Some('(' | ')' | '#' | '%') => {
            characters.next();
        }
        _ => {}
    }
}

/// Characters that turn the direction of text around, or hide.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn log(tail: &str, bytes: i64, ended: bool) -> Log {
        Log {
            attempt: 1,
            newest: 1,
            host: "another host".into(),
            path: Some("/etc/passwd".into()),
            tail: tail.into(),
            bytes,
            ended,
        }
    }

    #[test]
    fn a_terminals_sequences_and_hidden_characters_are_left_out() {
        for (text, shown) in [
            ("\u{1b}[31mred\u{1b}[0m\n", "red\n"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://evil\u{1b}\\link", "link"),
            ("10%\r50%\r100%\r\n", "100%\n"),
            ("a\u{0}b\u{8}c\u{202e}d\u{9b}2Je\n", "abcde\n"),
            ("<script>alert(1)</script>\n", "<script>alert(1)</script>\n"),
            ("\u{1b}[", ""),
            ("\ttab", "\ttab"),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
        let long = clean(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), LINE + 1);
    }

    #[test]
    fn from_elsewhere_each_line_comes_once_and_a_gap_is_named() {
        let mut next = None;
        let mut all = String::new();
        let mut missing = 0;
        for (tail, bytes, ended) in [
            ("one\n", 4, false),
            ("one\ntw", 6, false),
            ("one\ntwo\n", 8, false),
            ("é\nlast", 111, true),
        ] {
            let piece = read(&log(tail, bytes, ended), next);
            next = Some(piece.next);
            missing += piece.missing;
            all += &piece.text;
            assert_eq!(piece.ended, ended, "{tail}");
        }
        assert_eq!(all, "one\ntwo\né\nlast");
        assert_eq!(missing, 111 - 7 - 8);
    }

    #[test]
    fn only_a_file_among_the_logs_is_read() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("log");
        std::fs::write(&secret, "secret\n").unwrap();
        let jobs = home.path().join("jobs");
        std::fs::create_dir(&jobs).unwrap();
        let link = jobs.join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        let (inside, beside) = (jobs.join("own"), home.path().join("key"));
        std::fs::write(&inside, "own\n").unwrap();
        std::fs::write(&beside, "key\n").unwrap();
        let of = |path: &Path| Log {
            host: registry::host(),
            path: Some(path.display().to_string()),
            ..log("", 0, false)
        };
        assert_eq!(of(&secret).file(home.path()), None);
        assert_eq!(of(&link).file(home.path()), None);
        assert_eq!(of(&beside).file(home.path()), None, "of the home, but no log");
        let dots = home.path().join("../").join(outside.path().file_name().unwrap()).join("log");
        assert_eq!(of(&dots).file(home.path()), None);
        assert!(of(&inside).file(home.path()).is_some());
    }

    #[test]
    fn pieces_end_with_lines() {
        assert_eq!(lines(b"a\nb\nc", false, false), (0, 4));
        assert_eq!(lines(b"a\nb\nc", true, false), (2, 4));
        assert_eq!(lines(b"a\nb\nc", false, true), (0, 5));
        assert_eq!(lines(b"abc", false, false), (0, 0));
        assert_eq!(lines(b"", true, true), (0, 0));
        assert_eq!(lines(&vec![b'x'; PIECE as usize], false, false), (0, PIECE as usize));
    }
}
