//! Tables, scores, the pictures behind them and studies as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outputs::{OutputDataset, OutputImage};
use registry::{ScoredRun, Study, Uuid};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::ranks;
use super::tables::{self, Number, Table};
use crate::child::{self, Bounds};
use crate::work::Long;
use crate::{Answer, Refusal, Room, Who, rows};

/// Evaluations that are listed.
const MOST: i64 = 500;
/// Inputs on a page of pictures.
pub const PAGE: u64 = 8;
/// Outputs of one input that are shown.
pub const SAMPLES: u32 = 8;
/// For how long a list holds.
const AGE: Duration = Duration::from_secs(4);

/// The paper's tables with what was scored here; empty where the server was started without a profile.
#[utoipa::path(get, path = "/api/v1/tables", responses((status = 200, body = Vec<Table>)))]
pub async fn tables(State(room): State<Arc<Room>>, _: Who) -> Answer<Json<Vec<Table>>> {
    let filled = tables::filled(&room).await?;
    Ok(Json(filled.map(|tables| tables.to_vec()).unwrap_or_default()))
}

/// Recorded scores.
#[derive(Clone, Serialize, ToSchema)]
pub struct Scored {
    /// Their id.
    pub id: Uuid,
    /// What they are kept under.
    pub label: String,
    /// The task.
    pub task: Option<String>,
    /// The run whose outputs were scored.
    pub run: Option<String>,
    /// Its id.
    pub run_id: Option<Uuid>,
    /// The step of its checkpoint.
    pub step: Option<i64>,
    /// What was scored.
    pub outputs: String,
    /// What it was compared with.
    pub reference: Option<String>,
    /// Outputs that were scored.
    pub count: Option<u64>,
    /// The scores by name, with intervals of 95 % where there are some.
    pub scores: BTreeMap<String, Number>,
    /// Outputs by how like each other those of one input are, in bins from 0 to 1.
    pub likeness: Option<Vec<u64>>,
    /// When they were recorded.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
}

impl From<&ScoredRun> for Scored {
    fn from(one: &ScoredRun) -> Self {
        let object = one.scores.as_object();
        let scores = object.into_iter().flatten().filter_map(|(name, value)| {
            const OTHERS: [&str; 4] = ["outputs", "inputs", "scales", "perfect"];
            let number = number(value).filter(|_| !OTHERS.contains(&name.as_str()))?;
            Some((name.clone(), number))
        });
        let bins = one.scores.pointer("/diversity_ms_ssim/histogram");
        let bins = bins.and_then(|bins| serde_json::from_value(bins.clone()).ok());
        Self {
            id: one.id,
            label: one.label.clone(),
            task: one.task.clone(),
            run: one.run_name.clone(),
            run_id: one.run_id,
            step: one.step,
            outputs: one.outputs_uri.clone(),
            reference: one.reference_uri.clone(),
            count: one.scores["outputs"].as_u64(),
            scores: scores.collect(),
            likeness: bins,
            recorded_at: one.created_at,
        }
    }
}

/// A score as it is kept: a number, an interval, a mean with its deviation, or a distribution.
fn number(value: &serde_json::Value) -> Option<Number> {
    if let Some(value) = value.as_f64() {
        return Some(Number { value: Some(value), low: None, high: None });
    }
    let object = value.as_object()?;
    if let Some(mean) = object.get("mean") {
        return match mean.as_f64() {
            Some(value) => Some(Number { value: Some(value), low: None, high: None }),
            None => number(mean),
        };
    }
    let of = |name: &str| object.get(name).and_then(serde_json::Value::as_f64);
    Some(Number { value: Some(of("value")?), low: of("low"), high: of("high") })
}

/// The newest scores of each label, task, run and step.
pub async fn listed(room: &Room) -> Answer<Arc<Vec<Scored>>> {
    let make = async {
        let all = room.database.newest_evaluations(MOST).await?;
        Ok(all.iter().map(Scored::from).collect())
    };
    room.shared.get("results.listed", AGE, make).await
}

/// The newest scores of each label, task, run and step, at most 500.
#[utoipa::path(get, path = "/api/v1/evaluations", responses((status = 200, body = Vec<Scored>)))]
pub async fn evaluations(State(room): State<Arc<Room>>, _: Who) -> Answer<Json<Vec<Scored>>> {
    Ok(Json(listed(&room).await?.to_vec()))
}

/// Scores by their id; they never change.
pub async fn found(room: &Room, id: Uuid) -> Answer<Arc<Scored>> {
    let make = async { Ok(Scored::from(&room.database.evaluation(id).await?)) };
    room.shared.get(&format!("results.one.{id}"), Duration::from_secs(60), make).await
}

/// Recorded scores.
#[utoipa::path(get, path = "/api/v1/evaluations/{id}", params(("id" = Uuid, Path)),
    responses((status = 200, body = Scored), (status = 404, description = "There are no such scores")))]
pub async fn evaluation(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(id): Path<Uuid>,
) -> Answer<Json<Scored>> {
    Ok(Json((*found(&room, id).await?).clone()))
}

/// The outputs that scores are of.
///
/// # Errors
/// Where they are not the outputs of a sampling job, or are gone.
pub async fn outputs(room: &Room, scored: &Scored) -> Answer<Arc<OutputDataset>> {
    let place = scored.outputs.split('#').next().unwrap_or_default();
    rows::open(room, place).await.map_err(|refusal| Refusal {
        why: format!(
            "the pictures behind these scores cannot be shown: {}. Pictures are shown of outputs of sampling jobs; \
             `evaluator report` shows those of folders",
            refusal.why
        ),
        ..refusal
    })
}

/// Which pictures a page asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Order {
    /// `best` or `worst` first.
    pub order: String,
    /// The page, from 0.
    pub page: u64,
}

/// An input with its outputs.
#[derive(Serialize, ToSchema)]
pub struct Input {
    /// Its key.
    pub key: String,
    /// Mean PSNR of its outputs.
    pub psnr: f64,
    /// Mean absolute error of its outputs over the pixels that were to be made.
    pub error: f64,
    /// Its outputs.
    pub outputs: Vec<Output>,
}

/// An output.
#[derive(Serialize, ToSchema)]
pub struct Output {
    /// Its row.
    pub row: u64,
    /// Its number among the outputs of the input.
    pub sample: u32,
    /// PSNR.
    pub psnr: f64,
    /// Mean absolute error over the pixels that were to be made.
    pub error: f64,
    /// Addresses of `source`, `mask`, `output` and `reference`.
    pub pictures: BTreeMap<String, String>,
}

/// A page of pictures.
#[derive(Serialize, ToSchema)]
pub struct Pictures {
    /// Inputs in all.
    pub inputs: u64,
    /// Pages.
    pub pages: u64,
    /// There are more inputs than errors were computed of.
    pub cut: bool,
    /// Outputs by PSNR in bins of 1 dB from 0; the last takes all above.
    pub histogram: Vec<u64>,
    /// The inputs of the page.
    pub shown: Vec<Input>,
}

/// How far the errors are computed.
#[derive(Serialize, ToSchema)]
pub struct Computing {
    /// Outputs that were compared.
    pub done: u64,
    /// Of how many.
    pub of: u64,
}

/// The page of pictures that is asked for, or how far their errors are.
pub async fn ranked(
    room: &Room,
    scored: &Scored,
    order: &Order,
) -> Answer<Result<Arc<Pictures>, Computing>> {
    let worst = match order.order.as_str() {
        "worst" => true,
        "best" | "" => false,
        _ => return Err(Refusal::bad("order is best or worst")),
    };
    let dataset = outputs(room, scored).await?;
    let task = scored.task.clone().unwrap_or_else(|| "pictures".into());
    let ranks = match ranks::of(room, &dataset, &task).await? {
        Long::Done(ranks) => ranks,
        Long::Running(done, of) => return Ok(Err(Computing { done, of })),
    };
    let all = ranks.inputs.len() as u64;
    let first = order.page.saturating_mul(PAGE);
    let places = first.min(all)..first.saturating_add(PAGE).min(all);
    let chosen: Vec<ranks::Ranked> =
        places.map(|at| ranks.inputs[(if worst { all - 1 - at } else { at }) as usize]).collect();
    let id = scored.id;
    let digest = dataset.digest().get(..12).unwrap_or_default().to_owned();
    let named = digest.clone();
    let work = move || {
        let mut shown = Vec::new();
        for one in chosen {
            let count = one.outputs.min(SAMPLES);
            let rows = dataset.read(one.first, u64::from(count));
            let rows = rows.map_err(|error| Refusal::conflict(error.to_string()))?;
            let mut input = Input {
                key: rows.first().map(|row| row.key.clone()).unwrap_or_default(),
                psnr: f64::from(one.psnr),
                error: f64::from(one.error),
                outputs: Vec::new(),
            };
            for (row, output) in (one.first..).zip(&rows) {
                let [psnr, error] = ranks::errors(output).map_err(Refusal::conflict)?;
                let address = |image: OutputImage| {
                    let name = image.column();
                    (name.to_owned(), format!("/results/pictures/{id}/{row}/{name}?of={named}"))
                };
                let pictures = OutputImage::ALL.into_iter().map(address).collect();
                input.outputs.push(Output { row, sample: output.sample, psnr, error, pictures });
            }
            shown.push(input);
        }
        Ok(shown)
    };
    let make = async {
        let shown = room.work.short(work).await?;
        let (cut, histogram) = (ranks.cut, ranks.histogram.clone());
        Ok(Pictures { inputs: all, pages: all.div_ceil(PAGE), cut, histogram, shown })
    };
    let key = format!("results.pictures.{id}.{digest}.{worst}.{}", order.page);
    Ok(Ok(room.shared.get(&key, Duration::from_secs(300), make).await?))
}

/// The pictures behind scores, best or worst by PSNR first. The first who asks has the errors computed; until then the
/// answer is 202.
#[utoipa::path(get, path = "/api/v1/evaluations/{id}/pictures",
    params(
        ("id" = Uuid, Path),
        ("order" = Option<String>, Query, description = "best or worst first"),
        ("page" = Option<u64>, Query, description = "page of 8 inputs, from 0"),
    ),
    responses((status = 200, body = Pictures), (status = 202, body = Computing),
        (status = 404, description = "There are no such scores")))]
pub async fn pictures(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(id): Path<Uuid>,
    Query(order): Query<Order>,
) -> Answer<Response> {
    let scored = found(&room, id).await?;
    Ok(match ranked(&room, &scored, &order).await? {
        Ok(pictures) => Json(&*pictures).into_response(),
        Err(computing) => (StatusCode::ACCEPTED, Json(computing)).into_response(),
    })
}

/// A human study.
#[derive(Clone, Serialize, ToSchema)]
pub struct StudyRow {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub owner: String,
    /// Its systems.
    pub systems: Vec<String>,
    /// Its images.
    pub images: i64,
    /// For how many seconds a pair is shown.
    pub seconds: Vec<f64>,
    /// Raters that were invited.
    pub raters: i64,
    /// Answers.
    pub answers: i64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl From<Study> for StudyRow {
    fn from(study: Study) -> Self {
        let Study { name, owner, systems, images, seconds, raters, answers, created_at, .. } =
            study;
        Self { name, owner, systems, images, seconds, raters, answers, created_at }
    }
}

/// All studies, newest first.
pub async fn all_studies(room: &Room) -> Answer<Arc<Vec<StudyRow>>> {
    let make = async {
        let studies = room.database.studies().await?;
        Ok(studies.into_iter().take(200).map(StudyRow::from).collect())
    };
    room.shared.get("results.studies", AGE, make).await
}

/// Human studies, newest first.
#[utoipa::path(get, path = "/api/v1/studies", responses((status = 200, body = Vec<StudyRow>)))]
pub async fn studies(State(room): State<Arc<Room>>, _: Who) -> Answer<Json<Vec<StudyRow>>> {
    Ok(Json(all_studies(&room).await?.to_vec()))
}

/// A rater of a study.
#[derive(Clone, Serialize, ToSchema)]
pub struct RaterRow {
    /// Their set of images, 1 or 2.
    pub set: i16,
    /// For how many seconds they see a pair.
    pub seconds: f64,
    /// Their number among those of their set and time.
    pub number: i32,
    /// Pairs that they are shown.
    pub trials: i64,
    /// Pairs that they answered.
    pub answers: i64,
    /// When they agreed and began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
}

/// A rate of a study.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct RateRow {
    /// The system.
    pub system: String,
    /// The set; none for both together.
    pub set: Option<i16>,
    /// The display time; none for all together.
    pub seconds: Option<f64>,
    /// Raters that answered.
    pub raters: u64,
    /// Their answers.
    pub answers: u64,
    /// Answers that took the output for the photograph.
    pub fooled: u64,
    /// The share of these.
    pub fool_rate: f64,
    /// 95 % interval over raters.
    pub interval: Option<[f64; 2]>,
    /// 95 % interval after Wilson, which takes answers for independent.
    pub wilson: [f64; 2],
}

/// A study with its raters and rates.
#[derive(Clone, Serialize, ToSchema)]
pub struct StudyFacts {
    /// The study.
    pub study: StudyRow,
    /// Its raters.
    pub raters: Vec<RaterRow>,
    /// Fool rates.
    pub rates: Vec<RateRow>,
    /// Why there are no rates.
    pub problem: Option<String>,
}

/// A study with its raters and rates; computed once for all pages.
pub async fn study_facts(room: &Room, name: &str) -> Answer<Arc<StudyFacts>> {
    let all = all_studies(room).await?;
    let missing = || Refusal::missing("there is no such study; /results lists them");
    let study = all.iter().find(|study| study.name == name).ok_or_else(missing)?;
    let make = async {
        let id = room.database.study(name).await?.id;
        let raters = room.database.study_raters(id).await?;
        let program = room.programs.join("evaluator");
        let arguments = ["study", "results", "--json", "--", name].map(str::to_owned).to_vec();
        let rates = child::json(&program, &arguments, Bounds::REQUEST).await;
        let read = |json: serde_json::Value| {
            let rates = json.get("rates").cloned().unwrap_or_default();
            serde_json::from_value(rates).map_err(|error| Refusal::conflict(error.to_string()))
        };
        let (rates, problem) = match rates.and_then(read) {
            Ok(rates) => (rates, None),
            Err(refusal) => (Vec::new(), Some(refusal.why)),
        };
        let raters = raters.into_iter().map(|rater| RaterRow {
            set: rater.set,
            seconds: rater.seconds,
            number: rater.number,
            trials: rater.trials,
            answers: rater.answers,
            started_at: rater.started_at,
        });
        Ok(StudyFacts { study: study.clone(), raters: raters.collect(), rates, problem })
    };
    let key = format!("results.study.{name}.{}", study.answers);
    room.shared.get(&key, Duration::from_secs(30), make).await
}

/// A study with its raters and fool rates.
#[utoipa::path(get, path = "/api/v1/studies/{name}", params(("name" = String, Path)),
    responses((status = 200, body = StudyFacts), (status = 404, description = "There is no such study")))]
pub async fn study(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(name): Path<String>,
) -> Answer<Json<StudyFacts>> {
    Ok(Json((*study_facts(&room, &name).await?).clone()))
}
