//! The chunks of a sample job. Owns `chunks`. A chunk is taken by an attempt and done once its output is on
//! disk; one whose taker is not running any more is free again.

use std::ops::Range;

use serde::Serialize;
use uuid::Uuid;

use crate::queue::fence::Fence;
use crate::{Database, Error, Result};

/// Where a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "chunk_state", rename_all = "lowercase")]
pub enum ChunkState {
    /// Nobody has it.
    Waiting,
    /// An attempt works on it.
    Taken,
    /// Its output is on disk.
    Done,
}

/// A range of rows of a sample job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chunk {
    /// Its number, from 0.
    pub number: i32,
    /// Its rows.
    pub rows: Range<i64>,
    /// Where it stands.
    pub state: ChunkState,
    /// Its output, once it is done.
    pub output_uri: Option<String>,
    /// The size of its output.
    pub bytes: Option<i64>,
    /// The sha256 of its output, in hex.
    pub digest: Option<String>,
}

/// How far the chunks of a sample job are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Rows whose outputs are on disk.
    pub rows_done: i64,
    /// Chunks that are not done.
    pub chunks_left: i64,
    /// Attempts that work on chunks now.
    pub workers: i64,
}

impl Database {
    /// The chunks of a sample job, by number.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn chunks(&self, job: Uuid) -> Result<Vec<Chunk>> {
        let rows = sqlx::query!(
            r#"select number, first_row, end_row, state as "state: ChunkState",
                   output_uri, bytes, digest
               from chunks where job_id = $1 order by number"#,
            job,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Chunk {
                number: row.number,
                rows: row.first_row..row.end_row,
                state: row.state,
                output_uri: row.output_uri,
                bytes: row.bytes,
                digest: row.digest,
            })
            .collect())
    }

    /// Cuts `rows` rows of `of` into chunks of `chunk_rows`, the last one shorter. Chunks that are
    /// there stay as they are. Gives their number.
    pub(crate) async fn create_chunks(
        &self,
        fence: Fence,
        of: Uuid,
        rows: i64,
        chunk_rows: i64,
    ) -> Result<i64> {
        const MOST: i64 = 1_000_000;
        if rows < 1 || chunk_rows < 1 || (rows - 1) / chunk_rows >= MOST {
            return Err(Error::Invalid(format!(
                "cannot cut {rows} rows into chunks of {chunk_rows}: 1 to {MOST} chunks"
            )));
        }
        let mut tx = self.fenced(fence).await?;
        sqlx::query!(
            "insert into chunks (job_id, number, first_row, end_row)
             select $1, (first / $3)::integer, first, least(first + $3, $2)
             from generate_series(0::bigint, $2::bigint - 1, $3::bigint) as first
             on conflict do nothing",
            of,
            rows,
            chunk_rows,
        )
        .execute(&mut *tx)
        .await?;
        let cut = sqlx::query_scalar!(
            r#"select count(*) as "count!" from chunks where job_id = $1
               and first_row = number * $3::bigint and end_row = least(first_row + $3, $2::bigint)"#,
            of,
            rows,
            chunk_rows,
        )
        .fetch_one(&mut *tx)
        .await?;
        if cut != (rows - 1) / chunk_rows + 1 {
            return Err(Error::Invalid(
                "the chunks of this job were cut for other rows: submit another job".into(),
            ));
        }
        tx.commit().await?;
        Ok(cut)
    }

    /// Takes the first chunk of `of` that nobody works on; none where `of` is neither queued nor
    /// running. `mine` are those that this attempt knows
    /// to have: one that it has without knowing was given to it in an answer that was lost, and is
    /// given again.
    pub(crate) async fn claim_chunk(
        &self,
        fence: Fence,
        of: Uuid,
        mine: &[i32],
    ) -> Result<Option<Chunk>> {
        let mut tx = self.fenced(fence).await?;
        let row = sqlx::query!(
            "update chunks set state = 'taken', taken_by = $2, taken_attempt = $3
             where job_id = $1 and number = (
                 select number from chunks
                 where job_id = $1
                   and exists (select from jobs where id = $1 and state in ('queued', 'running'))
                   and (state = 'waiting' or (state = 'taken' and (not exists (
                     select from jobs
                     where jobs.id = chunks.taken_by and jobs.attempt = chunks.taken_attempt
                       and jobs.state = 'running')
                   or (taken_by = $2 and taken_attempt = $3 and number <> all($4)))))
                 order by number
                 limit 1
                 for update skip locked)
             returning number, first_row, end_row",
            of,
            fence.job,
            fence.number,
            mine,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(row.map(|row| Chunk {
            number: row.number,
            rows: row.first_row..row.end_row,
            state: ChunkState::Taken,
            output_uri: None,
            bytes: None,
            digest: None,
        }))
    }

    /// How far the chunks of a sample job are.
    pub(crate) async fn tally(&self, of: Uuid) -> Result<Tally> {
        let row = sqlx::query!(
            r#"select
                   coalesce(sum(end_row - first_row) filter (where state = 'done'), 0)::bigint
                       as "rows_done!",
                   count(*) filter (where state <> 'done') as "chunks_left!",
                   count(distinct taken_by) filter (where state = 'taken') as "workers!"
               from chunks where job_id = $1"#,
            of,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Tally { rows_done: row.rows_done, chunks_left: row.chunks_left, workers: row.workers })
    }

    /// Marks a chunk done whose output is on disk.
    pub(crate) async fn finish_chunk(
        &self,
        fence: Fence,
        of: Uuid,
        number: i32,
        output_uri: &str,
        bytes: i64,
        digest: &str,
    ) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        let done = sqlx::query!(
            "update chunks
             set state = 'done', output_uri = $5, bytes = $6, digest = $7, done_at = now()
             where job_id = $1 and number = $2 and taken_by = $3 and taken_attempt = $4",
            of,
            number,
            fence.job,
            fence.number,
            output_uri,
            bytes,
            digest,
        )
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(fence.stale());
        }
        tx.commit().await?;
        Ok(())
    }
}
