//! Where sample jobs write to: a place is that of one job which has not ended.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Error, JobState, Result};

/// Keeps a place for one job until the transaction ends. `of` is the job where it is there already.
///
/// # Errors
/// When another job that has not ended writes there.
pub(crate) async fn reserve(tx: &mut PgConnection, of: Option<Uuid>, place: &str) -> Result<()> {
    // Of two at the same moment the second waits, and then sees the first. The seed tells these names
    // from submit keys.
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 1))", place)
        .execute(&mut *tx)
        .await?;
    let other = sqlx::query!(
        r#"select short, state as "state: JobState"
           from samplings join jobs on jobs.id = job_id
           where output_uri = $1 and job_id is distinct from $2
             and state in ('queued', 'running', 'paused')
           limit 1"#,
        place,
        of,
    )
    .fetch_optional(tx)
    .await?;
    match other {
        None => Ok(()),
        Some(other) => Err(Error::Invalid(format!(
            "job {id} ({state}) already writes its outputs to {place}: cancel it (`scheduler cancel {id}`), \
             or choose another place",
            id = other.short,
            state = other.state,
        ))),
    }
}

/// [`reserve`] for a job that is there; nothing is kept for one that samples nothing.
///
/// # Errors
/// Those of [`reserve`].
pub(crate) async fn reserve_again(tx: &mut PgConnection, job: Uuid) -> Result<()> {
    let place = sqlx::query_scalar!("select output_uri from samplings where job_id = $1", job)
        .fetch_optional(&mut *tx)
        .await?;
    match place {
        Some(place) => reserve(tx, Some(job), &place).await,
        None => Ok(()),
    }
}
