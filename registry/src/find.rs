//! From what people type to rows: a name (the newest that has it), or else the beginning of an id.

use uuid::Uuid;

use crate::{Database, Error, Result};

/// A row whose id begins with what was typed, and how many there are.
pub(crate) struct Candidate {
    pub id: Uuid,
    pub short: String,
    pub name: String,
    pub count: i64,
}

/// Rows that people name.
pub(crate) trait Named: Sized {
    /// What one is called in messages, and the command that lists them.
    const CALLED: (&'static str, &'static str);

    /// The newest of this name.
    async fn newest(db: &Database, name: &str) -> Result<Option<Uuid>>;

    /// The first three ids between these two.
    async fn between(db: &Database, first: Uuid, last: Uuid) -> Result<Vec<Candidate>>;

    /// The row of an id.
    async fn by_id(db: &Database, id: Uuid) -> Result<Self>;

    /// The error that no row has this name or id.
    fn not_found(name: &str) -> Error {
        let (what, list) = Self::CALLED;
        Error::NotFound { what, name: name.to_owned(), list }
    }
}

/// Makes the rows of a table ones that people name: `named!(Job, "job", "jobs", Database::job)`. The command
/// that lists them has the table's name.
macro_rules! named {
    ($row:ty, $what:tt, $table:tt, $by_id:path) => {
        impl crate::find::Named for $row {
            const CALLED: (&'static str, &'static str) = ($what, $table);

            async fn newest(db: &Database, name: &str) -> Result<Option<Uuid>> {
                let row = sqlx::query_scalar!(
                    "select id from "
                        + $table
                        + " where name = $1 order by created_at desc limit 1",
                    name,
                );
                Ok(row.fetch_optional(&db.pool).await?)
            }

            async fn between(
                db: &Database,
                first: Uuid,
                last: Uuid,
            ) -> Result<Vec<crate::find::Candidate>> {
                let rows = sqlx::query_as!(
                    crate::find::Candidate,
                    r#"select id, short as "short!", name, count(*) over () as "count!"
                       from "#
                        + $table
                        + " where id between $1 and $2 order by id limit 3",
                    first,
                    last,
                );
                Ok(rows.fetch_all(&db.pool).await?)
            }

            async fn by_id(db: &Database, id: Uuid) -> Result<Self> {
                $by_id(db, id).await
            }
        }
    };
}
pub(crate) use named;

impl Database {
    /// The newest row of this name, or else the one whose id begins with this.
    ///
    /// # Errors
    /// When no row has this name or id, or several ids begin with it.
    pub(crate) async fn find<T: Named>(&self, name: &str) -> Result<T> {
        if let Some(id) = T::newest(self, name).await? {
            return T::by_id(self, id).await;
        }
        if let Some((first, last)) = id_range(name)
            && let Some(id) = only(name, &T::between(self, first, last).await?)?
        {
            return T::by_id(self, id).await;
        }
        Err(T::not_found(name))
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
