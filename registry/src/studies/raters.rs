//! Raters: invitations, what each is shown, what they answer. Owns `study_raters`, `study_trials` and
//! `study_answers`. The server of the rating page calls this with what a browser sent: nothing of it
//! says which picture is which, and nothing but the rater's next trial is given out or answered.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Database, Result};

/// A side of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "study_side", rename_all = "lowercase")]
pub enum Side {
    /// Left.
    Left,
    /// Right.
    Right,
}

impl Side {
    /// Its name, as the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// What an answer was given with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "study_input", rename_all = "lowercase")]
pub enum RaterInput {
    /// The keyboard.
    Key,
    /// A finger or a pen.
    Touch,
    /// A mouse.
    Mouse,
}

impl RaterInput {
    /// Its name, as the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Touch => "touch",
            Self::Mouse => "mouse",
        }
    }
}

/// A rater to invite, with all that they will be shown.
#[derive(Clone, Debug)]
pub struct NewRater {
    /// Their set, 1 or 2.
    pub set: i16,
    /// For how many seconds they see each pair; one of the study's times.
    pub seconds: f64,
    /// Their place among the raters of their set and time, from 0.
    pub number: i32,
    /// The secret of their link; its sha256 is kept.
    pub token: String,
    /// What they are shown, in this order.
    pub trials: Vec<NewTrial>,
}

/// A pair to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTrial {
    /// Number of the image.
    pub image: i32,
    /// Number of the system.
    pub system: i16,
    /// The side of the photograph.
    pub reference_side: Side,
}

/// A row of `study_raters`, with how far they are.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewRater")]
pub struct RaterRow {
    pub id: Uuid,
    pub set: i16,
    pub seconds: f64,
    pub number: i32,
    pub trials: i64,
    pub answers: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub invited_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
}

/// The rater that a link belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatedBy {
    /// The rater.
    pub id: Uuid,
    /// For how many seconds they see each pair.
    pub seconds: f64,
    /// They have agreed that their answers are kept.
    pub started: bool,
}

/// How far a rater is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// All their trials.
    pub trials: i64,
    /// Those that they have answered.
    pub answered: i64,
    /// The first that they have not; none at the end.
    pub next: Option<i32>,
}

/// An answer as the browser sends it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewAnswer {
    /// Number of the trial.
    pub trial: i32,
    /// The side that is guessed to be the photograph.
    pub chosen: Side,
    /// For how long the pair was shown, in milliseconds of 0 to an hour.
    pub shown_ms: f64,
    /// From the end of that to the answer, in milliseconds of 0 to an hour.
    pub response_ms: f64,
    /// The page was hidden while the pair was shown.
    pub interrupted: bool,
    /// What it was given with.
    pub input: RaterInput,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It is kept.
    Kept,
    /// The trial has an answer already, which stays.
    Before,
    /// The rater has no such trial, or its pair was not shown, or not for its time.
    NotShown,
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

impl Database {
    /// Invites raters, all or none.
    ///
    /// # Errors
    /// When somebody else has invited raters at the same moment.
    pub async fn invite_raters(&self, study: Uuid, raters: &[NewRater]) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        for rater in raters {
            let id = Uuid::new_v4();
            sqlx::query!(
                "insert into study_raters (id, study_id, set, seconds, number, token_digest)
                 values ($1, $2, $3, $4, $5, $6)",
                id,
                study,
                rater.set,
                rater.seconds,
                rater.number,
                digest(&rater.token),
            )
            .execute(&mut *tx)
            .await?;
            let images: Vec<i32> = rater.trials.iter().map(|trial| trial.image).collect();
            let systems: Vec<i16> = rater.trials.iter().map(|trial| trial.system).collect();
            let sides: Vec<String> =
                rater.trials.iter().map(|trial| trial.reference_side.name().to_owned()).collect();
            sqlx::query!(
                "insert into study_trials
                     (rater_id, number, study_id, image, system, reference_side)
                 select $1, place, $2, image, system, side::study_side
                 from unnest($3::integer[], $4::smallint[], $5::text[])
                     with ordinality as drawn (image, system, side, place)",
                id,
                study,
                &images,
                &systems,
                &sides,
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The raters of a study, by set, time and number.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn study_raters(&self, study: Uuid) -> Result<Vec<RaterRow>> {
        let rows = sqlx::query_as!(
            RaterRow,
            r#"select id, set, seconds, number, invited_at, started_at,
                   (select count(*) from study_trials where rater_id = id) as "trials!",
                   (select count(*) from study_answers where rater_id = id) as "answers!"
               from study_raters where study_id = $1 order by set, seconds, number"#,
            study,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The rater of a study whose link holds this secret.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rater(&self, study: Uuid, token: &str) -> Result<Option<RatedBy>> {
        let row = sqlx::query_as!(
            RatedBy,
            r#"select id, seconds, started_at is not null as "started!"
               from study_raters where study_id = $1 and token_digest = $2"#,
            study,
            digest(token),
        );
        Ok(row.fetch_optional(&self.pool).await?)
    }

    /// Keeps that a rater has agreed and begun; the first time counts.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn start_rater(&self, rater: Uuid) -> Result<()> {
        sqlx::query!(
            "update study_raters set started_at = now() where id = $1 and started_at is null",
            rater,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How far a rater is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn standing(&self, rater: Uuid) -> Result<Standing> {
        let row = sqlx::query_as!(
            Standing,
            r#"select count(*) as "trials!", count(answered_at) as "answered!",
                   min(number) filter (where answered_at is null) as next
               from study_trials trials
               left join study_answers answers
                   on answers.rater_id = trials.rater_id and trial = number
               where trials.rater_id = $1"#,
            rater,
        );
        Ok(row.fetch_one(&self.pool).await?)
    }

    /// The picture on one side of a rater's next trial; none for any other trial, and none before they
    /// has begun.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn trial_picture(
        &self,
        rater: Uuid,
        trial: i32,
        side: Side,
    ) -> Result<Option<Vec<u8>>> {
        let picture = sqlx::query_scalar!(
            r#"select case when reference_side = $3 then reference else output end as "picture!"
               from study_trials trials
               join study_raters raters on raters.id = rater_id and started_at is not null
               join study_images images
                   on images.study_id = trials.study_id and images.number = trials.image
               join study_outputs outputs
                   on outputs.study_id = trials.study_id and outputs.image = trials.image
                   and outputs.system = trials.system
               where rater_id = $1 and trials.number = $2 and trials.number = (
                   select min(number) from study_trials open
                   where open.rater_id = $1 and not exists (
                       select from study_answers where rater_id = $1 and trial = open.number))"#,
            rater,
            trial,
            side as Side,
        );
        Ok(picture.fetch_optional(&self.pool).await?)
    }

    /// Counts that the pair of a rater's next trial is about to be shown; false for any other trial.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn show_trial(&self, rater: Uuid, trial: i32) -> Result<bool> {
        let shown = sqlx::query!(
            "update study_trials trials set shown = shown + 1, shown_at = now()
             from study_raters raters
             where raters.id = rater_id and started_at is not null
               and rater_id = $1 and trials.number = $2 and trials.number = (
                   select min(number) from study_trials open
                   where open.rater_id = $1 and not exists (
                       select from study_answers where rater_id = $1 and trial = open.number))",
            rater,
            trial,
        )
        .execute(&self.pool)
        .await?;
        Ok(shown.rows_affected() > 0)
    }

    /// Keeps the first answer to a trial whose pair was shown for its time, by the server's clock to a
    /// tenth; one that was interrupted ended before.
    ///
    /// # Errors
    /// Times out of their range; those of the database.
    pub async fn answer_trial(&self, rater: Uuid, answer: &NewAnswer) -> Result<Answered> {
        let kept = sqlx::query!(
            "insert into study_answers
                 (rater_id, trial, chosen, shown_ms, response_ms, interrupted, input)
             select rater_id, trials.number, $3, $4, $5, $6, $7
             from study_trials trials join study_raters raters on raters.id = rater_id
             where rater_id = $1 and trials.number = $2
               and (now() >= shown_at + make_interval(secs => 0.9 * seconds)
                    or $6 and shown_at is not null)
             on conflict on constraint study_answers_pkey do nothing",
            rater,
            answer.trial,
            answer.chosen as Side,
            answer.shown_ms,
            answer.response_ms,
            answer.interrupted,
            answer.input as RaterInput,
        )
        .execute(&self.pool)
        .await?;
        if kept.rows_affected() > 0 {
            return Ok(Answered::Kept);
        }
        let before = sqlx::query_scalar!(
            r#"select exists (select from study_answers where rater_id = $1 and trial = $2)
               as "before!""#,
            rater,
            answer.trial,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(if before { Answered::Before } else { Answered::NotShown })
    }
}
