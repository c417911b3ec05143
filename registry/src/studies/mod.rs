//! Human studies: which of two pictures would a person guess is from a camera? Owns the tables
//! `study_…`. What a picture shows is not known here: it is bytes.
//!
//! - a study with its systems and pictures is there whole or not at all, and never changes;
//! - [`raters`]: invitations, what a rater is shown, what they answer. The first answer to a trial is
//!   the only one;
//! - [`results`]: what was answered, and how often the output was taken for the photograph.

mod raters;
mod results;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

pub use raters::{
    Answered, NewAnswer, NewRater, NewTrial, RatedBy, RaterInput, RaterRow, Side, Standing,
};
pub use results::StudyAnswer;

use crate::queue::marks::checked;
use crate::{Database, Error, Result};

/// A study to make.
#[derive(Clone, Debug)]
pub struct NewStudy {
    /// Its name; no other study has it.
    pub name: String,
    /// Who makes it.
    pub owner: String,
    /// What its images are drawn by.
    pub seed: i64,
    /// For how many seconds a pair can be shown, 0.1 to 60; a rater has one of these times.
    pub seconds: Vec<f64>,
    /// Where the photographs are from.
    pub reference_uri: String,
    /// The systems, by name and where their outputs are from.
    pub systems: Vec<(String, String)>,
    /// The images, in the order of their numbers.
    pub images: Vec<NewStudyImage>,
}

/// A photograph and what each system made of it.
#[derive(Clone, Debug)]
pub struct NewStudyImage {
    /// Its set, 1 or 2.
    pub set: i16,
    /// Key of the record.
    pub key: String,
    /// The photograph, a file of at most 32 MiB.
    pub reference: Vec<u8>,
    /// The outputs in the order of the systems, files of at most 32 MiB.
    pub outputs: Vec<Vec<u8>>,
}

/// A row of `studies`, with how far it is.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewStudy")]
pub struct Study {
    pub id: Uuid,
    pub name: String,
    pub owner: String,
    pub seed: i64,
    pub seconds: Vec<f64>,
    pub reference_uri: String,
    pub systems: Vec<String>,
    pub images: i64,
    /// Raters that were invited.
    pub raters: i64,
    pub answers: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// An image of a study, without its pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the columns, as in NewStudyImage")]
pub struct StudyImage {
    pub number: i32,
    pub set: i16,
    pub key: String,
}

/// Selects rows of `studies` with their counts; the text goes on after the table.
macro_rules! select_studies {
    ($tail:tt $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Study,
            r#"select id, name, owner, seed, seconds, reference_uri, created_at,
                   array(select name from study_systems
                         where study_id = studies.id order by number) as "systems!",
                   (select count(*) from study_images where study_id = studies.id) as "images!",
                   (select count(*) from study_raters where study_id = studies.id) as "raters!",
                   (select count(*) from study_answers
                    join study_raters on study_raters.id = rater_id
                    where study_id = studies.id) as "answers!"
               from studies "# + $tail
            $(, $argument)*
        )
    };
}

impl Database {
    /// Makes a study with all its pictures.
    ///
    /// # Errors
    /// When there is a study of this name already, two systems have one name, or a value is out of
    /// its range.
    pub async fn create_study(&self, new: &NewStudy) -> Result<Study> {
        checked("name", &new.name, storage::names::name)?;
        for (name, _) in &new.systems {
            checked("name", name, storage::names::title)?;
        }
        let id = Uuid::new_v4();
        let secret: [u8; 32] = rand::random();
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into studies (id, name, owner, seed, seconds, reference_uri, secret)
             values ($1, $2, $3, $4, $5, $6, $7)",
            id,
            new.name,
            new.owner,
            new.seed,
            &new.seconds,
            new.reference_uri,
            &secret[..],
        )
        .execute(&mut *tx)
        .await?;
        for (number, (name, uri)) in (0_i16..).zip(&new.systems) {
            sqlx::query!(
                "insert into study_systems (study_id, number, name, uri) values ($1, $2, $3, $4)",
                id,
                number,
                name,
                uri,
            )
            .execute(&mut *tx)
            .await?;
        }
        for (number, image) in (0_i32..).zip(&new.images) {
            sqlx::query!(
                "insert into study_images (study_id, number, set, key, reference)
                 values ($1, $2, $3, $4, $5)",
                id,
                number,
                image.set,
                image.key,
                image.reference,
            )
            .execute(&mut *tx)
            .await?;
            for (system, output) in (0_i16..).zip(&image.outputs) {
                sqlx::query!(
                    "insert into study_outputs (study_id, image, system, output)
                     values ($1, $2, $3, $4)",
                    id,
                    number,
                    system,
                    output,
                )
                .execute(&mut *tx)
                .await?;
            }
        }
        tx.commit().await?;
        self.study(&new.name).await
    }

    /// A study by its name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn study(&self, name: &str) -> Result<Study> {
        select_studies!("where name = $1", name)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| Error::Failed(format!("no study `{name}` (see `evaluator study list`)")))
    }

    /// What sides and orders of a study are drawn by: a secret of four numbers, or the seed alone of a study from
    /// before there were secrets.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn study_draw(&self, study: &Study) -> Result<Vec<u64>> {
        let secret = sqlx::query_scalar!("select secret from studies where id = $1", study.id)
            .fetch_one(&self.pool)
            .await?;
        Ok(match secret {
            Some(secret) => {
                let (words, _) = secret.as_chunks::<8>();
                words.iter().map(|word| u64::from_le_bytes(*word)).collect()
            }
            None => vec![study.seed.unsigned_abs()],
        })
    }

    /// All studies, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn studies(&self) -> Result<Vec<Study>> {
        Ok(select_studies!("order by created_at desc").fetch_all(&self.pool).await?)
    }

    /// The images of a study, by number.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn study_images(&self, study: Uuid) -> Result<Vec<StudyImage>> {
        let rows = sqlx::query_as!(
            StudyImage,
            "select number, set, key from study_images where study_id = $1 order by number",
            study,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}
