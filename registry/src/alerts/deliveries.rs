//! What is to be sent, and what became of it.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Result};

/// A message that this server is to send now.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event that it tells.
    pub event: i64,
    /// Where to.
    pub target: String,
    /// Number of this try.
    pub tries: i32,
    /// What was found.
    pub kind: String,
    /// In one line.
    pub title: String,
    /// In a few.
    pub body: String,
    /// The job that it is about.
    pub job: Option<Uuid>,
    /// Whether that job trains a run.
    pub trains: bool,
    /// When it was found.
    pub at: OffsetDateTime,
}

/// What a rule found, with what was sent.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct AlertEvent {
    pub id: i64,
    pub rule_id: Option<Uuid>,
    pub kind: String,
    pub title: String,
    pub body: String,
    pub job_id: Option<Uuid>,
    /// Whether that job trains a run.
    pub trains: bool,
    pub at: OffsetDateTime,
    pub deliveries: Vec<AlertDelivery>,
}

/// What became of one message.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct AlertDelivery {
    pub target: String,
    /// `waiting`, `sent` or `given up`.
    pub state: String,
    pub tries: i32,
    pub next_at: OffsetDateTime,
    pub error: Option<String>,
    pub ended_at: Option<OffsetDateTime>,
}

impl Database {
    /// Takes messages to these targets that are due. No other server takes them within this number of seconds; after it one
    /// does unless this one has said how it went: a server that is killed loses none, and one that is killed
    /// between sending and saying so leaves one that is sent twice.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_deliveries(
        &self,
        targets: &[String],
        seconds: f64,
        most: i64,
    ) -> Result<Vec<Delivery>> {
        let rows = sqlx::query_as!(
            Delivery,
            r#"with due as (
                   select event_id, target from alert_deliveries
                   where state = 'waiting' and next_at <= now() and target = any($1)
                   order by next_at limit $3
                   for update skip locked
               )
               update alert_deliveries
               set tries = tries + 1, next_at = now() + make_interval(secs => $2)
               from due join alert_events on id = due.event_id
               where alert_deliveries.event_id = due.event_id
                 and alert_deliveries.target = due.target
               returning id as event, alert_deliveries.target, tries, kind, title, body,
                   job_id as job, at, exists (
                       select from jobs where jobs.id = job_id and jobs.kind = 'train') as "trains!"
               "#,
            targets,
            seconds,
            most,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Notes that a message was taken by its target.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delivered(&self, delivery: &Delivery) -> Result<()> {
        sqlx::query!(
            "update alert_deliveries set state = 'sent', error = null, ended_at = now()
             where event_id = $1 and target = $2 and state = 'waiting'",
            delivery.event,
            delivery.target,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that a message was not taken. It is tried again after `wait` seconds, unless it was found more than
    /// `give_up` seconds ago: then it is given up.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn undelivered(
        &self,
        delivery: &Delivery,
        error: &str,
        wait: f64,
        give_up: f64,
    ) -> Result<()> {
        sqlx::query!(
            "update alert_deliveries
             set error = $4, next_at = now() + make_interval(secs => $5),
                 state = case when late then 'given up' else 'waiting' end,
                 ended_at = case when late then now() end
             from (select now() - at > make_interval(secs => $6) as late
                   from alert_events where id = $1) as event
             where event_id = $1 and target = $2 and tries = $3 and state = 'waiting'",
            delivery.event,
            delivery.target,
            delivery.tries,
            error,
            wait,
            give_up,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives up what no server has sent within this number of seconds (none has the target), and removes events older than
    /// thirty days.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn settle_alerts(&self, give_up: f64) -> Result<()> {
        sqlx::query!(
            "update alert_deliveries
             set state = 'given up', ended_at = now(),
                 error = coalesce(error, 'no server that ran has this target')
             from alert_events
             where id = event_id and alert_deliveries.state = 'waiting'
               and next_at < now() - interval '10 minutes'
               and at < now() - make_interval(secs => $1)",
            give_up,
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!("delete from alert_events where at < now() - interval '30 days'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The newest events with what was sent.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn alert_events(&self, most: i64) -> Result<Vec<AlertEvent>> {
        let events = sqlx::query!(
            r#"select id, rule_id, kind, title, body, job_id, at, exists (
                   select from jobs where jobs.id = job_id and jobs.kind = 'train') as "trains!"
               from alert_events
               order by at desc, id desc limit $1"#,
            most,
        )
        .fetch_all(&self.pool)
        .await?;
        let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
        let mut deliveries = sqlx::query!(
            "select event_id, target, state, tries, next_at, error, ended_at
             from alert_deliveries where event_id = any($1) order by event_id, target",
            &ids,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(events
            .into_iter()
            .map(|event| AlertEvent {
                id: event.id,
                rule_id: event.rule_id,
                kind: event.kind,
                title: event.title,
                body: event.body,
                job_id: event.job_id,
                trains: event.trains,
                at: event.at,
                deliveries: deliveries
                    .extract_if(.., |row| row.event_id == event.id)
                    .map(|row| AlertDelivery {
                        target: row.target,
                        state: row.state,
                        tries: row.tries,
                        next_at: row.next_at,
                        error: row.error,
                        ended_at: row.ended_at,
                    })
                    .collect(),
            })
            .collect())
    }

    /// Writes a message to this target that says that it is a test; gives its event.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn test_alert(&self, target: &str, by: &str) -> Result<i64> {
        let event = sqlx::query_scalar!(
            r#"with event as (
                   insert into alert_events (kind, subject, title, body)
                   values ('test', gen_random_uuid()::text, 'A test of alerts',
                       'Sent because ' || $2 || ' asked for it. Nothing is wrong.')
                   returning id
               )
               insert into alert_deliveries (event_id, target) select id, $1 from event
               returning event_id"#,
            target,
            by,
        );
        Ok(event.fetch_one(&self.pool).await?)
    }
}
