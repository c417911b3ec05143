//! What a submission asks for, which is compared when its key comes again: another request under a known key
//! would be answered with the job that is there, and lost. Owns `submissions`.
//!
//! Compared are what is done (the payload, or what `NewJob::asked` says of it), its name, and what it needs: GPUs,
//! labels, attempts, the jobs that it waits for. Left out is what time, user and machine make different in a
//! script that runs again (`--not-before +2h`, the owner), and what is only a mark on the job (priority, tags).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::queue::jobs::select_jobs;
use crate::runs::{Difference, config_diff};
use crate::{Error, GpuCount, Job, NewJob, Result};

/// Differences that a message names.
const NAMED: usize = 3;

/// Characters of a value that a message shows.
const SHOWN: usize = 60;

/// Under which a request keeps the version of the program that made it.
const VERSION: &str = "version";

/// What is compared of a job.
pub(crate) fn of_job(job: &NewJob) -> Map<String, Value> {
    let mut request = of_needs(job);
    match &job.asked {
        Some(Value::Object(asked)) => request.extend(asked.clone()),
        Some(asked) => drop(request.insert("asked".into(), asked.clone())),
        None => {
            request.insert("name".into(), json!(job.name));
            request.insert("payload".into(), job.payload.clone());
        }
    }
    request
}

/// What a job needs, whatever it does.
fn of_needs(job: &NewJob) -> Map<String, Value> {
    let request = json!({
        VERSION: env!("CARGO_PKG_VERSION"),
        "gpus": job.gpus.to_string(),
        "gpu_memory": job.gpu_memory,
        "labels": job.labels,
        "attempts": job.max_attempts,
        "preempt": job.preempts,
    });
    match request {
        Value::Object(mut request) => {
            // What was submitted before jobs had hosts says nothing of them.
            if job.hosts != GpuCount::exactly(1) {
                request.insert("hosts".into(), json!(job.hosts.to_string()));
            }
            if job.ranks != 1 {
                request.insert("ranks".into(), json!(job.ranks));
            }
            request
        }
        _ => Map::new(),
    }
}

/// What is there already by a key.
pub(crate) enum Known {
    /// A job.
    Job(Box<Job>),
    /// A sweep, by its id and its short one.
    Sweep(Uuid, String),
}

/// What was submitted with this key. Two submissions with one key wait for each other here, so that the second
/// one sees the first. One key is that of one job or one sweep; of before that rule it may be that of both, and
/// `sweep` says which is meant.
pub(crate) async fn known(tx: &mut PgConnection, key: &str, sweep: bool) -> Result<Option<Known>> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", key)
        .execute(&mut *tx)
        .await?;
    let job = select_jobs!("jobs where submit_key = $1", key).fetch_optional(&mut *tx).await?;
    let job = job.map(|job| Known::Job(Box::new(job)));
    if job.is_some() && !sweep {
        return Ok(job);
    }
    let row =
        sqlx::query!(r#"select id, short as "short!" from sweeps where submit_key = $1"#, key)
            .fetch_optional(tx)
            .await?;
    Ok(row.map(|row| Known::Sweep(row.id, row.short)).or(job))
}

/// Keeps what was asked for under a key.
pub(crate) async fn keep(
    tx: &mut PgConnection,
    key: &str,
    request: Map<String, Value>,
) -> Result<()> {
    let request = Value::Object(request);
    sqlx::query!("insert into submissions (submit_key, request) values ($1, $2)", key, request)
        .execute(tx)
        .await?;
    Ok(())
}

/// Refuses another request than the one that was submitted with this key, as `what`; with
/// [`NewJob::key_says_all`] that is only said. `waits` are the differences in what is waited for.
pub(crate) async fn same(
    tx: &mut PgConnection,
    key: &str,
    what: &str,
    request: &Map<String, Value>,
    waits: Vec<Difference>,
    key_says_all: bool,
) -> Result<()> {
    let kept = sqlx::query_scalar!("select request from submissions where submit_key = $1", key)
        .fetch_optional(tx)
        .await?;
    let mut different = kept.map_or_else(Vec::new, |kept| differences(&kept, request));
    different.extend(waits);
    if different.is_empty() {
        return Ok(());
    }
    let said = said(&different);
    if key_says_all {
        tracing::warn!("{what} stays as it was submitted: {said}");
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the submit key `{key}` is that of {what}, which asks for something else ({said}): choose another --key"
    )))
}

/// What differs between a request that was kept and another one. Between versions of the program only what both
/// know is compared: a later one may write more.
fn differences(kept: &Value, request: &Map<String, Value>) -> Vec<Difference> {
    let same_version = kept.get(VERSION) == request.get(VERSION);
    let (different, _) = config_diff(kept, &Value::Object(request.clone()));
    let counts = |one: &Difference| {
        one.key != VERSION && (same_version || (one.a.is_some() && one.b.is_some()))
    };
    different.into_iter().filter(counts).collect()
}

/// `train.steps: 5 there, 9 here; and 2 more`.
fn said(different: &[Difference]) -> String {
    let value = |value: &Option<Value>| {
        let text = value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        let cut = if text.chars().count() > SHOWN { "…" } else { "" };
        text.chars().take(SHOWN).collect::<String>() + cut
    };
    let named = different.iter().take(NAMED);
    let mut parts: Vec<String> = named
        .map(|one| format!("{}: {} there, {} here", one.key, value(&one.a), value(&one.b)))
        .collect();
    if different.len() > NAMED {
        parts.push(format!("and {} more", different.len() - NAMED));
    }
    parts.join("; ")
}

/// The difference between the jobs that one waits for and those that another submission names. A job that has
/// succeeded is waited for by nobody, and that a run's own training comes first is not asked for by anybody.
pub(crate) async fn waits(
    tx: &mut PgConnection,
    job: &Job,
    after: &[Uuid],
) -> Result<Vec<Difference>> {
    let rows = sqlx::query!(
        r#"select id, short as "short!",
               exists (select from dependencies where job_id = $1 and parent_id = id) as "kept!"
           from jobs
           where (id = any($2) or id in (select parent_id from dependencies where job_id = $1))
             and state <> 'succeeded' and id is distinct from $3
           order by created_at"#,
        job.id,
        after,
        job.run_id,
    )
    .fetch_all(tx)
    .await?;
    let after: BTreeSet<&Uuid> = after.iter().collect();
    let there: Vec<&str> =
        rows.iter().filter(|row| row.kept).map(|row| row.short.as_str()).collect();
    let here: Vec<&str> =
        rows.iter().filter(|row| after.contains(&row.id)).map(|row| row.short.as_str()).collect();
    Ok(match there == here {
        true => Vec::new(),
        false => {
            vec![Difference { key: "after".into(), a: Some(json!(there)), b: Some(json!(here)) }]
        }
    })
}
