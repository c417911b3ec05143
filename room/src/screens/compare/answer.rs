//! What a comparison says. The first run is what the others are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use registry::compare::{Level, ScorePair, Verdict, score_pairs};
use registry::{Difference, Run, RunDiff, RunSide, Uuid, config_leaves, ranking};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{Answer, Refusal, Room};

/// Runs side by side, at most.
pub const MOST: usize = 20;
/// Metrics that are compared, at most.
const MOST_METRICS: usize = 40;
/// How long an answer is given to others who ask the same.
const AGE: Duration = Duration::from_secs(4);

/// Runs side by side; all lists have their order.
#[derive(Clone, Serialize, ToSchema)]
pub struct Comparison {
    /// The runs; the others are compared with the first.
    pub runs: Vec<ComparedRun>,
    /// Keys of the configuration with different values.
    pub config: Vec<Compared>,
    /// Keys with the same value in all.
    pub config_equal: Vec<Compared>,
    /// What else differs of how they were made: revision, device, data.
    pub facts: Vec<Compared>,
    /// States, steps, best checkpoints.
    pub results: Vec<Compared>,
    /// Metrics over the same steps.
    pub metrics: Vec<ComparedMetric>,
    /// Scores of their outputs.
    pub scores: Vec<ComparedScore>,
}

/// A run that is compared.
#[derive(Clone, Serialize, ToSchema)]
pub struct ComparedRun {
    /// Its id.
    pub id: Uuid,
    /// What people type.
    pub short: String,
    /// Its name.
    pub name: String,
}

/// Values under one name; null where a run has none.
#[derive(Clone, Serialize, ToSchema)]
pub struct Compared {
    /// The name.
    pub key: String,
    /// A value for each run.
    pub values: Vec<Option<Value>>,
}

/// A value and its interval of 95 %.
#[derive(Clone, Serialize, ToSchema)]
pub struct ComparedLevel {
    /// Null where it is not finite.
    pub value: Option<f64>,
    /// Null where none can be given.
    pub interval: Option<[f64; 2]>,
    /// The step that it is of, of scores.
    pub step: Option<i64>,
    /// `equal`, `within noise`, `differs`, `no interval`, `lost`, `-`: of the difference from the first run.
    pub verdict: Option<String>,
    /// As people read it.
    pub text: String,
}

/// A metric over steps that all have.
#[derive(Clone, Serialize, ToSchema)]
pub struct ComparedMetric {
    /// Its name.
    pub name: String,
    /// The first step of the mean.
    pub first: i64,
    /// The last step that all have.
    pub last: i64,
    /// For each run; null where it has none.
    pub levels: Vec<Option<ComparedLevel>>,
}

/// A score of outputs.
#[derive(Clone, Serialize, ToSchema)]
pub struct ComparedScore {
    /// What was scored.
    pub label: String,
    /// The task.
    pub task: String,
    /// The score.
    pub score: String,
    /// For each run; null where it has none.
    pub levels: Vec<Option<ComparedLevel>>,
}

/// The comparison of these runs, names or ids with commas between: made once for all who look at it.
///
/// # Errors
/// Where one is not there, or there are too many.
pub async fn read(room: &Room, list: &str) -> Answer<Arc<Comparison>> {
    room.shared.get(&format!("compare/{list}"), AGE, make(room, list)).await
}

async fn make(room: &Room, list: &str) -> Answer<Comparison> {
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.len() > MOST {
        return Err(Refusal::bad(format!(
            "{} runs are too many side by side: name at most {MOST}; /curves shows more",
            names.len()
        )));
    }
    let db = &room.database;
    let mut sides: Vec<RunSide> = Vec::new();
    for name in names {
        let run = db.find_run(name).await?;
        if sides.iter().any(|side| side.run.id == run.id) {
            continue;
        }
        sides.push(RunSide {
            datasets: db.run_datasets(run.id).await?,
            checkpoints: db.checkpoints(run.id).await?,
            evaluations: db.evaluations(run.id).await?,
            run,
        });
    }
    let (config, config_equal) = configurations(&sides);
    let diffs: Vec<RunDiff> = match sides.split_first() {
        Some((first, others)) => others.iter().map(|other| RunDiff::new(first, other)).collect(),
        None => Vec::new(),
    };
    let is_own = |key: &str| {
        matches!(key, "state" | "step" | "steps in all") || key.starts_with("best checkpoint")
    };
    let mut results = merged(&diffs, |diff| &diff.results);
    results.retain(|row| is_own(&row.key));
    let runs = sides.iter().map(|side| &side.run);
    Ok(Comparison {
        metrics: metrics(room, &runs.clone().collect::<Vec<_>>()).await?,
        runs: runs
            .map(|run| ComparedRun { id: run.id, short: run.short.clone(), name: run.name.clone() })
            .collect(),
        config,
        config_equal,
        facts: merged(&diffs, |diff| &diff.facts),
        results,
        scores: scores(&sides),
    })
}

/// The leaves of all configurations: those that differ, and those that do not.
fn configurations(sides: &[RunSide]) -> (Vec<Compared>, Vec<Compared>) {
    let leaves: Vec<Vec<(String, &Value)>> =
        sides.iter().map(|side| config_leaves(&side.run.config)).collect();
    let mut keys: Vec<&String> = Vec::new();
    let mut known = BTreeSet::new();
    for (key, _) in leaves.iter().flatten() {
        if known.insert(key) {
            keys.push(key);
        }
    }
    let of: Vec<BTreeMap<&String, &Value>> =
        leaves.iter().map(|all| all.iter().map(|(key, value)| (key, *value)).collect()).collect();
    let rows = keys.into_iter().map(|key| Compared {
        key: key.clone(),
        values: of.iter().map(|side| side.get(key).map(|value| (*value).clone())).collect(),
    });
    let same = |a: &Option<Value>, b: &Option<Value>| match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    };
    rows.partition(|row| row.values.iter().any(|value| !same(value, &row.values[0])))
}

/// The rows of all pairs with the first; what is equal in a pair is what the first has.
fn merged(diffs: &[RunDiff], rows: fn(&RunDiff) -> &Vec<Difference>) -> Vec<Compared> {
    let mut all: Vec<Compared> = Vec::new();
    for diff in diffs {
        for row in rows(diff) {
            if all.iter().all(|known| known.key != row.key) {
                all.push(Compared { key: row.key.clone(), values: vec![row.a.clone()] });
            }
        }
    }
    for diff in diffs {
        for row in &mut all {
            let own = rows(diff).iter().find(|one| one.key == row.key);
            let first = row.values[0].clone();
            row.values.push(own.map_or(first, |own| own.b.clone()));
        }
    }
    all
}

async fn metrics(room: &Room, runs: &[&Run]) -> Answer<Vec<ComparedMetric>> {
    let names: BTreeSet<&String> = runs
        .iter()
        .filter_map(|run| run.latest.as_object())
        .flat_map(|latest| latest.keys())
        .filter(|name| ranking::is_loss(name))
        .collect();
    let names: Vec<String> = names.into_iter().take(MOST_METRICS).cloned().collect();
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
    let windows = room.database.metric_windows(&ids, &names).await?;
    let mut all = Vec::new();
    for name in names {
        let own: Vec<_> = windows.iter().filter(|window| window.name == name).collect();
        let (Some(first), Some(last)) = (
            own.iter().map(|window| window.first).min(),
            own.iter().map(|window| window.last).max(),
        ) else {
            continue;
        };
        let levels: Vec<Option<Level>> = ids
            .iter()
            .map(|id| own.iter().find(|window| window.run == *id).map(|window| window.level()))
            .collect();
        let base = levels[0].clone();
        let levels = levels.into_iter().enumerate().map(|(at, level)| {
            let level = level?;
            let verdict = base.as_ref().filter(|_| at > 0).map(|base| Verdict::of(base, &level));
            Some(compared(&level, None, verdict))
        });
        all.push(ComparedMetric { name, first, last, levels: levels.collect() });
    }
    Ok(all)
}

fn scores(sides: &[RunSide]) -> Vec<ComparedScore> {
    let Some((first, others)) = sides.split_first() else { return Vec::new() };
    let pairs: Vec<Vec<ScorePair>> = match others {
        [] => vec![score_pairs(&first.evaluations, &[])],
        others => {
            others.iter().map(|other| score_pairs(&first.evaluations, &other.evaluations)).collect()
        }
    };
    type Key = (String, String, String);
    let key =
        |pair: &ScorePair| -> Key { (pair.label.clone(), pair.task.clone(), pair.score.clone()) };
    let keys: BTreeSet<Key> = pairs.iter().flatten().map(key).collect();
    let row = |wanted: Key| {
        let own: Vec<Option<&ScorePair>> =
            pairs.iter().map(|pairs| pairs.iter().find(|pair| key(pair) == wanted)).collect();
        let base = own.iter().flatten().find_map(|pair| Some((pair.a.clone()?, pair.step_a)));
        let mut levels = vec![base.map(|(level, step)| compared(&level, step, None))];
        levels.extend(own.iter().take(others.len()).map(|pair| {
            let pair = (*pair)?;
            Some(compared(pair.b.as_ref()?, pair.step_b, Some(pair.verdict)))
        }));
        let (label, task, score) = wanted;
        ComparedScore { label, task, score, levels }
    };
    keys.into_iter().map(row).collect()
}

fn compared(level: &Level, step: Option<i64>, verdict: Option<Verdict>) -> ComparedLevel {
    ComparedLevel {
        value: Some(level.value).filter(|value| value.is_finite()),
        interval: level.interval,
        step,
        verdict: verdict.map(|verdict| verdict.name().to_owned()),
        text: level.text(),
    }
}
