//! What there is to say of sweeps, as JSON too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use registry::{JobState, Run, Sweep, Uuid, ranking};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{Answer, Refusal, Room};

/// Sweeps of a list, at most.
const MOST: i64 = 500;
/// How long an answer is given to others who ask the same.
const AGE: Duration = Duration::from_secs(3);

/// A sweep and how far it is.
#[derive(Clone, Serialize, ToSchema)]
pub struct SweepRow {
    /// Its id.
    pub id: Uuid,
    /// What people type.
    pub short: String,
    /// Its name.
    pub name: String,
    /// Who submitted it.
    pub owner: String,
    /// How many of its jobs may run at once; null for as many as workers take.
    pub at_most: Option<i32>,
    /// Its jobs.
    pub jobs: i64,
    /// How many are in each state; states that none is in are left out.
    pub states: BTreeMap<String, i64>,
    /// Its note.
    pub note: Option<String>,
    /// Whether lists leave it out.
    pub archived: bool,
    /// When it was submitted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl SweepRow {
    fn new(sweep: &Sweep) -> Self {
        let counts = [
            ("queued", sweep.queued),
            ("running", sweep.running),
            ("paused", sweep.paused),
            ("succeeded", sweep.succeeded),
            ("failed", sweep.failed),
            ("cancelled", sweep.cancelled),
        ];
        let states = counts.into_iter().filter(|(_, count)| *count > 0);
        Self {
            id: sweep.id,
            short: sweep.short.clone(),
            name: sweep.name.clone(),
            owner: sweep.owner.clone(),
            at_most: sweep.at_most,
            jobs: sweep.jobs,
            states: states.map(|(state, count)| (state.to_owned(), count)).collect(),
            note: sweep.note.clone(),
            archived: sweep.archived_at.is_some(),
            created_at: sweep.created_at,
        }
    }

    /// Jobs that have ended.
    pub fn ended(&self) -> i64 {
        ["succeeded", "failed", "cancelled"]
            .iter()
            .filter_map(|state| self.states.get(*state))
            .sum()
    }
}

/// A sweep with its points.
#[derive(Clone, Serialize, ToSchema)]
pub struct SweepStory {
    /// The sweep.
    pub sweep: SweepRow,
    /// The metric that runs are compared by, the lowest first.
    pub by: String,
    /// How they are sorted, in words.
    pub explained: String,
    /// Whether less of the metric is better; only then one is marked as the best.
    pub lower_is_better: bool,
    /// Metrics that its runs have.
    pub metrics: Vec<String>,
    /// Keys that it varies, without the seed.
    pub keys: Vec<String>,
    /// Points, the best first; those that differ by their seed only are one.
    pub rows: Vec<SweepPoint>,
    /// Each run.
    pub runs: Vec<SweepRun>,
}

/// A point of a sweep: runs that differ by their seed only.
#[derive(Clone, Serialize, ToSchema)]
pub struct SweepPoint {
    /// Values of the keys.
    pub point: BTreeMap<String, Value>,
    /// Short ids of the jobs.
    pub jobs: Vec<String>,
    /// `succeeded`, or `2 succeeded, 1 failed`.
    pub states: String,
    /// `300/300`, or `120/300 to 300/300`.
    pub steps: String,
    /// The mean of the metric; null where nothing is measured, or a run was lost.
    pub mean: Option<f64>,
    /// The standard deviation over seeds, divided by n − 1.
    pub deviation: Option<f64>,
    /// As people read it.
    pub value: String,
    /// Whether it is the best.
    pub best: bool,
}

/// A run of a sweep.
#[derive(Clone, Serialize, ToSchema)]
pub struct SweepRun {
    /// What people type.
    pub short: String,
    /// Values of the keys, the seed among them.
    pub point: BTreeMap<String, Value>,
    /// The state of its job.
    pub state: String,
    /// Why it is in that state, where there is something to say.
    pub reason: Option<String>,
    /// The metric; null where it is not measured, or not finite.
    pub value: Option<f64>,
    /// Whether its newest value is not finite.
    pub lost: bool,
}

/// Which sweeps.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Archived ones instead.
    #[serde(default)]
    pub archived: bool,
}

/// Sweeps, newest first.
#[utoipa::path(get, path = "/api/v1/sweeps", params(Which), responses((status = 200, body = Vec<SweepRow>)))]
pub async fn sweeps(
    State(room): State<Arc<Room>>,
    Query(which): Query<Which>,
) -> Answer<Json<Vec<SweepRow>>> {
    Ok(Json(all(&room, which.archived).await?.as_ref().clone()))
}

/// Sweeps, newest first: made once for all who look at them.
pub async fn all(room: &Room, archived: bool) -> Answer<Arc<Vec<SweepRow>>> {
    let make = async {
        let sweeps = room.database.sweeps(Some(archived), Some(MOST)).await?;
        Ok(sweeps.iter().map(SweepRow::new).collect::<Vec<_>>())
    };
    room.shared.get(&format!("sweeps/{archived}"), AGE, make).await
}

/// What its runs are compared by.
#[derive(Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct By {
    /// The metric; the validation loss where a run has it, else the loss.
    pub by: Option<String>,
}

/// A sweep with its points, the best first.
#[utoipa::path(get, path = "/api/v1/sweeps/{id}", params(("id" = String, Path, description = "an id or a name"), By),
    responses((status = 200, body = SweepStory)))]
pub async fn sweep(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(by): Query<By>,
) -> Answer<Json<SweepStory>> {
    Ok(Json(read(&room, &id, &by).await?.as_ref().clone()))
}

/// What there is to say of a sweep: made once for all who look at it.
pub async fn read(room: &Room, id: &str, by: &By) -> Answer<Arc<SweepStory>> {
    let by = by.by.as_deref().filter(|by| !by.is_empty());
    let key = format!("sweeps/{id}/{}", by.unwrap_or_default());
    room.shared.get(&key, AGE, make(room, id, by)).await
}

async fn make(room: &Room, id: &str, by: Option<&str>) -> Answer<SweepStory> {
    let db = &room.database;
    let sweep = db.find_sweep(id).await?;
    let jobs = db.sweep_jobs(sweep.id).await?;
    let ids: Vec<Uuid> = jobs.iter().filter_map(|job| job.run_id).collect();
    let runs = db.runs_by_id(&ids).await?;
    let metrics: BTreeSet<&String> =
        runs.iter().filter_map(|run| run.latest.as_object()).flat_map(|all| all.keys()).collect();
    let by = match by {
        Some(by) if metrics.iter().any(|metric| *metric == by) => by.to_owned(),
        Some(by) => {
            return Err(Refusal::missing(format!(
                "no run of sweep {} has the metric `{by}`; there are {}",
                sweep.short,
                metrics.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
            )));
        }
        None => ranking::judge(&runs).to_owned(),
    };
    let mut values = BTreeMap::new();
    for run in &runs {
        if let Some(value) = value(room, run, &by).await? {
            values.insert(run.id, value);
        }
    }
    let runs_by_id: BTreeMap<Uuid, &Run> = runs.iter().map(|run| (run.id, run)).collect();
    let measured = jobs.iter().map(|job| {
        let run = job.run_id.and_then(|run| runs_by_id.get(&run));
        ranking::Measured {
            job: job.short.clone(),
            point: job.sweep_point.clone().unwrap_or_default(),
            state: job.state,
            steps: run.map(|run| [run.last_step, run.total_steps]),
            value: run.and_then(|run| values.get(&run.id).copied()),
        }
    });
    let rows = ranking::rank(measured, &by);
    let keys: BTreeSet<&str> = rows.iter().flat_map(ranking::Row::keys).collect();
    let object = |value: &Value| -> BTreeMap<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    Ok(SweepStory {
        explained: ranking::explained(&by, &rows),
        lower_is_better: ranking::is_loss(&by),
        metrics: metrics.into_iter().cloned().collect(),
        keys: keys.into_iter().map(str::to_owned).collect(),
        rows: rows
            .iter()
            .map(|row| SweepPoint {
                point: object(&Value::Object(row.point.clone())),
                jobs: row.jobs.clone(),
                states: row.states(),
                steps: row.steps(),
                mean: row.mean,
                deviation: row.deviation,
                value: row.value(),
                best: row.best,
            })
            .collect(),
        runs: jobs
            .iter()
            .map(|job| {
                let value = job.run_id.and_then(|run| values.get(&run).copied());
                SweepRun {
                    short: job.short.clone(),
                    point: object(job.sweep_point.as_ref().unwrap_or(&Value::Null)),
                    state: job.state.name().to_owned(),
                    reason: job.reason.clone().filter(|_| job.state != JobState::Succeeded),
                    value: value.filter(|value| value.is_finite()),
                    lost: value.is_some_and(|value| !value.is_finite()),
                }
            })
            .collect(),
        sweep: SweepRow::new(&sweep),
        by,
    })
}

/// What a run is judged by: the last validation; of other metrics the mean of the last tenth of the steps.
async fn value(room: &Room, run: &Run, by: &str) -> Answer<Option<f64>> {
    let Some(latest) = run.latest.get(by) else { return Ok(None) };
    let Some(latest) = latest.as_f64() else { return Ok(Some(f64::NAN)) };
    if by.starts_with("validation/") {
        return Ok(Some(latest));
    }
    let windows = room.database.metric_windows(&[run.id], &[by.to_owned()]).await?;
    Ok(Some(windows.first().map_or(latest, |window| window.level().value)))
}
