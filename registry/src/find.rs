//! From what people type to rows: a whole id (of 8 or 32 digits), a name, or else the beginning of an id.
//!
//! An id comes before a name, so that no row can be called like another's id and be taken for it. A name belongs
//! first to those that are not archived. Where several have it, who reads gets the newest and a warning; who
//! changes something gets an error.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Error, Result, nearest, once};

/// Limit on the rows read for one name, and on the names that suggestions are made from.
const MOST: i64 = 1000;

/// Limit on the rows that a message names.
const NAMED: usize = 3;

/// What people name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A job; the run that it makes has its id.
    Job,
    /// A run.
    Run,
    /// A sweep.
    Sweep,
}

impl Kind {
    /// What one is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Run => "run",
            Self::Sweep => "sweep",
        }
    }

    /// What several are called, and the command that lists them.
    fn list(self) -> &'static str {
        match self {
            Self::Job => "jobs",
            Self::Run => "runs",
            Self::Sweep => "sweeps",
        }
    }
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: Uuid,
}

/// What happens where several rows have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// The newest is taken, and a warning says so.
    Newest,
    /// It is an error.
    Refuse,
}

/// A row that may be meant.
struct Candidate {
    id: Uuid,
    short: String,
    name: String,
    living: bool,
    created_at: OffsetDateTime,
}

/// Rows that people name.
pub(crate) trait Named: Sized {
    /// What they are.
    const KIND: Kind;

    /// The row of an id.
    async fn by_id(db: &Database, id: Uuid) -> Result<Self>;

    /// The error that no row has this name or id.
    fn not_found(name: &str) -> Error {
        not_found(name, &[Self::KIND], String::new())
    }
}

/// Makes rows ones that people name: `named!(Job, Kind::Job, Database::job)`.
macro_rules! named {
    ($row:ty, $kind:expr, $by_id:path) => {
        impl crate::find::Named for $row {
            const KIND: Kind = $kind;

            async fn by_id(db: &Database, id: Uuid) -> Result<Self> {
                $by_id(db, id).await
            }
        }
    };
}
pub(crate) use named;

/// Candidates from the table of a kind; the text goes on after its name.
macro_rules! candidates {
    ($db:expr, $kind:expr, $tail:tt, $($argument:expr),*) => {
        match $kind {
            Kind::Job => candidates!(@ $db, "jobs", $tail, $($argument),*),
            Kind::Run => candidates!(@ $db, "runs", $tail, $($argument),*),
            Kind::Sweep => candidates!(@ $db, "sweeps", $tail, $($argument),*),
        }
    };
    (@ $db:expr, $table:tt, $tail:tt, $($argument:expr),*) => {
        sqlx::query_as!(
            Candidate,
            r#"select id as "id!", short as "short!", name as "name!",
                   archived_at is null as "living!", created_at as "created_at!"
               from "# + $table + $tail,
            $($argument),*
        )
        .fetch_all(&$db.pool)
        .await
    };
}

/// The names of the newest rows of a table that are not archived.
macro_rules! newest_names {
    ($db:expr, $table:tt) => {
        sqlx::query_scalar!(
            "select name from "
                + $table
                + " where archived_at is null order by created_at desc limit $1",
            MOST,
        )
        .fetch_all(&$db.pool)
        .await
    };
}

impl Database {
    /// The row of a kind that was typed; of several of one name the newest.
    pub(crate) async fn find<T: Named>(&self, name: &str) -> Result<T> {
        let target = self.find_among(name, &[T::KIND], Several::Newest).await?;
        T::by_id(self, target.id).await
    }

    /// What was typed, among rows of these kinds.
    ///
    /// # Errors
    /// When no row has this name or id, several ids begin with it, or several rows have the name and one was to
    /// be changed.
    pub async fn find_among(&self, name: &str, kinds: &[Kind], several: Several) -> Result<Target> {
        let range = id_range(name);
        let beginnings = match range {
            Some((first, last)) => {
                self.of_each(kinds, |kind| self.between(kind, first, last)).await?
            }
            None => Vec::new(),
        };
        if let [(kind, one)] = &beginnings[..]
            && is_whole(name)
        {
            return Ok(Target { kind: *kind, id: one.id });
        }
        let called = self.of_each(kinds, |kind| self.called(kind, name)).await?;
        if let Some(target) = of_name(name, called, several)? {
            return Ok(target);
        }
        match &beginnings[..] {
            [] => {}
            [(kind, one)] => return Ok(Target { kind: *kind, id: one.id }),
            several => return Err(ambiguous(name, several)),
        }
        let mut names = Vec::new();
        for &kind in kinds {
            names.extend(self.newest_names(kind).await?);
        }
        let meant = nearest::meant(name, names.iter().map(String::as_str));
        Err(not_found(name, kinds, meant))
    }

    /// The candidates of each kind. A run and the job that makes it are one, and the job stands for both.
    async fn of_each<F: Future<Output = Result<Vec<Candidate>>>>(
        &self,
        kinds: &[Kind],
        candidates: impl Fn(Kind) -> F,
    ) -> Result<Vec<(Kind, Candidate)>> {
        let mut all: Vec<(Kind, Candidate)> = Vec::new();
        for &kind in kinds {
            for one in candidates(kind).await? {
                if !all.iter().any(|(_, other)| other.id == one.id) {
                    all.push((kind, one));
                }
            }
        }
        Ok(all)
    }

    /// Rows of this name, newest first.
    async fn called(&self, kind: Kind, name: &str) -> Result<Vec<Candidate>> {
        let rows = candidates!(
            self,
            kind,
            " where name = $1 order by created_at desc limit $2",
            name,
            MOST
        );
        Ok(rows?)
    }

    /// Rows with ids between these two.
    async fn between(&self, kind: Kind, first: Uuid, last: Uuid) -> Result<Vec<Candidate>> {
        let rows = candidates!(
            self,
            kind,
            " where id between $1 and $2 order by id limit $3",
            first,
            last,
            MOST
        );
        Ok(rows?)
    }

    async fn newest_names(&self, kind: Kind) -> Result<Vec<String>> {
        let names = match kind {
            Kind::Job => newest_names!(self, "jobs"),
            Kind::Run => newest_names!(self, "runs"),
            Kind::Sweep => newest_names!(self, "sweeps"),
        };
        Ok(names?)
    }
}

fn not_found(name: &str, kinds: &[Kind], meant: String) -> Error {
    let join = |words: Vec<&str>, with: &str| words.join(with);
    Error::NotFound {
        what: join(kinds.iter().map(|kind| kind.name()).collect(), " or "),
        name: name.to_owned(),
        meant,
        list: join(kinds.iter().map(|kind| kind.list()).collect(), "` or `scheduler "),
    }
}

/// The one that a name belongs to: of those that are not archived, or else of the archived ones.
fn of_name(name: &str, called: Vec<(Kind, Candidate)>, several: Several) -> Result<Option<Target>> {
    let living = called.iter().any(|(_, row)| row.living);
    let mut rows: Vec<_> = called.into_iter().filter(|(_, row)| row.living == living).collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.created_at));
    let Some((kind, newest)) = rows.first() else { return Ok(None) };
    if rows.len() > 1 {
        let one_kind = rows.iter().all(|(other, _)| other == kind);
        let what = if one_kind { kind.list() } else { "things" };
        let said = |(kind, row): &(Kind, Candidate)| match one_kind {
            true => row.short.clone(),
            false => format!("{} {}", kind.name(), row.short),
        };
        let count = rows.len();
        if several == Several::Refuse {
            let examples = examples(rows.iter().map(said));
            return Err(Error::Several { what, name: name.to_owned(), count, examples });
        }
        let others = examples(rows[1..].iter().map(said));
        let newest = said(&rows[0]);
        let warning = format!(
            "{count} {what} are called `{name}`: took the newest, {newest} (others: {others})"
        );
        if once::first(&warning) {
            tracing::warn!("{warning}");
        }
    }
    Ok(Some(Target { kind: *kind, id: newest.id }))
}

/// The first of many.
fn examples(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len() > NAMED;
    let mut texts: Vec<String> = all.take(NAMED).collect();
    if more {
        texts.push("…".to_owned());
    }
    texts.join(", ")
}

fn ambiguous(name: &str, rows: &[(Kind, Candidate)]) -> Error {
    let examples = examples(rows.iter().map(|(_, row)| format!("{} {}", row.short, row.name)));
    Error::Ambiguous { name: name.to_owned(), count: rows.len(), examples }
}

/// Whether this has the length of an id, whole or as people type it.
fn is_whole(name: &str) -> bool {
    matches!(name.chars().filter(|c| *c != '-').count(), 8 | 32)
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
