//! What was answered in a study. A rater is *fooled* where they take the output for the photograph.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{RaterInput, Side};
use crate::{Database, Result};

/// An answer with what was asked.
#[derive(Clone, Debug, Serialize)]
pub struct StudyAnswer {
    /// The rater.
    pub rater: Uuid,
    /// Their set, 1 or 2.
    pub set: i16,
    /// For how many seconds they were to see each pair.
    pub seconds: f64,
    /// Place of the trial in their order, from 1.
    pub trial: i32,
    /// Key of the image.
    pub key: String,
    /// The system.
    pub system: String,
    /// The side of the photograph.
    pub reference_side: Side,
    /// The side that they chose.
    pub chosen: Side,
    /// They chose the output.
    pub fooled: bool,
    /// How often the pair was shown before they answered.
    pub shown: i32,
    /// For how long it was shown the last time, in milliseconds of their browser's clock.
    pub shown_ms: f64,
    /// From the end of that to the answer, in milliseconds.
    pub response_ms: f64,
    /// The page was hidden while the pair was shown.
    pub interrupted: bool,
    /// What the answer was given with.
    pub input: RaterInput,
    /// When it came.
    #[serde(with = "time::serde::rfc3339")]
    pub answered_at: OffsetDateTime,
}

impl Database {
    /// All answers of a study, by rater and trial.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn study_answers(&self, study: Uuid) -> Result<Vec<StudyAnswer>> {
        let rows = sqlx::query_as!(
            StudyAnswer,
            r#"select raters.id as rater, raters.set, seconds, trial, key, systems.name as system,
                   reference_side as "reference_side: Side", chosen as "chosen: Side",
                   chosen <> reference_side as "fooled!", shown, shown_ms, response_ms,
                   interrupted, input as "input: RaterInput", answered_at
               from study_raters raters
               join study_trials trials on trials.rater_id = raters.id
               join study_answers answers
                   on answers.rater_id = raters.id and answers.trial = trials.number
               join study_images images
                   on images.study_id = raters.study_id and images.number = trials.image
               join study_systems systems
                   on systems.study_id = raters.study_id and systems.number = trials.system
               where raters.study_id = $1
               order by raters.set, seconds, raters.number, trial"#,
            study,
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}
