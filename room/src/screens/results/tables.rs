//! The paper's tables, as `evaluator table` fills them: once for all pages, and again when scores were recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::child::{self, Bounds};
use crate::{Answer, Refusal, Room};

/// How old tables may be while no scores are recorded: jobs begin and end, and studies are answered.
const AGE: Duration = Duration::from_secs(60);
/// How often it is looked whether scores were recorded.
const LOOK: Duration = Duration::from_secs(4);

/// A table of the paper.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Table {
    /// Name of its file.
    pub table: String,
    /// What it shows.
    pub title: String,
    /// Groups of columns: the name, and the scores.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub groups: Vec<(String, Vec<String>)>,
    /// Its rows.
    pub lines: Vec<Line>,
    /// Who is best in a column, and who is within noise of it.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
}

/// A system in a block of a table.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Line {
    /// Heading of the block.
    pub block: String,
    /// The system.
    pub system: String,
    /// By group.
    pub cells: BTreeMap<String, Cell>,
}

/// What is known of a system in a group of columns.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Cell {
    /// The paper's numbers.
    pub paper: BTreeMap<String, f64>,
    /// What was scored here.
    pub here: Option<Here>,
    /// Fool rates of a study, in percent.
    #[serde(default)]
    pub studied: BTreeMap<String, Number>,
    /// Why nothing was scored here.
    pub lacks: Option<String>,
}

/// What was scored here.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Here {
    /// The numbers.
    pub numbers: BTreeMap<String, Number>,
    /// Run and step.
    pub run: Option<String>,
    /// The outputs.
    pub outputs: String,
    /// The images, by the table's name.
    pub set: String,
    /// The task.
    pub task: String,
    /// The evaluation, by which its pictures are found.
    #[serde(default)]
    pub evaluation: Option<String>,
}

/// A number with its 95 % interval.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Number {
    /// The number; null where it is not finite.
    pub value: Option<f64>,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// The systems of a block in a column.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Comparison {
    /// Heading of the block.
    pub block: String,
    /// The group of columns.
    pub group: String,
    /// The score.
    pub score: String,
    /// The best system.
    pub best: String,
    /// Systems whose intervals overlap with that of the best.
    pub within_noise: Vec<String>,
}

/// The tables; none where the server has no profile.
///
/// # Errors
/// What `evaluator` says.
pub async fn filled(room: &Room) -> Answer<Option<Arc<Vec<Table>>>> {
    let Some(profile) = &room.tables.profile else { return Ok(None) };
    let last = async { Ok(room.database.last_evaluation().await?) };
    let last = room.shared.get("results.last", LOOK, last).await?;
    let mut arguments = vec!["table".to_owned(), "--json".to_owned()];
    arguments.extend(room.tables.files.iter().map(|file| file.display().to_string()));
    arguments.extend(["--profile".to_owned(), profile.display().to_string()]);
    let program = room.programs.join("evaluator");
    let make = async {
        let json = child::json(&program, &arguments, Bounds::REPORT).await?;
        let mut tables: Vec<Table> = serde_json::from_value(json).map_err(|error| {
            Refusal::conflict(format!("evaluator is of another version than this server: {error}"))
        })?;
        let scored = room.database.newest_evaluations(5000).await?;
        let heres = tables.iter_mut().flat_map(|table| &mut table.lines);
        for here in
            heres.flat_map(|line| line.cells.values_mut()).filter_map(|cell| cell.here.as_mut())
        {
            let found = scored.iter().find(|one| {
                one.outputs_uri == here.outputs
                    && one.task.as_deref().is_none_or(|task| is_of_task(Some(task), &here.task))
            });
            here.evaluation = found.map(|one| one.id.to_string());
        }
        Ok(tables)
    };
    // What fails is not started by every page anew.
    let make = async { Ok(make.await) };
    let key = format!("results.tables.{:?}", last.map(time::OffsetDateTime::unix_timestamp_nanos));
    let made: Arc<Answer<Vec<Table>>> = room.shared.get(&key, AGE, make).await?;
    (*made).clone().map(Arc::new).map(Some)
}

/// Whether what is said to be of a task is of this one; an earlier version kept a task without its degradation.
pub fn is_of_task(of: Option<&str>, task: &str) -> bool {
    let bare = task.split(':').next();
    of.is_none_or(|of| of == task || of == "pictures" || Some(of) == bare)
}

/// How a score is headed, and the digits behind its point.
pub fn heading(score: &str) -> (&str, usize) {
    match score {
        "psnr" | "picture_psnr" => ("PSNR ↑", 2),
        "ssim" => ("SSIM ↑", 3),
        "ms-ssim" | "ms_ssim" => ("MS-SSIM ↑", 3),
        "fid" => ("FID ↓", 2),
        "pd" | "perceptual" => ("PD ↓", 2),
        "pd-squared" | "perceptual_squared" => ("PD² ↓", 1),
        "lpips" => ("LPIPS-like ↓", 3),
        "ca" => ("CA % ↑", 1),
        "accuracy" => ("CA ↑", 3),
        "likeness" | "diversity_ms_ssim" => ("likeness of outputs ↓", 3),
        "is" | "inception" => ("IS ↑", 1),
        "kid" => ("KID ↓", 3),
        "fool-3s" => ("fool rate % (3 s) ↑", 1),
        "fool-5s" => ("fool rate % (5 s) ↑", 1),
        "mean_absolute_error" => ("error ↓", 2),
        "input_mean_absolute_error" => ("error of the input", 2),
        "diversity" => ("diversity", 2),
        other => (other, 3),
    }
}
