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
        if let Some((first, last)) = id_range(name) {
            let ids: Vec<Uuid> = sqlx::query_scalar!(
                "select id from jobs where id between $1 and $2 order by id limit 4",
                first,
                last,
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
        if let Some((first, last)) = id_range(name) {
            let ids: Vec<Uuid> = sqlx::query_scalar!(
                "select id from runs where id between $1 and $2 order by id limit 4",
                first,
                last,
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

/// The first and the last id that begin with this, where it can be the beginning of one: hexadecimal
/// digits, with or without the hyphens.
pub(crate) fn id_range(name: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = name.chars().filter(|c| *c != '-').collect();
    if digits.is_empty() || digits.len() > 32 || name.len() > 36 {
        return None;
    }
    let (first, last) = (format!("{digits:0<32}"), format!("{digits:f<32}"));
    Some((Uuid::try_parse(&first).ok()?, Uuid::try_parse(&last).ok()?))
}

pub(crate) fn only(name: &str, ids: &[Uuid]) -> Result<Option<Uuid>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_a_range_of_ids() {
        let id = Uuid::new_v4();
        let (plain, hyphens) = (id.simple().to_string(), id.to_string());
        for length in 1..=32 {
            let (first, last) = id_range(&plain[..length]).unwrap();
            assert!((first..=last).contains(&id), "{plain} {length}");
        }
        assert_eq!(id_range(&hyphens), Some((id, id)));
        assert_eq!(id_range(&hyphens.to_uppercase()), Some((id, id)));
        let (first, last) = id_range("0a").unwrap();
        assert!(
            first.to_string().starts_with("0a000000-") && last.to_string().starts_with("0affffff-")
        );
        for wrong in ["", "-", "demo", "0x1", "%", "é", &"0".repeat(33), &format!("{plain}0")] {
            assert_eq!(id_range(wrong), None, "{wrong}");
        }
    }
}
