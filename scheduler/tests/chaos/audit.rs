//! What must be true in the end: each check gives the violations that it finds, in words.
//!
//! Triggers note every write that a child makes, at the moment of its commit: who wrote, by a
//! setting of the connection that the child cannot get wrong, and who had the job then.

use std::collections::{BTreeMap, BTreeSet};

use registry::{ChunkState, Database, JobState, Outcome, Point, Uuid};
use sqlx::PgPool;

use crate::job::{Sampling, Training, digest, weights};

/// A training, what was sampled with it, and the score of that.
pub struct Group {
    pub training: Training,
    pub run: Uuid,
    pub sampling: Sampling,
    pub sample: Uuid,
    pub evaluate: Uuid,
}

impl Group {
    pub fn jobs(&self) -> [Uuid; 3] {
        [self.run, self.sample, self.evaluate]
    }
}

/// The setting of a connection that names the attempt whose process it is: `JOB:NUMBER`.
pub const WRITER: &str = "palette.attempt";

/// Begins to note the writes of children.
pub async fn install(pool: &PgPool) -> sqlx::Result<()> {
    let sql = r#"
        create table audit (
            id bigint generated always as identity primary key,
            at timestamptz not null default clock_timestamp(),
            place text not null,
            job uuid not null,
            -- The attempt that wrote, and the one that the row names where it names one.
            writer integer not null,
            named integer,
            -- The job's attempt and state at that moment.
            attempt integer not null,
            state job_state not null
        );

        create function audit() returns trigger language plpgsql as $$
        declare
            who text := current_setting('palette.attempt', true);
            touched jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
        begin
            if coalesce(who, '') <> '' then
                insert into audit (place, job, writer, named, attempt, state)
                select tg_table_name, id, split_part(who, ':', 2)::integer,
                    case tg_table_name
                        when 'metrics' then (touched ->> 'attempt')::integer
                        when 'chunks' then (touched ->> 'taken_attempt')::integer
                        when 'attempts' then (touched ->> 'number')::integer
                    end, attempt, state
                from jobs where id = split_part(who, ':', 1)::uuid;
            end if;
            return null;
        end
        $$;
    "#;
    sqlx::raw_sql(sql).execute(pool).await?;
    let all = "insert or update or delete";
    for (table, events) in [
        ("metrics", all),
        ("checkpoints", all),
        ("chunks", all),
        ("evaluations", all),
        ("samplings", "update"),
        ("runs", "update"),
        ("attempts", "update"),
        ("jobs", "update of progress_done, progress_total, progress_message"),
    ] {
        // Deferred: it looks when the write is about to be committed, not when it was made.
        let sql = format!(
            "create constraint trigger audit after {events} on {table}
             deferrable initially deferred for each row execute function audit()"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await?;
    }
    Ok(())
}

/// How often children have written so far.
pub async fn writes(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("select coalesce(max(id), 0) from audit").fetch_one(pool).await
}

/// Every check, for jobs that must all have succeeded.
pub async fn all(db: &Database, pool: &PgPool, groups: &[Group]) -> Vec<String> {
    let mut found = fencing(pool).await.unwrap();
    found.extend(attempts(pool).await.unwrap());
    for group in groups {
        for job in group.jobs() {
            found.extend(end(db, job).await);
        }
        found.extend(metrics(db, group).await);
        found.extend(checkpoints(db, group).await);
        found.extend(chunks(db, group).await);
        found.extend(scores(db, group).await);
    }
    found
}

/// No child wrote when its job was another attempt's or did not run, nor in another's name; after a
/// write of one attempt came none of an earlier one.
pub async fn fencing(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select format('write %s: attempt %s of job %s wrote %s, in the name of attempt %s, when \
             attempt %s had it, %s, and attempt %s had written',
             id, writer, job, place, named, attempt, state, before)
         from (select *, max(writer) over (partition by job order by id) as before from audit)
             as audit
         where writer <> attempt or state <> 'running' or named <> writer or before > writer
         order by id",
    )
    .fetch_all(pool)
    .await
}

/// The attempts of every job are numbered without gaps, and none began before the one before it
/// had ended; the job's own counters agree.
pub async fn attempts(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "with numbered as (
             select job_id, number, started_at, ended_at, outcome,
                 row_number() over job as place, lag(ended_at) over job as before,
                 lag(number) over job is not null as later
             from attempts window job as (partition by job_id order by number)
         )
         select job_id, format('its attempt %s is number %s', place, number)
         from numbered where place <> number
         union all
         select job_id, format('attempt %s began at %s, the one before ended at %s',
             number, started_at, before)
         from numbered where later and (before is null or before > started_at)
         union all
         select job_id, format('attempt %s ended before it began', number)
         from numbered where ended_at < started_at
         union all
         select id, format('it counts %s attempts, %s of them used, of %s with %s lost or failed',
             attempt, attempts_used, count(number),
             count(number) filter (where outcome in ('failed', 'lost')))
         from jobs left join attempts on job_id = id
         group by id
         having attempt <> count(number)
             or attempts_used <> count(number) filter (where outcome in ('failed', 'lost'))",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(job, what)| format!("job {job}: {what}")).collect())
}

/// The job has succeeded, by its last attempt alone.
pub async fn end(db: &Database, job: Uuid) -> Vec<String> {
    let row = db.job(job).await.unwrap();
    let outcomes: Vec<_> =
        db.attempts(job).await.unwrap().iter().map(|attempt| attempt.outcome).collect();
    let mut found = Vec::new();
    if row.state != JobState::Succeeded {
        found.push(format!("job {job} is {}, {:?}", row.state, row.reason));
    }
    let succeeded = outcomes.iter().filter(|outcome| **outcome == Some(Outcome::Succeeded)).count();
    if succeeded != 1 || outcomes.last() != Some(&Some(Outcome::Succeeded)) {
        found.push(format!("job {job}: its attempts ended as {outcomes:?}"));
    }
    if outcomes.contains(&None) {
        found.push(format!("job {job}: an attempt is open"));
    }
    found
}

/// What the run shows is each step of each series once, with the value of a run that nothing ever
/// disturbed, and nothing of an attempt after something of a later one; its list columns are the
/// edges of that.
pub async fn metrics(db: &Database, group: &Group) -> Vec<String> {
    let run = group.run;
    let (expected, _) = group.training.expected();
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    let series = db.metric_series(run, None).await.unwrap();
    for pair in series.windows(2) {
        if pair[0].name == pair[1].name && pair[0].attempt > pair[1].attempt {
            let Point { step, name, attempt, .. } = &pair[1];
            found.push(format!(
                "run {run}: {name} of step {step} is of abandoned attempt {attempt}"
            ));
        }
    }
    for point in series {
        if seen.insert((point.name.clone(), point.step), point.value).is_some() {
            found.push(format!("run {run}: {} of step {} is doubled", point.name, point.step));
        }
    }
    for ((name, step), value) in &expected {
        match seen.remove(&((*name).to_owned(), *step)) {
            Some(seen) if seen.to_bits() == value.to_bits() => {}
            Some(seen) => {
                found.push(format!("run {run}: {name} of step {step} is {seen}, not {value}"));
            }
            None => found.push(format!("run {run}: {name} of step {step} is missing")),
        }
    }
    for (name, step) in seen.keys() {
        found.push(format!("run {run}: {name} of step {step} is too much"));
    }
    let row = db.run(run).await.unwrap();
    let edge = |step| {
        let at = expected.iter().filter(|((_, at), _)| *at == step);
        at.map(|((name, _), value)| ((*name).to_owned(), *value)).collect::<BTreeMap<_, _>>()
    };
    let last = group.training.steps;
    for (column, value, step) in [("latest", &row.latest, last), ("initial", &row.initial, 1)] {
        let expected = edge(step);
        let same = |(name, wanted): (&String, &f64)| close(&value[name], *wanted);
        if !expected.iter().all(same)
            || value.as_object().map(|all| all.len()) != Some(expected.len())
        {
            found.push(format!("run {run}: its {column} values are {value}, not step {step}'s"));
        }
    }
    if row.last_step != last {
        found.push(format!("run {run}: its last step is {}, not {last}", row.last_step));
    }
    found
}

/// Each kept checkpoint is whole on disk and the registered one; the last is the expected model.
pub async fn checkpoints(db: &Database, group: &Group) -> Vec<String> {
    let run = group.run;
    let mut found = Vec::new();
    let kept = db.checkpoints(run).await.unwrap();
    for checkpoint in &kept {
        let name = format!("run {run}: the checkpoint of step {}", checkpoint.step);
        match std::fs::read(weights(&checkpoint.uri)) {
            Err(error) => found.push(format!("{name} is not there: {error}")),
            Ok(bytes) if digest(&bytes) != checkpoint.digest => {
                found.push(format!("{name} has another digest on disk"));
            }
            Ok(bytes) if i64::try_from(bytes.len()) != Ok(checkpoint.bytes) => {
                found.push(format!("{name} has another size on disk"));
            }
            Ok(_) => {}
        }
    }
    let (_, model) = group.training.expected();
    let last = kept.last().map(|last| (last.step, last.digest.clone()));
    let expected = (group.training.steps, model.digest());
    if last.as_ref() != Some(&expected) {
        found.push(format!("run {run}: it ends with {last:?}, not {expected:?}"));
    }
    found
}

/// Each chunk is done, once, and its file is what it should be.
pub async fn chunks(db: &Database, group: &Group) -> Vec<String> {
    let (job, sampling) = (group.sample, &group.sampling);
    let (_, model) = group.training.expected();
    let mut found = Vec::new();
    let chunks = db.chunks(job).await.unwrap();
    let covered: BTreeSet<i64> = chunks.iter().flat_map(|chunk| chunk.rows.clone()).collect();
    if chunks.len() as i64 != sampling.chunk_count() || covered.into_iter().ne(0..sampling.rows) {
        found.push(format!("job {job}: {} chunks do not cover its rows", chunks.len()));
    }
    for chunk in chunks {
        let name = format!("job {job}: chunk {}", chunk.number);
        if chunk.state != ChunkState::Done {
            found.push(format!("{name} is {:?}", chunk.state));
            continue;
        }
        let content = sampling.content(&model, chunk.rows);
        if chunk.digest != Some(digest(&content)) || chunk.bytes != Some(content.len() as i64) {
            found.push(format!("{name} was registered as something else"));
        }
        match std::fs::read(sampling.file(chunk.number)) {
            Ok(bytes) if bytes == content => {}
            Ok(_) => found.push(format!("{name} holds something else")),
            Err(error) => found.push(format!("{name} is not there: {error}")),
        }
    }
    found
}

/// The sampling was scored, right, and by no attempt twice.
pub async fn scores(db: &Database, group: &Group) -> Vec<String> {
    let (_, model) = group.training.expected();
    let expected = group.sampling.score(&model);
    let mut found = Vec::new();
    let evaluations = db.evaluations(group.run).await.unwrap();
    let of_job: Vec<_> =
        evaluations.iter().filter(|row| row.job_id == Some(group.evaluate)).collect();
    if of_job.is_empty() {
        found.push(format!("job {}: no score", group.evaluate));
    }
    for row in &of_job {
        if !close(&row.scores["mean"], expected) {
            found.push(format!("job {}: {} is not {expected}", group.evaluate, row.scores));
        }
    }
    let labels: BTreeSet<&str> = of_job.iter().map(|row| row.label.as_str()).collect();
    if labels.len() != of_job.len() {
        found.push(format!("job {}: an attempt has recorded its score twice", group.evaluate));
    }
    found
}

/// The same number; by way of JSON its last bit may be another.
fn close(json: &serde_json::Value, number: f64) -> bool {
    json.as_f64().is_some_and(|json| (json - number).abs() <= 1e-14 * number.abs())
}
