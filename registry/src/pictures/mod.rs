//! Previews of trainings, picture by picture. Owns `pictures`. The files are in the run's place, named by their
//! digest: [`FOLDER`]`/DIGEST.png`. A file is written before its row, and its row is hidden before it is removed.
//!
//! Always holds: of a run, a step, a part, an input and a sample one picture is shown, that of the newest attempt;
//! none past the step from which a later attempt went on.

mod keeping;
mod removal;

use serde::Serialize;
use storage::Place;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Error, Result};

pub use keeping::{PictureFiles, surplus};
pub use removal::remove_picture;

/// The folder of a run's place that holds its pictures.
pub const FOLDER: &str = "pictures";

/// Bytes of the longest thumbnail.
pub const LONGEST_THUMBNAIL: usize = 8192;

/// Pictures that are recorded at once, at most.
const AT_ONCE: usize = 64;

/// What of an input a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "picture_part", rename_all = "lowercase")]
pub enum PicturePart {
    /// What the network is given.
    Source,
    /// White where it is to generate.
    Mask,
    /// What it made of it.
    Output,
    /// The photograph that it was to restore.
    Reference,
}

/// A picture to record; its file lies in the run's place.
#[derive(Clone, Debug)]
pub struct NewPicture {
    /// What it shows.
    pub part: PicturePart,
    /// The step of an output, otherwise 0.
    pub step: i64,
    /// Which of the fixed inputs, from 0.
    pub input: i32,
    /// Which sample of it, from 0.
    pub sample: i32,
    /// The task.
    pub task: String,
    /// The key of the photograph.
    pub key: String,
    /// SHA-256 of its file, in hex.
    pub digest: String,
    /// Bytes of its file.
    pub bytes: i32,
    /// Pixels of a row.
    pub width: i32,
    /// Rows.
    pub height: i32,
    /// A small JPEG of at most [`LONGEST_THUMBNAIL`] bytes.
    pub thumbnail: Vec<u8>,
}

/// A row of `pictures` that is shown, without its thumbnail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewPicture")]
pub struct Picture {
    pub run_id: Uuid,
    pub part: PicturePart,
    pub step: i64,
    pub input: i32,
    pub sample: i32,
    pub digest: String,
    pub attempt: i32,
    pub task: String,
    pub key: String,
    pub bytes: i32,
    pub width: i32,
    pub height: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Where the file of a picture may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureFile {
    /// The place of the run.
    pub run_uri: String,
    /// The host that wrote it, where that is known.
    pub host: Option<String>,
    /// Its bytes.
    pub bytes: i32,
}

/// The address of a picture's folder, and the name of its file there.
///
/// # Errors
/// Where the run's place is no address, or the digest none.
pub fn picture_address(run_uri: &str, digest: &str) -> Result<(Place, String)> {
    if !is_digest(digest) {
        return Err(Error::Invalid(format!("`{digest}` is not a SHA-256 in hex")));
    }
    let run = Place::stored(run_uri).map_err(storage::Error::from)?;
    let folder = run.join(FOLDER).map_err(storage::Error::from)?;
    Ok((folder, format!("{digest}.png")))
}

/// True for 64 lower-case hex digits.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Selects rows of `pictures` that are shown; the text goes on behind the condition.
macro_rules! select_pictures {
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Picture,
            r#"select run_id, part as "part: PicturePart", step, input, sample, digest, attempt, task, key, bytes,
                   width, height, created_at
               from pictures
               where not retiring and not exists (
                   select from attempts later
                   where later.job_id = run_id and later.number > pictures.attempt
                     and later.resumed_at < pictures.step)
               "# + $tail
            $(, $argument)*
        )
    };
}

impl Database {
    /// Records pictures of a run. One that is there again replaces the one before, whoever made that.
    ///
    /// # Errors
    /// When the attempt is stale, and those of the database.
    pub async fn record_pictures(&self, fence: Fence, run: Uuid, new: &[NewPicture]) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        for new in new.chunks(AT_ONCE) {
            let parts: Vec<PicturePart> = new.iter().map(|one| one.part).collect();
            let numbers = |of: fn(&NewPicture) -> i32| new.iter().map(of).collect::<Vec<i32>>();
            let texts =
                |of: fn(&NewPicture) -> &String| new.iter().map(|one| of(one).clone()).collect();
            let steps: Vec<i64> = new.iter().map(|one| one.step).collect();
            let (inputs, samples) = (numbers(|one| one.input), numbers(|one| one.sample));
            let digests: Vec<String> = texts(|one| &one.digest);
            let thumbnails: Vec<Vec<u8>> = new.iter().map(|one| one.thumbnail.clone()).collect();
            sqlx::query!(
                "update pictures set retiring = true
                 from unnest($2::picture_part[], $3::bigint[], $4::integer[], $5::integer[], $6::text[])
                     as new (part, step, input, sample, digest)
                 where run_id = $1 and not retiring and pictures.part = new.part and pictures.step = new.step
                   and pictures.input = new.input and pictures.sample = new.sample
                   and pictures.digest <> new.digest",
                run,
                &parts as &[PicturePart],
                &steps,
                &inputs,
                &samples,
                &digests,
            )
            .execute(&mut *tx)
            .await?;
            let (tasks, keys): (Vec<String>, Vec<String>) =
                (texts(|one| &one.task), texts(|one| &one.key));
            sqlx::query!(
                "insert into pictures (run_id, attempt, part, step, input, sample, digest, task, key, bytes, width,
                     height, thumbnail)
                 select $1, $2, new.*
                 from unnest($3::picture_part[], $4::bigint[], $5::integer[], $6::integer[], $7::text[], $8::text[],
                     $9::text[], $10::integer[], $11::integer[], $12::integer[], $13::bytea[]) as new
                 on conflict on constraint pictures_pkey do update
                 set attempt = excluded.attempt, task = excluded.task, key = excluded.key, retiring = false,
                     created_at = now()",
                run,
                fence.number,
                &parts as &[PicturePart],
                &steps,
                &inputs,
                &samples,
                &digests,
                &tasks,
                &keys,
                &numbers(|one| one.bytes),
                &numbers(|one| one.width),
                &numbers(|one| one.height),
                &thumbnails,
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The steps of which each of these runs has pictures, by run and step.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn picture_steps(&self, runs: &[Uuid]) -> Result<Vec<(Uuid, i64)>> {
        let rows = sqlx::query!(
            "select distinct run_id, step from pictures
             where run_id = any($1) and part = 'output' and not retiring and not exists (
                 select from attempts later
                 where later.job_id = run_id and later.number > pictures.attempt
                   and later.resumed_at < pictures.step)
             order by run_id, step",
            runs,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.run_id, row.step)).collect())
    }

    /// What runs were given for their previews, and the outputs of a step of each; by run, input, part and sample.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pictures(&self, at: &[(Uuid, i64)]) -> Result<Vec<Picture>> {
        let (runs, steps): (Vec<Uuid>, Vec<i64>) = at.iter().copied().unzip();
        let rows = select_pictures!(
            "and ((part <> 'output' and step = 0 and run_id = any($1)) or (part = 'output' and (run_id, step) in (
                 select * from unnest($1::uuid[], $2::bigint[]))))
             order by run_id, input, part, sample",
            &runs,
            &steps,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest runs that have pictures, at most `most`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pictured_runs(&self, most: i64) -> Result<Vec<Uuid>> {
        let ids = sqlx::query_scalar!(
            "select id from runs
             where exists (select from pictures where run_id = runs.id and not retiring)
             order by archived_at is not null, created_at desc, id limit $1",
            most,
        );
        Ok(ids.fetch_all(&self.pool).await?)
    }

    /// All pictures of one fixed input of a run, by part, step and sample; at most `most`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pictures_of_input(
        &self,
        run: Uuid,
        input: i32,
        most: i64,
    ) -> Result<Vec<Picture>> {
        let rows = select_pictures!(
            "and run_id = $1 and input = $2 order by part, step, sample limit $3",
            run,
            input,
            most,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest output of the first input of each of these runs that has any.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_pictures(&self, runs: &[Uuid]) -> Result<Vec<Picture>> {
        let rows = sqlx::query_as!(
            Picture,
            r#"select newest.run_id as "run_id!", part as "part!: PicturePart", step as "step!", input as "input!",
                   sample as "sample!", digest as "digest!", attempt as "attempt!", task as "task!", key as "key!",
                   bytes as "bytes!", width as "width!", height as "height!", created_at as "created_at!"
               from unnest($1::uuid[]) as asked (id)
               cross join lateral (
                   select pictures.* from pictures
                   where run_id = asked.id and part = 'output' and not retiring and not exists (
                       select from attempts later
                       where later.job_id = run_id and later.number > pictures.attempt
                         and later.resumed_at < pictures.step)
                   order by step desc, input, sample limit 1
               ) newest"#,
            runs,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Where the file of a picture may lie: in the places of the runs that have it. None where no run has it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn picture_files(&self, digest: &str) -> Result<Vec<PictureFile>> {
        let rows = sqlx::query_as!(
            PictureFile,
            r#"select runs.uri as run_uri, max(attempts.host) as host, max(bytes) as "bytes!"
               from pictures join runs on runs.id = run_id
               left join attempts on job_id = run_id and number = pictures.attempt
               where digest = $1 and not retiring
               group by runs.id
               order by runs.created_at desc
               limit 16"#,
            digest,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The small copy of a picture, a JPEG.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn thumbnail(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let found = sqlx::query_scalar!(
            "select thumbnail from pictures where digest = $1 and not retiring limit 1",
            digest,
        );
        Ok(found.fetch_optional(&self.pool).await?)
    }
}
