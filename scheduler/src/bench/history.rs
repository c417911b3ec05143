//! Lists and stories over a long history: what `runs`, `jobs` and `show` take when there are many runs
//! and a great many points, as whole commands (process, connection, query, table) and as queries.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use registry::{Error, Result, RunFilter, Scratch};
use serde::Serialize;

use super::Milliseconds;

/// Times over a history of some size.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// Runs, and as many jobs.
    pub runs: i64,
    /// Points of metrics, of all of them together.
    pub points: i64,
    /// Bytes of the points and their index.
    pub bytes: i64,
    /// The query of a list of runs.
    pub query: Milliseconds,
    /// Each command from its start to its end.
    pub commands: Vec<(String, Milliseconds)>,
}

/// Measures over so many points in a history of `runs` runs; `program` is `scheduler`.
///
/// # Errors
/// Those of the database; a command that fails.
pub async fn history(
    scratch: &Scratch,
    program: &Path,
    runs: i64,
    points: i64,
    rounds: usize,
) -> Result<History> {
    let bytes = scratch.grow(runs, points).await?;
    let database = scratch.database();
    let mut query = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        database.runs(RunFilter::default()).await?;
        query.push(began.elapsed());
    }
    let middle = format!("run-{}", runs / 2);
    let mut commands = Vec::new();
    for arguments in [
        vec!["jobs"],
        vec!["runs"],
        vec!["runs", "--state", "succeeded"],
        vec!["runs", "--experiment", "history"],
        vec!["show", &middle],
        vec!["metrics", &middle, "--name", "metric_0", "--json"],
    ] {
        let mut spans = Vec::new();
        for _ in 0..rounds {
            spans.push(time(program, &arguments, database.url())?);
        }
        commands.push((arguments.join(" "), Milliseconds::of(spans)));
    }
    Ok(History { runs, points, bytes, query: Milliseconds::of(query), commands })
}

pub(super) fn time(program: &Path, arguments: &[&str], url: &str) -> Result<Duration> {
    let began = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", url)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(program))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Failed(format!("{} failed: {}", arguments.join(" "), said.trim())));
    }
    Ok(began.elapsed())
}
