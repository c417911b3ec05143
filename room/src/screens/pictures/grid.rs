//! Previews of several runs at one step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use registry::{Picture, PicturePart, Run, config_diff};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::shared;
use crate::{Answer, Refusal, Room};

/// Runs beside one another, at most.
pub const MOST_RUNS: usize = 50;

/// Runs that are shown where none are named.
const NEWEST: i64 = 3;

/// How old an answer may be.
const AGE: Duration = Duration::from_secs(3);

/// Leaves of a configuration that say nothing of how a run learns.
const NAMES: [&str; 1] = ["name"];

/// Previews of several runs at one step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Grid {
    /// All steps of which one of the runs has pictures.
    pub steps: Vec<i64>,
    /// The step that is shown; none where there are no pictures.
    pub step: Option<i64>,
    /// A column each.
    pub runs: Vec<Column>,
    /// A fixed input each.
    pub rows: Vec<Row>,
}

/// A run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Column {
    /// Its id.
    pub id: String,
    /// The beginning of its id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// The state of its job.
    pub state: String,
    /// The step of its pictures: the one that is shown, or else the nearest before it.
    pub step: Option<i64>,
    /// The last step that it made.
    pub last_step: i64,
    /// The steps that it will have made.
    pub total_steps: i64,
    /// What is not the same in the configurations of all these runs.
    pub differs: Vec<Setting>,
}

/// A leaf of a configuration.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Setting {
    /// Its key: `train.learning_rate`.
    pub key: String,
    /// Its value as JSON; none where this run has none.
    #[schema(value_type = Option<Object>)]
    pub value: Option<Value>,
}

/// A fixed input.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Row {
    /// Its task.
    pub task: String,
    /// The key of its photograph.
    pub key: String,
    /// How many inputs of this task and key come before it.
    pub nth: usize,
    /// What each run made of it, in the order of the runs; none where a run has no such input.
    pub cells: Vec<Option<Cell>>,
}

/// An input of a run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Cell {
    /// Which of the run's inputs.
    pub input: i32,
    /// What the network was given.
    pub source: Option<Image>,
    /// White where it was to generate; none where that is everywhere.
    pub mask: Option<Image>,
    /// The photograph.
    pub reference: Option<Image>,
    /// What it made, by sample; none where the run has no pictures of that step or before.
    pub outputs: Vec<Image>,
}

/// A picture.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Image {
    /// SHA-256 of its file.
    pub digest: String,
    /// Pixels of a row.
    pub width: i32,
    /// Rows.
    pub height: i32,
    /// Bytes of its file.
    pub bytes: i32,
    /// Where it is served.
    pub url: String,
    /// Where a small copy is served.
    pub small: String,
}

impl Image {
    pub fn of(picture: &Picture) -> Self {
        let digest = picture.digest.clone();
        Self {
            url: format!("/pictures/{digest}"),
            small: format!("/pictures/{digest}/small"),
            digest,
            width: picture.width,
            height: picture.height,
            bytes: picture.bytes,
        }
    }
}

/// What an address asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Names or ids of runs; the newest ones where none are named.
    pub runs: Vec<String>,
    /// The step; the last one where none is named.
    pub step: Option<i64>,
    /// The part that lies below the outputs.
    pub under: Under,
}

/// What an output is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Under {
    #[default]
    Source,
    Reference,
}

impl Asked {
    /// From `runs=a,b&run=c&step=100&under=reference`.
    ///
    /// # Errors
    /// For more runs than can be shown, and for a step that is not a number.
    pub fn parse(query: Option<&str>) -> Answer<Self> {
        let mut asked = Self::default();
        for (name, value) in pairs(query) {
            match name.as_str() {
                "runs" | "run" => {
                    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                    for name in names {
                        if !asked.runs.iter().any(|known| known == name) {
                            asked.runs.push(name.to_owned());
                        }
                    }
                }
                "step" if value.is_empty() => {}
                "step" => asked.step = Some(number(&value, "step")?),
                "under" if value == "reference" => asked.under = Under::Reference,
                _ => {}
            }
        }
        if asked.runs.len() > MOST_RUNS {
            return Err(Refusal::bad(format!(
                "{} runs beside one another are too many: name at most {MOST_RUNS}",
                asked.runs.len()
            )));
        }
        Ok(asked)
    }

    /// The address of these runs at a step.
    pub fn address(&self, path: &str, step: Option<i64>) -> String {
        let mut parts = Vec::new();
        if !self.runs.is_empty() {
            let runs: Vec<String> = self.runs.iter().map(|run| escaped(run)).collect();
            parts.push(format!("runs={}", runs.join(",")));
        }
        parts.extend(step.map(|step| format!("step={step}")));
        if self.under == Under::Reference {
            parts.push("under=reference".to_owned());
        }
        match parts.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", parts.join("&")),
        }
    }
}

/// A number of a query, at least 0.
pub fn number(text: &str, name: &str) -> Answer<i64> {
    let number = text.parse().ok().filter(|&number: &i64| number >= 0);
    number.ok_or_else(|| Refusal::bad(format!("{name} is not a whole number from 0")))
}

/// Names and values of a query.
pub fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://localhost/?{}", query.unwrap_or_default()));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// A text as it may stand in a query.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Previews of runs at a step, for pages and programs.
#[utoipa::path(
    get, path = "/api/v1/pictures", tag = "pictures",
    params(
        ("runs" = Option<String>, Query, description = "Names or ids, with commas between; the newest runs that have pictures where none are named"),
        ("step" = Option<i64>, Query, description = "The step; the last where none is named. Runs without pictures of it show their nearest before"),
    ),
    responses((status = 200, body = Grid), (status = 404, description = "There is no such run"))
)]
pub async fn api(State(room): State<Arc<Room>>, RawQuery(query): RawQuery) -> Answer<Json<Grid>> {
    let grid = grid(&room, &Asked::parse(query.as_deref())?).await?;
    Ok(Json(Grid::clone(&grid)))
}

/// What is asked for, once for all who ask.
pub async fn grid(room: &Room, asked: &Asked) -> Answer<Arc<Grid>> {
    let key = format!("pictures/{:?}/{:?}", asked.runs, asked.step);
    shared(room, &key, AGE, Box::pin(make(room, asked))).await
}

async fn make(room: &Room, asked: &Asked) -> Answer<Grid> {
    let runs = runs(room, &asked.runs).await?;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let mut steps: HashMap<_, Vec<i64>> = HashMap::new();
    for (run, step) in room.database.picture_steps(&ids).await? {
        steps.entry(run).or_default().push(step);
    }
    let all: BTreeSet<i64> = steps.values().flatten().copied().collect();
    let step = asked.step.or(all.last().copied());
    let nearest = |run: &Run| {
        let own = steps.get(&run.id)?;
        let before = own.partition_point(|&one| Some(one) <= step);
        own.get(before.checked_sub(1)?).copied()
    };
    let at: Vec<_> = runs.iter().map(|run| (run.id, nearest(run).unwrap_or(-1))).collect();
    let pictures = room.database.pictures(&at).await?;
    let differs = differences(&runs);
    let columns = runs.iter().zip(differs).map(|(run, differs)| Column {
        id: run.id.to_string(),
        short: run.short.clone(),
        name: run.name.clone(),
        state: run.state.map_or("imported", |state| state.name()).to_owned(),
        step: nearest(run),
        last_step: run.last_step,
        total_steps: run.total_steps,
        differs,
    });
    Ok(Grid {
        step,
        runs: columns.collect(),
        rows: rows(&runs, &pictures),
        steps: all.into_iter().collect(),
    })
}

/// The runs of these names, in their order; the newest with pictures where none are named.
async fn runs(room: &Room, names: &[String]) -> Answer<Vec<Run>> {
    let mut ids = Vec::new();
    if names.is_empty() {
        ids = room.database.pictured_runs(NEWEST).await?;
    }
    for name in names {
        let id = room.database.find_run(name).await?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut runs = room.database.runs_by_id(&ids).await?;
    runs.sort_by_key(|run| ids.iter().position(|id| *id == run.id));
    Ok(runs)
}

/// What differs between any of these runs, with the value of each.
fn differences(runs: &[Run]) -> Vec<Vec<Setting>> {
    let Some((first, others)) = runs.split_first() else { return Vec::new() };
    let diffs: Vec<_> =
        others.iter().map(|run| config_diff(&first.config, &run.config).0).collect();
    let mut keys: BTreeMap<String, Option<Value>> = BTreeMap::new();
    for one in diffs.iter().flatten() {
        if !NAMES.contains(&one.key.as_str()) {
            keys.insert(one.key.clone(), one.a.clone());
        }
    }
    let of = |diff: Option<&Vec<registry::Difference>>| {
        let setting = |(key, first): (&String, &Option<Value>)| {
            let own = diff.and_then(|diff| diff.iter().find(|one| one.key == *key));
            Setting {
                key: key.clone(),
                value: own.map_or_else(|| first.clone(), |own| own.b.clone()),
            }
        };
        keys.iter().map(setting).collect()
    };
    std::iter::once(of(None)).chain(diffs.iter().map(|diff| of(Some(diff)))).collect()
}

/// Inputs of one task and key, counted up, are one row.
fn rows(runs: &[Run], pictures: &[Picture]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (column, run) in runs.iter().enumerate() {
        let mut inputs: BTreeMap<i32, (String, String, Cell)> = BTreeMap::new();
        for picture in pictures.iter().filter(|picture| picture.run_id == run.id) {
            let (.., cell) = inputs.entry(picture.input).or_insert_with(|| {
                let cell = Cell {
                    input: picture.input,
                    source: None,
                    mask: None,
                    reference: None,
                    outputs: Vec::new(),
                };
                (picture.task.clone(), picture.key.clone(), cell)
            });
            let image = Image::of(picture);
            match picture.part {
                PicturePart::Source => cell.source = Some(image),
                PicturePart::Mask => cell.mask = Some(image),
                PicturePart::Reference => cell.reference = Some(image),
                PicturePart::Output => cell.outputs.push(image),
            }
        }
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        for (_, (task, key, cell)) in inputs {
            let count = seen.entry((task.clone(), key.clone())).or_default();
            let nth = *count;
            *count += 1;
            let known =
                rows.iter().position(|row| row.task == task && row.key == key && row.nth == nth);
            let at = known.unwrap_or_else(|| {
                rows.push(Row { task, key, nth, cells: vec![None; runs.len()] });
                rows.len() - 1
            });
            rows[at].cells[column] = Some(cell);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn addresses_read_back_what_they_say() {
        let asked =
            Asked::parse(Some("runs=a,b%20c&run=d&run=a&step=7&under=reference&x=1")).unwrap();
        assert_eq!(asked.runs, ["a", "b c", "d"]);
        let address = asked.address("/pictures", asked.step);
        assert_eq!(address, "/pictures?runs=a,b%20c,d&step=7&under=reference");
        assert_eq!(Asked::parse(address.split_once('?').map(|(_, query)| query)).unwrap(), asked);
        assert_eq!(Asked::default().address("/pictures", None), "/pictures");
        for wrong in ["step=-1", "step=x", "step=99999999999999999999"] {
            assert!(Asked::parse(Some(wrong)).unwrap_err().why.contains("whole number"));
        }
        let many = (0..51).map(|run| format!("run={run}")).collect::<Vec<_>>().join("&");
        assert!(Asked::parse(Some(&many)).unwrap_err().why.contains("at most 50"));
    }
}
