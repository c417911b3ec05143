//! What rules look for: a statement a kind, which gives what has not been told yet.

use uuid::Uuid;

use crate::queue::control::step_of;
use crate::queue::state::Event;
use crate::runs::Finding;
use crate::{Database, Lease, Result, why_not};

/// Maximum number of findings of a kind in one pass; the next pass reports the rest.
const MOST: i64 = 50;

/// What was found.
struct Found {
    rule: Uuid,
    targets: Vec<String>,
    subject: String,
    title: String,
    body: String,
    job: Option<Uuid>,
}

/// How a look is made.
#[derive(Clone, Copy)]
pub struct Told {
    /// Lease of the workers.
    pub lease: Lease,
    /// Whether the losses of runs are read too, which costs more.
    pub losses: bool,
    /// How sizes are written.
    pub size: fn(u64) -> String,
    /// How spans are written.
    pub span: fn(std::time::Duration) -> String,
}

impl Told {
    fn seconds(&self, seconds: f64) -> String {
        (self.span)(std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
    }

    fn bytes(&self, bytes: i64) -> String {
        (self.size)(u64::try_from(bytes).unwrap_or(0))
    }
}

impl Database {
    /// Looks for what rules ask for and writes down what is new; gives how much that was.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn look_for_alerts(&self, how: Told) -> Result<usize> {
        let mut found = self.failed_jobs().await?;
        found.extend(self.lost_workers(&how).await?);
        found.extend(self.stuck_runs(&how).await?);
        found.extend(self.full_disks(&how).await?);
        found.extend(self.jobs_for_nobody(&how).await?);
        if how.losses {
            found.extend(self.useless_losses().await?);
        }
        let mut told = 0;
        for one in &found {
            told += usize::from(self.tell(one).await?);
        }
        Ok(told + self.dying_sweeps().await?)
    }

    /// False where it was told already.
    async fn tell(&self, found: &Found) -> Result<bool> {
        let mut connection = self.pool.acquire().await?;
        tell(&mut connection, found).await
    }

    async fn failed_jobs(&self) -> Result<Vec<Found>> {
        let rows = sqlx::query!(
            r#"select rule.id as rule, targets, jobs.id, short as "short!", name, jobs.owner,
                   jobs.kind::text as "kind!", reason, attempt, attempts_used, max_attempts
               from alert_rules rule
               join jobs on state = 'failed' and (rule.owner is null or rule.owner = jobs.owner)
                   and ended_at > greatest(since, now() - interval '7 days')
               where rule.kind = 'failed' and enabled and not exists (
                   select from alert_events
                   where rule_id = rule.id and subject = jobs.id || ' ' || attempt)
               order by ended_at limit $1"#,
            MOST,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Found {
                rule: row.rule,
                targets: row.targets,
                subject: format!("{} {}", row.id, row.attempt),
                title: format!("failed: {} ({})", row.name, row.short),
                body: format!(
                    "{}\n{} job of {}, {} of {} tries used. `scheduler logs {}` shows its log, `scheduler retry \
                     {}` queues it again.",
                    row.reason.as_deref().unwrap_or("it is not known why"),
                    row.kind,
                    row.owner,
                    row.attempts_used,
                    row.max_attempts,
                    row.short,
                    row.short
                ),
                job: Some(row.id),
            })
            .collect())
    }

    async fn lost_workers(&self, how: &Told) -> Result<Vec<Found>> {
        let rows = sqlx::query!(
            r#"select rule.id as rule, targets, workers.id, workers.name, host,
                   extract(epoch from now() - last_seen_at)::float8 as "unseen!",
                   (select coalesce(string_agg(short || ' ' || jobs.name, ', ' order by short), '')
                    from (select short, name from jobs
                          where id in (select job_id from attempts
                                       where worker_id = workers.id
                                         and (ended_at is null
                                              or (outcome = 'lost' and ended_at > last_seen_at)))
                          limit 5) as jobs) as "jobs!",
                   exists (select from workers other
                           where other.host = workers.host and other.ended_at is null
                             and other.last_seen_at > now() - make_interval(secs => $2))
                       as "others!"
               from alert_rules rule
               join workers on ended_at is null
                   and last_seen_at < now() - make_interval(secs => 2.0::float8 * $2)
                   and last_seen_at > greatest(since - make_interval(secs => $2),
                       now() - interval '7 days')
               where rule.kind = 'lost' and enabled and not exists (
                   select from alert_events
                   where rule_id = rule.id and subject = workers.id::text)
               order by last_seen_at limit $1"#,
            MOST,
            how.lease.length.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Found {
                rule: row.rule,
                targets: row.targets,
                subject: row.id.to_string(),
                title: format!("lost: worker {} on {}", row.name, row.host),
                body: format!(
                    "Last seen {} ago, and it has not said that it ended. {}{}",
                    how.seconds(row.unseen),
                    match row.jobs.as_str() {
                        "" => "It had no job.".to_owned(),
                        jobs => format!("It had {jobs}: other workers go on with them."),
                    },
                    match row.others {
                        true => "",
                        false => " No other worker of this host is alive: the host may be lost.",
                    }
                ),
                job: None,
            })
            .collect())
    }

    async fn stuck_runs(&self, how: &Told) -> Result<Vec<Found>> {
        let rows = sqlx::query!(
            r#"select rule.id as rule, targets, jobs.id, jobs.short as "short!", jobs.name, amount,
                   attempt, coalesce(progress_done, 0) as "step!",
                   extract(epoch from now() - last)::float8 as "silent!", each
               from alert_rules rule
               join jobs on state = 'running' and jobs.kind = 'train'
                   and (rule.owner is null or rule.owner = jobs.owner)
               join runs on runs.id = run_id
               join attempts on job_id = jobs.id and number = attempt
               cross join lateral (
                   select greatest(progress_at, attempts.started_at) as last,
                       case when progress_at > attempts.started_at
                                and progress_done > coalesce(resumed_at, 0)
                                and jsonb_typeof(config #> '{train,log_every}') = 'number'
                           then extract(epoch from progress_at - attempts.started_at)::float8
                               * (config #>> '{train,log_every}')::float8
                               / (progress_done - coalesce(resumed_at, 0))
                       end as each
               ) as pace
               where rule.kind = 'stuck' and enabled
                 and extract(epoch from now() - last)
                     > greatest(60, coalesce(amount, 10) * coalesce(each, 60))
                 and not exists (
                     select from alert_events
                     where rule_id = rule.id and subject =
                         jobs.id || ' ' || attempt || ' ' || coalesce(progress_done, 0))
               limit $1"#,
            MOST,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Found {
                rule: row.rule,
                targets: row.targets,
                subject: format!("{} {} {}", row.id, row.attempt, row.step),
                title: format!("stuck: {} ({}) at step {}", row.name, row.short, row.step),
                body: format!(
                    "No step was reported for {}; {}. `scheduler logs {}` shows its log.",
                    how.seconds(row.silent),
                    match row.each {
                        Some(each) => format!("until then one was every {}", how.seconds(each)),
                        None => "this attempt has reported none".to_owned(),
                    },
                    row.short
                ),
                job: Some(row.id),
            })
            .collect())
    }

    async fn full_disks(&self, how: &Told) -> Result<Vec<Found>> {
        let rows = sqlx::query!(
            r#"select distinct on (rule.id, host) rule.id as rule, targets, host, workers.name,
                   disk_left as "left!", disk as "all!", current_date::text as "day!"
               from alert_rules rule
               join worker_samples sample on at > now() - interval '5 minutes'
                   and disk_left < coalesce(amount, 0.1) * disk
               join workers on workers.id = worker_id
               where rule.kind = 'disk' and enabled and not exists (
                   select from alert_events
                   where rule_id = rule.id and subject = host || ' ' || current_date)
               order by rule.id, host, at desc
               limit $1"#,
            MOST,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Found {
                rule: row.rule,
                targets: row.targets,
                subject: format!("{} {}", row.host, row.day),
                title: format!("disk: {} left on {}", how.bytes(row.left), row.host),
                body: format!(
                    "The home of worker {} has {} of {} left. `scheduler gc` shows what can be \
                     removed. Told again tomorrow if it stays so.",
                    row.name,
                    how.bytes(row.left),
                    how.bytes(row.all)
                ),
                job: None,
            })
            .collect())
    }

    async fn jobs_for_nobody(&self, how: &Told) -> Result<Vec<Found>> {
        let rules = sqlx::query!(
            "select id, targets, amount from alert_rules where kind = 'nobody' and enabled"
        )
        .fetch_all(&self.pool)
        .await?;
        let mut found = Vec::new();
        if rules.is_empty() {
            return Ok(found);
        }
        let offers = self.offers(how.lease.length).await?;
        for rule in rules {
            let minutes = rule.amount.unwrap_or(5.0);
            for wants in self.wants(minutes * 60.0).await? {
                let reason = match offers.is_empty() {
                    true => Some((
                        "waits, and no worker is alive".to_owned(),
                        "start one: `scheduler worker`".to_owned(),
                    )),
                    false => why_not(&wants, &offers, how.size),
                };
                let Some((reason, remedy)) = reason else { continue };
                let others = match wants.count {
                    1 => String::new(),
                    count => format!(" and {} like it", count - 1),
                };
                found.push(Found {
                    rule: rule.id,
                    targets: rule.targets.clone(),
                    subject: wants.oldest.clone(),
                    title: format!("nobody can do job {}{others}", wants.oldest),
                    body: format!("Job {} {reason}: {remedy}.", wants.oldest),
                    job: None,
                });
            }
        }
        Ok(found)
    }

    /// Runs whose loss is what predicting nothing gives, after a fifth of their steps.
    async fn useless_losses(&self) -> Result<Vec<Found>> {
        let rows = sqlx::query!(
            r#"select rule.id as rule, targets, jobs.id, jobs.short as "short!", jobs.name, run_id as "run!",
                   progress_total as "total!", progress_done as "step!"
               from alert_rules rule
               join jobs on state = 'running' and jobs.kind = 'train' and run_id is not null
                   and progress_done >= greatest(20, progress_total / 5)
                   and (rule.owner is null or rule.owner = jobs.owner)
               where rule.kind = 'nothing' and enabled and not exists (
                   select from alert_events where rule_id = rule.id and subject = jobs.id::text)
               limit $1"#,
            MOST,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut found = Vec::new();
        for row in rows {
            let Some(finding) = self.finding(row.run, row.total, false).await? else { continue };
            if !matches!(finding, Finding::Nothing { .. } | Finding::NothingAveraged { .. }) {
                continue;
            }
            found.push(Found {
                rule: row.rule,
                targets: row.targets,
                subject: row.id.to_string(),
                title: format!("learns nothing: {} ({})", row.name, row.short),
                body: format!("At step {} of {}: {finding}.", row.step, row.total),
                job: Some(row.id),
            });
        }
        Ok(found)
    }

    /// Sweeps of which at least this many runs failed and none succeeded; where the rule says so the rest is paused, in the
    /// transaction that writes the event, so that it is done once.
    async fn dying_sweeps(&self) -> Result<usize> {
        let rows = sqlx::query!(
            r#"select rule.id as rule, targets, pauses, sweeps.id, sweeps.short as "short!", sweeps.name,
                   failed as "failed!", jobs as "jobs!", reason
               from alert_rules rule
               join sweeps on rule.owner is null or rule.owner = sweeps.owner
               cross join lateral (
                   select count(*) as jobs, count(*) filter (where state = 'failed') as failed,
                       count(*) filter (where state = 'succeeded') as succeeded,
                       max(ended_at) filter (where state = 'failed') as last,
                       (array_agg(reason order by ended_at desc) filter (where state = 'failed'))[1]
                           as reason
                   from jobs where sweep_id = sweeps.id
               ) as fate
               where rule.kind = 'sweep' and enabled and archived_at is null
                 and succeeded = 0 and failed > 0 and failed >= least(coalesce(amount, 3), jobs)
                 and last > greatest(since, now() - interval '7 days')
                 and not exists (
                     select from alert_events where rule_id = rule.id and subject = sweeps.id::text)
               limit $1"#,
            MOST,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut told = 0;
        for row in rows {
            let mut tx = self.pool.begin().await?;
            let what = match row.pauses {
                true => "What is queued of it was paused; `scheduler resume` queues it again.",
                false => "The rest goes on; `scheduler pause` sets it aside.",
            };
            let new = tell(
                &mut tx,
                &Found {
                    rule: row.rule,
                    targets: row.targets,
                    subject: row.id.to_string(),
                    title: format!("sweep dies: {} ({})", row.name, row.short),
                    body: format!(
                        "{} of {} runs failed and none succeeded. The last: {}. {what}",
                        row.failed,
                        row.jobs,
                        row.reason.as_deref().unwrap_or("it is not known why"),
                    ),
                    job: None,
                },
            )
            .await?;
            if !new {
                continue;
            }
            if row.pauses {
                let queued = sqlx::query_scalar!(
                    "select id from jobs where sweep_id = $1 and state = 'queued' order by id",
                    row.id,
                )
                .fetch_all(&mut *tx)
                .await?;
                for id in queued {
                    // One that a worker has taken meanwhile goes on.
                    let still = sqlx::query_scalar!(
                        "select id from jobs where id = $1 and state = 'queued' for update",
                        id,
                    );
                    if still.fetch_optional(&mut *tx).await?.is_none() {
                        continue;
                    }
                    step_of(&mut tx, id, Event::Pause).await?;
                    sqlx::query!(
                        "update jobs set reason = $2 where id = $1",
                        id,
                        format!("{} runs of its sweep failed and none succeeded", row.failed),
                    )
                    .execute(&mut *tx)
                    .await?;
                }
            }
            tx.commit().await?;
            told += 1;
        }
        Ok(told)
    }
}

/// Writes an event and what is to be sent; false where it was told already, or its rule is gone.
async fn tell(connection: &mut sqlx::PgConnection, found: &Found) -> Result<bool> {
    let rows = sqlx::query!(
        "with event as (
             insert into alert_events (rule_id, kind, subject, title, body, job_id)
             select id, kind, $2, $3, $4, $5 from alert_rules where id = $1
             on conflict on constraint alert_events_once_key do nothing
             returning id
         )
         insert into alert_deliveries (event_id, target)
         select event.id, target from event, unnest($6::text[]) as target",
        found.rule,
        cut(&found.subject, 1000),
        cut(&found.title, 1000),
        cut(&found.body, 16_000),
        found.job,
        &found.targets,
    )
    .execute(connection)
    .await?;
    Ok(rows.rows_affected() > 0)
}

/// The beginning of a text, up to this number of bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
