//! `logs`: what the newest attempt of a job printed. Where it was made on this host, and may be read, that is its file;
//! otherwise it is what the worker sends to the database each second. A terminal is shown control characters,
//! a file or a pipe gets the bytes as they are.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use registry::{AttemptRow, Blocking, Job, TOO_FEW_HOSTS};

use super::show::its_ranks;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler logs palette --follow
  scheduler logs palette --attempt 1
  scheduler logs palette --rank 8")]
pub struct Arguments {
    /// The job
    job: String,
    /// Go on as the log grows, from one attempt to the next, until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Another attempt than the newest
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    attempt: Option<i32>,
    /// What this rank printed; the ranks of one host share a log
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    rank: Option<i64>,
}

/// How often a log that is followed is looked at.
const EVERY: Duration = Duration::from_millis(200);

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let job = db.wait(db.find_job(&arguments.job))?;
    let mut printed: Option<i32> = None;
    loop {
        // Read before the attempts, so that the last attempt of an ended job is seen.
        let ended = db.wait(db.job(job.id))?.state.is_final();
        let attempts = db.wait(db.attempts(job.id))?;
        let chosen = match arguments.attempt {
            // Followed, each in its turn, however fast they come.
            None => match printed {
                None => attempts.last(),
                Some(number) => attempts
                    .iter()
                    .find(|attempt| attempt.number > number)
                    .or_else(|| attempts.last()),
            },
            Some(number) => Some(
                attempts
                    .iter()
                    .find(|attempt| attempt.number == number)
                    .with_context(|| format!("job {} has no attempt {number}", job.short))?,
            ),
        };
        let of_rank = match (arguments.rank, chosen) {
            (Some(rank), Some(attempt)) => Some(of_rank(&db, &job, attempt, rank)?),
            _ => None,
        };
        match of_rank.as_ref().or(chosen) {
            Some(attempt) if printed != Some(attempt.number) => {
                print(&db, &job, attempt, arguments.follow)?;
                printed = Some(attempt.number);
                // Others may have come meanwhile.
                if arguments.follow {
                    continue;
                }
            }
            None if !arguments.follow => {
                return terminal::print(&format!("job {} has not been started yet", job.short));
            }
            _ => std::thread::sleep(EVERY),
        }
        if !arguments.follow || ended {
            return Ok(());
        }
    }
}

/// Where the log of a rank of this attempt is, as if it were that of the attempt.
fn of_rank(
    db: &Blocking,
    job: &Job,
    attempt: &AttemptRow,
    rank: i64,
) -> anyhow::Result<AttemptRow> {
    let which = format!("attempt {} of job {}", attempt.number, job.short);
    let (here, world) = match (attempt.ranks, attempt.world) {
        (Some(here), Some(world)) => (here, world),
        // In the foreground.
        _ if job.hosts_most == 1 => (job.ranks, job.ranks),
        _ => bail!("no rank of {which} has started"),
    };
    if (0..i64::from(here)).contains(&rank) {
        return Ok(attempt.clone());
    }
    let seats = db.wait(db.seats(job.id))?;
    let mut seats = seats.into_iter().filter(|seat| seat.attempt == attempt.number);
    let found = seats.find(|seat| {
        its_ranks(seat, Some(world))
            .is_some_and(|(first, ranks)| (first..first + ranks).contains(&rank))
    });
    let seat = found.with_context(|| match world {
        1 => format!("{which} has no rank {rank}, only rank 0"),
        _ => format!("{which} has no rank {rank}: its ranks are 0 to {}", world - 1),
    })?;
    Ok(AttemptRow {
        host: seat.host.unwrap_or_default(),
        ended_at: seat.ended_at,
        log_path: seat.log_path,
        log_tail: seat.log_tail,
        log_bytes: seat.log_bytes,
        ..attempt.clone()
    })
}

/// Prints an attempt's log; followed, until the attempt has ended.
fn print(db: &Blocking, job: &Job, attempt: &AttemptRow, follow: bool) -> anyhow::Result<()> {
    let stdout = std::io::stdout().lock();
    let out: Box<dyn Write> = match stdout.is_terminal() {
        true => Box::new(terminal::Visible::new(stdout)),
        false => Box::new(stdout),
    };
    let mut out = terminal::Lines::new(out);
    let mut reader = Reader::default();
    let mut row = attempt.clone();
    loop {
        // The row was read before the log, so that nothing that came before the end is missed.
        let ended = row.ended_at.is_some();
        reader.copy(&row, &mut out)?;
        out.flush()?;
        if ended || !follow {
            break;
        }
        std::thread::sleep(EVERY);
        let attempts = db.wait(db.attempts(job.id))?;
        row = attempts
            .into_iter()
            .find(|row| row.number == attempt.number)
            .with_context(|| format!("attempt {} is gone", attempt.number))?;
    }
    if reader.printed == 0 && row.log_path.is_none() && row.log_tail.is_none() {
        match (job.hosts_most > 1 && row.world.is_none(), row.reason) {
            (true, Some(why)) if why.starts_with(TOO_FEW_HOSTS) => {
                writeln!(out, "no rank of attempt {} has started: {why}", row.number)?;
            }
            (true, None) => {
                writeln!(
                    out,
                    "no rank has started yet: attempt {0} waits for hosts (`scheduler show {1}`)",
                    row.number, job.short
                )?;
            }
            _ => writeln!(
                out,
                "there is no log: the job runs in the foreground, or its log was removed"
            )?,
        }
    }
    Ok(out.finish()?)
}

/// How far a log was printed.
#[derive(Default)]
struct Reader {
    file: Option<File>,
    printed: i64,
}

impl Reader {
    /// Prints what is new.
    fn copy(&mut self, row: &AttemptRow, out: &mut dyn Write) -> anyhow::Result<()> {
        let path = row.log_path.as_deref().unwrap_or_default();
        // A file of that name on another host is another log.
        if self.file.is_none() && self.printed == 0 && row.host == registry::host() {
            self.file = match File::open(path) {
                Ok(file) => Some(file),
                // Gone, or another user's, whose home is closed: what the worker sent is what there is.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::PermissionDenied
                    ) =>
                {
                    None
                }
                Err(error) => return Err(error).with_context(|| path.to_owned()),
            };
        }
        if let Some(file) = &mut self.file {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = file.read(&mut buffer).with_context(|| path.to_owned())?;
                if count == 0 {
                    return Ok(());
                }
                out.write_all(&buffer[..count])?;
                self.printed += count as i64;
            }
        }
        let tail = row.log_tail.as_deref().unwrap_or_default();
        let new = usize::try_from(row.log_bytes - self.printed).unwrap_or(0);
        let mut from = tail.len().saturating_sub(new);
        while !tail.is_char_boundary(from) {
            from += 1;
        }
        let missing = new.saturating_sub(tail.len());
        if missing > 0 {
            writeln!(
                out,
                "[… {missing} bytes left out: they are only on host {}, in {path}]",
                row.host
            )?;
        }
        out.write_all(&tail.as_bytes()[from..])?;
        self.printed = self.printed.max(row.log_bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tail: &str, bytes: i64) -> AttemptRow {
        AttemptRow {
            number: 1,
            worker: "w".into(),
            host: "another host".into(),
            started_at: time::OffsetDateTime::UNIX_EPOCH,
            ended_at: None,
            outcome: None,
            exit_status: None,
            signal: None,
            reason: None,
            log_path: Some("/log".into()),
            log_tail: Some(tail.into()),
            log_bytes: bytes,
            gpus: None,
            resumed_at: None,
            ranks: None,
            world: None,
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_as_one_that_is_not_here() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "all of it\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        let row = AttemptRow {
            host: registry::host(),
            log_path: Some(path.display().to_string()),
            ..row("sent\n", 5)
        };
        // Root reads all: this thread becomes another user where files are concerned.
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(54_321));
        let mut out = Vec::new();
        let printed = Reader::default().copy(&row, &mut out);
        nix::unistd::setfsuid(nix::unistd::geteuid());
        printed.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "sent\n");
    }

    #[test]
    fn from_elsewhere_each_byte_is_printed_once_and_a_gap_is_named() {
        let mut reader = Reader::default();
        let mut out = Vec::new();
        for (tail, bytes) in [("one\n", 4), ("one\n", 4), ("one\ntwo\n", 8), ("é\n", 11)] {
            reader.copy(&row(tail, bytes), &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\né\n");

        let mut out = Vec::new();
        reader.copy(&row("late\n", 116), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "[… 100 bytes left out: they are only on host another host, in /log]\nlate\n"
        );
    }
}
