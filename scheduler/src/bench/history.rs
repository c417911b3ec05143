//! Lists and stories over a long history: what `runs`, `jobs` and `show` take when there are many runs
//! and a great many points, as whole commands (process, connection, query, table) and as queries.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use registry::{Error, Result, RunFilter};
use serde::Serialize;

use super::{Milliseconds, Scratch};

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

/// Ten metrics a run; generated without a log, which reading does not see.
async fn grow(scratch: &Scratch, runs: i64, points: i64) -> Result<i64> {
    let pool = scratch.database().pool();
    for statement in [
        "truncate jobs, runs, experiments cascade",
        "alter table metrics drop constraint if exists metrics_pkey",
        "alter table metrics drop constraint if exists metrics_series_fkey",
        "alter table metrics set unlogged",
        "insert into experiments (id, name) values (gen_random_uuid(), 'history')",
    ] {
        sqlx::query(statement).execute(pool).await?;
    }
    sqlx::query(
        "with made as (
             insert into runs (id, kind, experiment_id, name, owner, config, config_digest, seed,
                 uri, total_steps, last_step, latest, created_at)
             select (lpad(to_hex(n), 8, '0') || substr(md5(n::text), 9))::uuid, 'train',
                 experiments.id, 'run-' || n, 'bench',
                 jsonb_build_object('steps', n, 'model', jsonb_build_object('channels', 64)),
                 'digest', n, '/nowhere', $2, $2, '{\"loss\": 0.5, \"images_per_second\": 100}',
                 now() - n * interval '1 minute'
             from experiments, generate_series(1, $1) n
             returning id, name, created_at
         )
         insert into jobs (id, run_id, kind, state, name, owner, payload, created_at, ended_at)
         select id, id, 'train', 'succeeded', name, 'bench', '{}', created_at, created_at from made",
    )
    .bind(runs)
    .bind(points / runs / 10)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into series (run_id, name)
         select id, 'metric_' || n from runs, generate_series(0, 9) n",
    )
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into metrics (series_id, step, attempt, value)
         select id, step, 1, step from series, generate_series(1, $1) step order by id, step",
    )
    .bind(points / runs / 10)
    .execute(pool)
    .await?;
    sqlx::query(
        "alter table metrics add constraint metrics_pkey primary key (series_id, step, attempt)",
    )
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze").execute(pool).await?;
    Ok(sqlx::query_scalar("select pg_total_relation_size('metrics')").fetch_one(pool).await?)
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
    let bytes = grow(scratch, runs, points).await?;
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

fn time(program: &Path, arguments: &[&str], url: &str) -> Result<Duration> {
    let began = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", url)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(program))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Invalid(format!("{} failed: {}", arguments.join(" "), said.trim())));
    }
    Ok(began.elapsed())
}
