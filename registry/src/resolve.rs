//! From what people type to rows: a name (the newest that has it), or else the beginning of an id.

use uuid::Uuid;

use crate::jobs::select_jobs;
use crate::runs::select_runs;
use crate::{Database, Error, Job, Result, Run, Sweep};

/// A row whose id begins with what was typed, and how many there are.
struct Candidate {
    id: Uuid,
    short: String,
    name: String,
    count: i64,
}

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
            let candidates = sqlx::query_as!(
                Candidate,
                r#"select id, short as "short!", name, count(*) over () as "count!"
                   from jobs where id between $1 and $2 order by id limit 3"#,
                first,
                last,
            )
            .fetch_all(&self.pool)
            .await?;
            if let Some(id) = only(name, &candidates)? {
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
            let candidates = sqlx::query_as!(
                Candidate,
                r#"select id, short as "short!", name, count(*) over () as "count!"
                   from runs where id between $1 and $2 order by id limit 3"#,
                first,
                last,
            )
            .fetch_all(&self.pool)
            .await?;
            if let Some(id) = only(name, &candidates)? {
                return self.run(id).await;
            }
        }
        Err(crate::runs::not_found(name))
    }

    /// The newest sweep of this name, or else the sweep whose id begins with this.
    ///
    /// # Errors
    /// When there is none, or several ids begin with this.
    pub async fn find_sweep(&self, name: &str) -> Result<Sweep> {
        let named: Option<Uuid> = sqlx::query_scalar!(
            "select id from sweeps where name = $1 order by created_at desc limit 1",
            name,
        )
        .fetch_optional(&self.pool)
        .await?;
        if let Some(id) = named {
            return self.sweep(id).await;
        }
        if let Some((first, last)) = id_range(name) {
            let candidates = sqlx::query_as!(
                Candidate,
                r#"select id, short as "short!", name, count(*) over () as "count!"
                   from sweeps where id between $1 and $2 order by id limit 3"#,
                first,
                last,
            )
            .fetch_all(&self.pool)
            .await?;
            if let Some(id) = only(name, &candidates)? {
                return self.sweep(id).await;
            }
        }
        Err(crate::sweeps::not_found(name))
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

fn only(name: &str, candidates: &[Candidate]) -> Result<Option<Uuid>> {
    match candidates {
        [] => Ok(None),
        [one] => Ok(Some(one.id)),
        several => {
            let mut examples: Vec<String> =
                several.iter().map(|row| format!("{} {}", row.short, row.name)).collect();
            let count = usize::try_from(several[0].count).unwrap_or(several.len());
            if count > several.len() {
                examples.push("…".to_owned());
            }
            Err(Error::Ambiguous { name: name.to_owned(), count, examples: examples.join(", ") })
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
