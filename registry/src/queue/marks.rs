//! What people write on jobs, runs and sweeps: names, tags, notes, and whether lists leave them out. A run and
//! the job that makes it have one id and are marked together; what is written on a sweep beside its name and note
//! is written on all of its jobs. Owns `note` and `archived_at`; `name` and `tags` once there is a row.

use storage::names;
use uuid::Uuid;

use crate::find::{Kind, Named, Target};
use crate::{Database, Error, Job, JobState, Result, Run, Sweep};

/// The longest note, in bytes.
const LONGEST: usize = 10_000;

impl Database {
    /// Calls it by another name.
    ///
    /// # Errors
    /// When the name breaks the rule of [`storage::names`]; when the row is gone.
    pub async fn rename(&self, target: Target, name: &str) -> Result<()> {
        checked("name", name, names::name)?;
        let Target { kind, id } = target;
        let mut tx = self.pool.begin().await?;
        let changed = match kind {
            Kind::Sweep => {
                let update = sqlx::query!("update sweeps set name = $2 where id = $1", id, name);
                update.execute(&mut *tx).await?.rows_affected()
            }
            Kind::Job | Kind::Run => {
                let jobs = sqlx::query!("update jobs set name = $2 where id = $1", id, name);
                let jobs = jobs.execute(&mut *tx).await?.rows_affected();
                let runs = sqlx::query!("update runs set name = $2 where id = $1", id, name);
                jobs + runs.execute(&mut *tx).await?.rows_affected()
            }
        };
        tx.commit().await?;
        found(changed, target)
    }

    /// Adds words to find it by, and takes others away.
    ///
    /// # Errors
    /// When a word breaks the rule of [`storage::names`]; when the row is gone.
    pub async fn tag(&self, target: Target, add: &[String], remove: &[String]) -> Result<()> {
        for word in add {
            checked("tag", word, names::word)?;
        }
        let ids = self.marked(target).await?;
        let mut tx = self.pool.begin().await?;
        let jobs = sqlx::query!(
            "update jobs set tags = array(select tag from unnest(tags) tag where tag <> all($3))
                 || array(select tag from unnest($2::text[]) tag where tag <> all(tags))
             where id = any($1)",
            &ids,
            add,
            remove,
        );
        let jobs = jobs.execute(&mut *tx).await?.rows_affected();
        let runs = sqlx::query!(
            "update runs set tags = array(select tag from unnest(tags) tag where tag <> all($3))
                 || array(select tag from unnest($2::text[]) tag where tag <> all(tags))
             where id = any($1)",
            &ids,
            add,
            remove,
        );
        let runs = runs.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        found(jobs + runs, target)
    }

    /// Keeps a text with it; none takes away the one that is there.
    ///
    /// # Errors
    /// When it is longer than ten thousand bytes; when the row is gone.
    pub async fn note(&self, target: Target, note: Option<&str>) -> Result<()> {
        if note.is_some_and(|note| note.len() > LONGEST || note.contains('\0')) {
            return Err(Error::Invalid(format!(
                "a note is text of at most {LONGEST} bytes: keep longer texts in a file, and name that"
            )));
        }
        let Target { kind, id } = target;
        let mut tx = self.pool.begin().await?;
        let changed = match kind {
            Kind::Sweep => {
                let update = sqlx::query!("update sweeps set note = $2 where id = $1", id, note);
                update.execute(&mut *tx).await?.rows_affected()
            }
            Kind::Job | Kind::Run => {
                let jobs = sqlx::query!("update jobs set note = $2 where id = $1", id, note);
                let jobs = jobs.execute(&mut *tx).await?.rows_affected();
                let runs = sqlx::query!("update runs set note = $2 where id = $1", id, note);
                jobs + runs.execute(&mut *tx).await?.rows_affected()
            }
        };
        tx.commit().await?;
        found(changed, target)
    }

    /// Lets lists leave it out, of a sweep all of its jobs too. Nothing is lost.
    ///
    /// # Errors
    /// When a job has not ended.
    pub async fn archive(&self, target: Target) -> Result<()> {
        let ids = self.marked(target).await?;
        let mut tx = self.pool.begin().await?;
        let at_work = sqlx::query!(
            r#"select short as "short!", state as "state: JobState" from jobs
               where id = any($1) and state in ('queued', 'running', 'paused')
               order by created_at for update"#,
            &ids,
        )
        .fetch_all(&mut *tx)
        .await?;
        if let Some(job) = at_work.first() {
            let (short, state) = (&job.short, job.state);
            let more = match at_work.len() {
                1 => String::new(),
                count => format!(" (and {} more have not ended)", count - 1),
            };
            return Err(Error::Failed(format!(
                "job {short} is {state}{more}: only what has ended is archived; wait, or \
                 `scheduler cancel {short}` first"
            )));
        }
        sqlx::query!(
            "update jobs set archived_at = coalesce(archived_at, now()) where id = any($1)",
            &ids,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "update runs set archived_at = coalesce(archived_at, now()) where id = any($1)",
            &ids,
        )
        .execute(&mut *tx)
        .await?;
        if target.kind == Kind::Sweep {
            sqlx::query!(
                "update sweeps set archived_at = coalesce(archived_at, now()) where id = $1",
                target.id,
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Shows it in lists again, of a sweep all of its jobs too.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unarchive(&self, target: Target) -> Result<()> {
        let ids = self.marked(target).await?;
        let mut tx = self.pool.begin().await?;
        sqlx::query!("update jobs set archived_at = null where id = any($1)", &ids)
            .execute(&mut *tx)
            .await?;
        sqlx::query!("update runs set archived_at = null where id = any($1)", &ids)
            .execute(&mut *tx)
            .await?;
        if target.kind == Kind::Sweep {
            sqlx::query!("update sweeps set archived_at = null where id = $1", target.id)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The jobs and runs that are marked with it.
    async fn marked(&self, target: Target) -> Result<Vec<Uuid>> {
        match target.kind {
            Kind::Job | Kind::Run => Ok(vec![target.id]),
            Kind::Sweep => Ok(self.sweep_jobs(target.id).await?.iter().map(|job| job.id).collect()),
        }
    }
}

/// That a name, a tag or the like is as the rule has it.
pub(crate) fn checked<T>(
    what: &str,
    text: &str,
    rule: impl Fn(&str) -> Result<T, String>,
) -> Result<T> {
    rule(text).map_err(|why| {
        let shown: String = text.chars().take(names::LONGEST).collect();
        Error::Invalid(format!("the {what} {shown:?} is not allowed: {why}"))
    })
}

/// That a row was there to be changed.
fn found(changed: u64, target: Target) -> Result<()> {
    let id = target.id.to_string();
    match (changed, target.kind) {
        (0, Kind::Job) => Err(Job::not_found(&id)),
        (0, Kind::Run) => Err(Run::not_found(&id)),
        (0, Kind::Sweep) => Err(Sweep::not_found(&id)),
        _ => Ok(()),
    }
}
