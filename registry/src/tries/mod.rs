//! Tries: pictures that people give to a network in the control room, and what came of them. Owns `tries` and
//! `try_pictures`. What a picture shows is not known here: it is bytes.
//!
//! - [`Database::submit_try`] enters one whole, within limits; pages read and change it by the methods here;
//! - a job of kind `try` makes one after another ([`serving`]). There is one while there is something to do:
//!   [`Database::serve_tries`] queues it.

mod serving;

use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

pub use serving::{TryEnd, TryService};

use crate::queue::marks::checked;
use crate::{Database, Error, Result};

/// Where a try is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "try_state", rename_all = "lowercase")]
pub enum TryState {
    /// Nobody makes it yet.
    Waiting,
    /// It is being made.
    Running,
    /// Its outputs are there.
    Done,
    /// It could not be made; the reason is there.
    Failed,
    /// Its owner ended it.
    Cancelled,
}

impl TryState {
    /// Its name, as the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// It is made, or will be.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

/// What a picture of a try is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "try_picture", rename_all = "lowercase")]
pub enum TryPart {
    /// The file that was given.
    Input,
    /// The mask that was given with it.
    Mask,
    /// What the network saw.
    Given,
    /// The picture as it was estimated after a step, small.
    Frame,
    /// What was made.
    Output,
}

/// How large a picture is when it goes to the network.
pub const TRY_FRAMINGS: [&str; 3] = ["square", "short-side", "own"];

/// The reverse processes that a try may name, as `sampler run --process` takes them.
pub const TRY_PROCESSES: [&str; 6] =
    ["dpmpp-2m", "ddim", "dpmpp-2m-sde", "heun", "ancestral", "posterior"];

/// A try to enter.
#[derive(Clone, Debug)]
pub struct NewTry {
    /// Who tries.
    pub owner: String,
    /// Name of the picture without its ending: with seed and sample it decides the noise.
    pub name: String,
    /// Whose weights: `RUN`, `RUN@best`, `RUN@latest`, `RUN@STEP`, or a place.
    pub weights: String,
    /// The run, where it is one.
    pub run_id: Option<Uuid>,
    /// What is to be undone.
    pub task: String,
    /// One of [`TRY_FRAMINGS`].
    pub framing: String,
    /// Pixels of the shorter side, where the framing is by it.
    pub short_side: Option<i32>,
    /// The dark pixels of the mask are the hole.
    pub mask_invert: bool,
    /// Also a task that the network was not trained for.
    pub any_task: bool,
    /// One of [`TRY_PROCESSES`].
    pub process: String,
    /// Its steps; as the process says where it is left out.
    pub steps: Option<i32>,
    /// How its noise levels are spaced.
    pub spacing: String,
    /// Noise of ddim.
    pub eta: f64,
    /// Outputs.
    pub samples: i32,
    /// Seed of the noise.
    pub seed: i64,
}

/// A picture to store.
#[derive(Clone, Debug)]
pub struct NewTryPicture {
    /// What it is.
    pub what: TryPart,
    /// Of which output, from 0.
    pub sample: i32,
    /// After which step.
    pub step: i32,
    /// Pixels.
    pub width: i32,
    /// Pixels.
    pub height: i32,
    /// `image/png`, `image/jpeg`, `image/webp`.
    pub media: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

/// How much may be tried.
#[derive(Clone, Copy, Debug)]
pub struct TryLimits {
    /// Tries of an owner that wait or are made.
    pub open_each: i64,
    /// The same of all owners.
    pub open: i64,
    /// Ended tries of an owner; the oldest that nobody keeps go first.
    pub ended_each: i64,
    /// Bytes of all pictures together; the oldest that nobody keeps go first.
    pub bytes: i64,
}

impl Default for TryLimits {
    fn default() -> Self {
        Self { open_each: 8, open: 100, ended_each: 200, bytes: 8 << 30 }
    }
}

/// A row of `tries`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, described in migrations/")]
pub struct Try {
    pub id: Uuid,
    pub owner: String,
    pub name: String,
    pub weights: String,
    pub run_id: Option<Uuid>,
    pub task: String,
    pub framing: String,
    pub short_side: Option<i32>,
    pub mask_invert: bool,
    pub any_task: bool,
    pub process: String,
    pub steps: Option<i32>,
    pub spacing: String,
    pub eta: f64,
    pub samples: i32,
    pub seed: i64,
    pub state: TryState,
    pub reason: Option<String>,
    pub job_id: Option<Uuid>,
    pub attempt: Option<i32>,
    pub claims: i32,
    pub step: Option<i64>,
    pub digest: Option<String>,
    pub steps_done: i64,
    pub steps_total: Option<i64>,
    pub kept: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// A row of `try_pictures`, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewTryPicture")]
pub struct TryPicture {
    pub what: TryPart,
    pub sample: i32,
    pub step: i32,
    pub width: i32,
    pub height: i32,
    pub media: String,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    pub size: i64,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedTries {
    /// Tries.
    pub tries: i64,
    /// Bytes of their pictures.
    pub bytes: i64,
}

/// Selects whole rows of `tries`; the text goes on after the table.
macro_rules! select_tries {
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        crate::tries::select_tries!(@ ["select "], ("from tries " + $tail) $(, $argument)*)
    };
    (@ [$head:tt], ($($tail:tt)+) $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            crate::tries::Try,
            $head + r#"id, owner, name, weights, run_id, task, framing, short_side, mask_invert, any_task, process,
                steps, spacing, eta, samples, seed, state as "state: crate::tries::TryState", reason, job_id, attempt,
                claims, step, digest, steps_done, steps_total, kept, created_at, started_at, ended_at "# + $($tail)+
            $(, $argument)*
        )
    };
}
pub(crate) use select_tries;

impl Database {
    /// Enters a try with its pictures. The oldest ended ones that nobody keeps make room for it.
    ///
    /// # Errors
    /// When a limit is reached, or a value is out of its range.
    pub async fn submit_try(
        &self,
        new: NewTry,
        pictures: Vec<NewTryPicture>,
        limits: TryLimits,
    ) -> Result<Try> {
        checked("name", &new.name, storage::names::title)?;
        checked("owner", &new.owner, storage::names::word)?;
        if !TRY_FRAMINGS.contains(&&*new.framing) || !TRY_PROCESSES.contains(&&*new.process) {
            return Err(Error::Invalid(format!(
                "size `{}` or process `{}` is not known: sizes are {}, processes {}",
                new.framing,
                new.process,
                TRY_FRAMINGS.join(", "),
                TRY_PROCESSES.join(", ")
            )));
        }
        let mut tx = self.pool.begin().await?;
        lock(&mut tx).await?;
        let open = sqlx::query!(
            r#"select count(*) as "all!", count(*) filter (where owner = $1) as "own!"
               from tries where state in ('waiting', 'running')"#,
            new.owner,
        )
        .fetch_one(&mut *tx)
        .await?;
        if open.own >= limits.open_each || open.all >= limits.open {
            let whose = if open.own >= limits.open_each { "of yours " } else { "" };
            let count = if open.own >= limits.open_each { open.own } else { open.all };
            return Err(Error::TooMany(format!(
                "{count} pictures {whose}wait already: cancel one, or try again when one is done"
            )));
        }
        let coming: i64 = pictures.iter().map(|picture| picture.bytes.len() as i64).sum();
        make_room(&mut tx, &new.owner, &limits, coming).await?;
        let id = Uuid::new_v4();
        let made = select_tries!(
            @ ["insert into tries (id, owner, name, weights, run_id, task, framing, short_side, mask_invert, any_task,
                    process, steps, spacing, eta, samples, seed)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) returning "], (""),
            id,
            new.owner,
            new.name,
            new.weights,
            new.run_id,
            new.task,
            new.framing,
            new.short_side,
            new.mask_invert,
            new.any_task,
            new.process,
            new.steps,
            new.spacing,
            new.eta,
            new.samples,
            new.seed,
        )
        .fetch_one(&mut *tx)
        .await?;
        for picture in &pictures {
            insert_picture(&mut tx, id, picture).await?;
        }
        tx.commit().await?;
        Ok(made)
    }

    /// The newest tries, those of an owner where one is named, that were made before a time where one is given.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tries(
        &self,
        owner: Option<&str>,
        before: Option<OffsetDateTime>,
        limit: i64,
    ) -> Result<Vec<Try>> {
        let rows = select_tries!(
            "where ($1::text is null or owner = $1) and ($2::timestamptz is null or created_at < $2)
             order by created_at desc, id limit $3",
            owner,
            before,
            limit,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// A try by its id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn find_try(&self, id: Uuid) -> Result<Try> {
        let row = select_tries!("where id = $1", id).fetch_optional(&self.pool).await?;
        row.ok_or_else(|| not_found(id))
    }

    /// Tries that will be made before this one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tries_before(&self, id: Uuid) -> Result<i64> {
        let row = sqlx::query_scalar!(
            r#"select count(*) as "count!" from tries
               where state in ('waiting', 'running') and id <> $1
                   and created_at < (select created_at from tries where id = $1)"#,
            id,
        );
        Ok(row.fetch_one(&self.pool).await?)
    }

    /// Whether a try waits, or lost who made it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tries_wait(&self) -> Result<bool> {
        let row = sqlx::query_scalar!(
            r#"select exists (select from tries where state = 'waiting' or (state = 'running' and not exists (
                   select from jobs where jobs.id = tries.job_id and jobs.attempt = tries.attempt
                       and jobs.state = 'running'))) as "wait!""#
        );
        Ok(row.fetch_one(&self.pool).await?)
    }

    /// The pictures of a try: files, what the network saw, frames by sample and step, outputs by sample.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn try_pictures(&self, id: Uuid) -> Result<Vec<TryPicture>> {
        let rows = sqlx::query_as!(
            TryPicture,
            r#"select what as "what: TryPart", sample, step, width, height, media, digest,
                   octet_length(bytes)::bigint as "size!"
               from try_pictures where try_id = $1 order by what, sample, step"#,
            id,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The smallest picture to show of each of these tries: its last frame, else what the network saw, else none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn try_thumbnails(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, TryPicture)>> {
        let rows = sqlx::query!(
            r#"select distinct on (try_id) try_id, what as "what: TryPart", sample, step, width, height, media, digest,
                   octet_length(bytes)::bigint as "size!"
               from try_pictures where try_id = any($1) and what in ('frame', 'given', 'output')
               order by try_id, case what when 'frame' then 0 when 'output' then 1 else 2 end, step desc, sample"#,
            ids,
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let picture = TryPicture {
                what: row.what,
                sample: row.sample,
                step: row.step,
                width: row.width,
                height: row.height,
                media: row.media,
                digest: row.digest,
                size: row.size,
            };
            (row.try_id, picture)
        });
        Ok(rows.collect())
    }

    /// A picture of any try by its SHA-256: its media type and its bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn try_picture(&self, digest: &str) -> Result<Option<(String, Vec<u8>)>> {
        let row =
            sqlx::query!("select media, bytes from try_pictures where digest = $1 limit 1", digest);
        Ok(row.fetch_optional(&self.pool).await?.map(|row| (row.media, row.bytes)))
    }

    /// A picture of this try: media type and bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn picture_of_try(
        &self,
        id: Uuid,
        what: TryPart,
        sample: i32,
    ) -> Result<Option<(String, Vec<u8>)>> {
        let row = sqlx::query!(
            "select media, bytes from try_pictures
             where try_id = $1 and what = $2 and sample = $3 order by step desc limit 1",
            id,
            what as TryPart,
            sample,
        );
        Ok(row.fetch_optional(&self.pool).await?.map(|row| (row.media, row.bytes)))
    }

    /// Ends a try that waits or is made; whoever makes it stops at its next step. One that has ended stays as it is.
    ///
    /// # Errors
    /// When there is none.
    pub async fn cancel_try(&self, id: Uuid) -> Result<Try> {
        sqlx::query!(
            "update tries set state = 'cancelled', ended_at = now()
             where id = $1 and state in ('waiting', 'running')",
            id,
        )
        .execute(&self.pool)
        .await?;
        self.find_try(id).await
    }

    /// Keeps a try when old ones are removed, or no longer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn keep_try(&self, id: Uuid, kept: bool) -> Result<Try> {
        sqlx::query!("update tries set kept = $2 where id = $1", id, kept)
            .execute(&self.pool)
            .await?;
        self.find_try(id).await
    }

    /// Removes a try with its pictures.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_try(&self, id: Uuid) -> Result<()> {
        let done = sqlx::query!("delete from tries where id = $1", id).execute(&self.pool).await?;
        match done.rows_affected() {
            0 => Err(not_found(id)),
            _ => Ok(()),
        }
    }

    /// Ended tries that nobody keeps and that ended before a time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn old_tries(&self, before: OffsetDateTime) -> Result<RemovedTries> {
        let row = sqlx::query_as!(
            RemovedTries,
            r#"select count(distinct id) as "tries!", coalesce(sum(octet_length(bytes)), 0)::bigint as "bytes!"
               from tries left join try_pictures on try_id = id
               where state not in ('waiting', 'running') and not kept and ended_at < $1"#,
            before,
        );
        Ok(row.fetch_one(&self.pool).await?)
    }

    /// Removes what [`Self::old_tries`] counts.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove_old_tries(&self, before: OffsetDateTime) -> Result<RemovedTries> {
        let counted = self.old_tries(before).await?;
        sqlx::query!(
            "delete from tries where state not in ('waiting', 'running') and not kept and ended_at < $1",
            before,
        )
        .execute(&self.pool)
        .await?;
        Ok(counted)
    }
}

fn not_found(id: Uuid) -> Error {
    Error::NotFound {
        what: "try".into(),
        name: id.to_string(),
        meant: String::new(),
        list: "room".into(),
    }
}

/// Holds the limits: one try is entered at a time.
async fn lock(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('tries', 0))").execute(tx).await?;
    Ok(())
}

/// Removes the oldest ended tries that nobody keeps, until the limits hold.
async fn make_room(
    tx: &mut PgConnection,
    owner: &str,
    limits: &TryLimits,
    coming: i64,
) -> Result<()> {
    sqlx::query!(
        "delete from tries where id in (
             select id from tries where owner = $1 and state not in ('waiting', 'running') and not kept
             order by created_at desc offset $2)",
        owner,
        limits.ended_each,
    )
    .execute(&mut *tx)
    .await?;
    let wanted = limits.bytes - coming;
    sqlx::query!(
        "with sized as (
             select id, kept or state in ('waiting', 'running') as stays, created_at,
                 (select coalesce(sum(octet_length(bytes)), 0) from try_pictures where try_id = id) as size
             from tries
         ), summed as (
             select id, stays, sum(size) over (order by stays desc, created_at desc, id) as so_far from sized
         )
         delete from tries using summed
         where tries.id = summed.id and not stays and so_far > $1::bigint",
        wanted,
    )
    .execute(&mut *tx)
    .await?;
    let held = sqlx::query_scalar!(
        r#"select coalesce(sum(octet_length(bytes)), 0)::bigint as "held!" from try_pictures"#
    )
    .fetch_one(&mut *tx)
    .await?;
    if held > wanted {
        return Err(Error::TooMany(format!(
            "the pictures that are kept take {} MB, as much as they may: remove some that are kept",
            held / 1_000_000
        )));
    }
    Ok(())
}

/// Stores a picture; one that is there stays.
pub(crate) async fn insert_picture(
    tx: &mut PgConnection,
    id: Uuid,
    new: &NewTryPicture,
) -> Result<()> {
    sqlx::query!(
        "insert into try_pictures (try_id, what, sample, step, width, height, media, digest, bytes)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
        id,
        new.what as TryPart,
        new.sample,
        new.step,
        new.width,
        new.height,
        new.media,
        crate::hex(&Sha256::digest(&new.bytes)),
        new.bytes,
    )
    .execute(tx)
    .await?;
    Ok(())
}
