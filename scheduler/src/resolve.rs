//! From what people type to rows: a name (the newest that has it), or else the beginning of an id.

use uuid::Uuid;

use crate::jobs::select_jobs;
use crate::runs::select_runs;
use crate::{Database, Error, Job, Result, Run};

impl Database {
    /// The newest job of this name, or else the job whose id begins with this.
    ///
    /// # Errors
    /// When there is none, or several ids begin with this.
    pub async fn find_job(&self, name: &str) -> Result<Job> {
        let named = select_jobs!("jobs where name = $1 order by created_at desc limit 1", name)
            .fetch_optional(&self.pool)
            .await?;
        if let Some(job) = named {
            return Ok(job);
        }
        if let Some(prefix) = id_prefix(name) {
            let ids: Vec<Uuid> = sqlx::query_scalar!(
                "select id from jobs where id::text like $1 order by created_at desc limit 4",
                prefix,
            )
            .fetch_all(&self.pool)
            .await?;
            if let Some(id) = only(name, &ids)? {
                return self.job(id).await;
            }
        }
        Err(crate::jobs::not_found(name))
    }

    /// The newest run of this name, or else the run whose id begins with this.
    ///
    /// # Errors
    /// When there is none, or several ids begin with this.
    pub async fn find_run(&self, name: &str) -> Result<Run> {
        let named =
            select_runs!("where runs.name = $1 order by runs.created_at desc limit 1", name)
                .fetch_optional(&self.pool)
                .await?;
        if let Some(run) = named {
            return Ok(run);
        }
        if let Some(prefix) = id_prefix(name) {
            let ids: Vec<Uuid> = sqlx::query_scalar!(
                "select id from runs where id::text like $1 order by created_at desc limit 4",
                prefix,
            )
            .fetch_all(&self.pool)
            .await?;
            if let Some(id) = only(name, &ids)? {
                return self.run(id).await;
            }
        }
        Err(crate::runs::not_found(name))
    }
}

/// A pattern for ids, where the text can be the beginning of one.
fn id_prefix(name: &str) -> Option<String> {
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    (!name.is_empty() && name.len() <= 36 && name.chars().all(hex))
        .then(|| format!("{}%", name.to_ascii_lowercase()))
}

fn only(name: &str, ids: &[Uuid]) -> Result<Option<Uuid>> {
    match ids {
        [] => Ok(None),
        [id] => Ok(Some(*id)),
        several => {
            let examples: Vec<String> = several.iter().take(3).map(crate::short).collect();
            Err(Error::Ambiguous {
                name: name.to_owned(),
                count: several.len(),
                examples: examples.join(", "),
            })
        }
    }
}
