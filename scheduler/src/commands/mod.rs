//! One command a file, and what their tables share.

pub mod bench;
pub mod control;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod filter;
pub mod gc;
pub mod jobs;
pub mod logs;
pub mod marks;
pub mod postgres;
pub mod room;
pub mod runs;
pub mod show;
pub mod slurm;
pub mod submit;
pub mod sweeps;
pub mod watch;
pub mod worker;
pub mod workers;

use std::path::PathBuf;
use std::time::Duration;

use registry::compare::number;
use time::OffsetDateTime;

/// The folder of the programs that do the work: the one that was named, or that of this program.
fn programs(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match named {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => std::env::current_exe()?
            .parent()
            .map(PathBuf::from)
            .ok_or_else(|| anyhow::anyhow!("this program lies in no folder; set PALETTE_BIN")),
    }
}

/// A span of time with its unit. A number alone would be minutes to Slurm, and seconds to `scheduler worker --grace`.
fn span(text: &str) -> Result<Duration, String> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err("a time with its unit, such as 30s, 2m or 1h".into()),
        false => registry::walltime(text),
    }
}

/// Does something to each of what was named: where one cannot be, that is said, and the others are.
///
/// # Errors
/// When any could not be: of one its own error, of several how many.
fn each<T>(targets: Vec<T>, mut act: impl FnMut(T) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let all = targets.len();
    let mut failed = 0;
    for target in targets {
        match act(target) {
            Err(error) if all == 1 => return Err(error),
            Err(error) => {
                tracing::error!("{error:#}");
                failed += 1;
            }
            Ok(()) => {}
        }
    }
    match failed {
        0 => Ok(()),
        none if none == all => anyhow::bail!("none of the {all} could be done"),
        some => anyhow::bail!("{some} of {all} could not be done; the others are"),
    }
}

/// How long ago, as people say it.
fn ago(time: OffsetDateTime) -> String {
    let seconds = (OffsetDateTime::now_utc() - time).whole_seconds();
    terminal::duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))) + " ago"
}

/// How long until then, as people say it; nothing when that is past.
fn until(time: OffsetDateTime) -> Option<String> {
    let left = Duration::try_from(time - OffsetDateTime::now_utc()).ok()?;
    (left > Duration::ZERO).then(|| terminal::duration(left))
}

/// `12/300` or nothing.
fn fraction(done: Option<i64>, total: Option<i64>) -> String {
    match (done, total) {
        (Some(done), Some(total)) => format!("{done}/{total}"),
        (Some(done), None) => done.to_string(),
        _ => String::new(),
    }
}

/// A metric of many, for lists; JSON has null for what is not finite.
fn metric(values: &serde_json::Value, name: &str) -> String {
    match values.get(name) {
        None => String::new(),
        Some(value) => value.as_f64().map_or_else(|| "lost".to_owned(), number),
    }
}

/// The state of a run: that of its job.
fn run_state(run: &registry::Run) -> &'static str {
    run.state.map_or("imported", registry::JobState::name)
}

/// Labels, a JSON object of texts, as they are given: `KEY=VALUE`, with spaces between.
fn labels(labels: &serde_json::Value) -> String {
    let Some(labels) = labels.as_object() else { return String::new() };
    let texts = labels.iter().map(|(key, value)| match value.as_str() {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}={value}"),
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// Memory in the unit that it was most likely given in.
fn memory(bytes: i64) -> String {
    match bytes {
        whole if whole > 0 && whole % (1 << 30) == 0 => format!("{} GiB", whole >> 30),
        other => terminal::bytes(u64::try_from(other).unwrap_or(0)),
    }
}
