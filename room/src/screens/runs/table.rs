//! The table of runs: what the page draws, the API gives and the exports write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use registry::{Facet, GroupMetric, Run, Uuid, config_leaves, config_path};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::view::{Column, View};
use crate::{Answer, Room};

/// The tag of what is starred.
pub const STAR: &str = "starred";

/// How long an answer is given to others who ask the same.
const AGE: Duration = Duration::from_secs(2);

/// Columns that are added because their values differ, at most.
const DIFFERING: usize = 12;

/// Metrics that are shown where nobody chose.
const USUAL: [&str; 3] = ["loss", "validation/loss", "images_per_second"];

/// A page of the table.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunTable {
    /// Runs that the filters let through.
    pub runs: i64,
    /// Rows of all pages: runs, or groups of them.
    pub total: i64,
    /// Rows before the first of this page.
    pub offset: i64,
    /// The chosen columns, as `column` takes them.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<RunRow>,
    /// How many runs each filter would let through by each of its values, the others as they are.
    pub counts: BTreeMap<String, Vec<RunCount>>,
    /// Names of metrics that runs of this page have.
    pub metrics: Vec<String>,
    /// Keys of configurations of this page, and whether their values differ.
    pub keys: BTreeMap<String, bool>,
    /// Whether all rows have the same owner, experiment, state: names of the columns in which they do.
    pub equal: BTreeSet<String>,
}

/// How many runs have a value.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunCount {
    /// As the filter takes it.
    pub value: String,
    /// As people call it.
    pub label: String,
    /// Runs.
    pub count: i64,
}

/// A run, or several that differ by their seed and name only; of these the newest stands for all.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunRow {
    /// Its id.
    pub id: Uuid,
    /// What people type.
    pub short: String,
    /// Its name.
    pub name: String,
    /// Its experiment.
    pub experiment: String,
    /// Who submitted it.
    pub owner: String,
    /// Its state; `imported` where no job makes it.
    pub state: String,
    /// Its tags, without the star.
    pub tags: Vec<String>,
    /// Whether it has the tag `starred`.
    pub starred: bool,
    /// Its note.
    pub note: Option<String>,
    /// Whether lists leave it out.
    pub archived: bool,
    /// Its seed.
    pub seed: i64,
    /// The last step.
    pub last_step: i64,
    /// Steps to make.
    pub total_steps: i64,
    /// When it was submitted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The newest values of the metrics; null where one is not finite. Of a group those of the run that stands for it.
    pub metrics: BTreeMap<String, Option<f64>>,
    /// The values of the chosen keys of the configuration.
    pub config: BTreeMap<String, Value>,
    /// Where several are one row.
    pub group: Option<RunsTogether>,
}

/// Runs that are one row.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunsTogether {
    /// Their ids, newest first.
    pub runs: Vec<Uuid>,
    /// How many are in each state.
    pub states: BTreeMap<String, usize>,
    /// The newest values of each metric over them.
    pub metrics: BTreeMap<String, MetricSpread>,
}

/// A metric over several runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MetricSpread {
    /// Runs with a finite value.
    pub measured: i64,
    /// Runs whose value is not finite.
    pub lost: i64,
    /// The mean of the finite ones.
    pub mean: Option<f64>,
    /// The standard deviation, divided by n − 1; null of one.
    pub deviation: Option<f64>,
}

/// What a view shows: made once for all who look at it.
///
/// # Errors
/// Those of the view and of the database.
pub async fn read(room: &Room, view: &View) -> Answer<Arc<RunTable>> {
    let key = format!("runs/{}", view.query());
    room.shared.get(&key, AGE, make(room, view)).await
}

async fn make(room: &Room, view: &View) -> Answer<RunTable> {
    let order = view.order()?;
    let db = &room.database;
    let facets = db.run_facets(&view.filter);
    let (facets, rows, total) = if view.grouped {
        let (facets, groups) = tokio::try_join!(facets, db.run_groups(&view.filter, &order))?;
        let total = groups.first().map_or(0, |group| group.groups);
        let ids: Vec<Uuid> = groups.iter().map(|group| group.run).collect();
        let members: Vec<Uuid> = groups.iter().flat_map(|group| group.runs.clone()).collect();
        let runs = db.runs_by_id(&ids).await?;
        let metrics: BTreeSet<&String> = runs
            .iter()
            .filter_map(|run| run.latest.as_object())
            .flat_map(|all| all.keys())
            .collect();
        let metrics: Vec<String> = metrics.into_iter().cloned().collect();
        let spreads = db.group_metrics(&members, &metrics).await?;
        let runs = in_order(&ids, runs).into_iter();
        let together = groups.into_iter().map(|group| {
            let mut states = BTreeMap::new();
            for state in group.states {
                *states.entry(state).or_insert(0) += 1;
            }
            let own = spreads.iter().filter(|one| one.setting == group.setting);
            let metrics = own.map(|one| (one.metric.clone(), MetricSpread::of(one))).collect();
            RunsTogether { runs: group.runs, states, metrics }
        });
        (facets, runs.zip(together.map(Some)).collect::<Vec<_>>(), Some(total))
    } else {
        let (facets, ids) = tokio::try_join!(facets, db.run_page(&view.filter, &order))?;
        let runs = in_order(&ids, db.runs_by_id(&ids).await?);
        (facets, runs.into_iter().map(|run| (run, None)).collect(), None)
    };
    let mut counts = BTreeMap::<String, Vec<RunCount>>::new();
    let mut all = 0;
    for Facet { facet, value, label, count } in facets {
        match facet.as_str() {
            "all" => all = count,
            _ => {
                let label = label.unwrap_or_else(|| value.clone());
                counts.entry(facet).or_default().push(RunCount { value, label, count });
            }
        }
    }
    for values in counts.values_mut() {
        values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.label.cmp(&b.label)));
    }
    let runs: Vec<&Run> = rows.iter().map(|(run, _)| run).collect();
    let (metrics, keys, equal) = (metrics_of(&runs), keys_of(&runs), equal_of(&runs));
    let columns = columns(view, &metrics, &keys);
    let rows = rows.iter().map(|(run, group)| row(run, group.clone(), &columns)).collect();
    Ok(RunTable {
        runs: all,
        total: total.unwrap_or(all),
        offset: order.offset,
        columns: columns.iter().map(Column::key).collect(),
        rows,
        counts,
        metrics,
        keys,
        equal,
    })
}

fn in_order(ids: &[Uuid], runs: Vec<Run>) -> Vec<Run> {
    let mut runs: BTreeMap<Uuid, Run> = runs.into_iter().map(|run| (run.id, run)).collect();
    ids.iter().filter_map(|id| runs.remove(id)).collect()
}

impl MetricSpread {
    fn of(one: &GroupMetric) -> Self {
        let GroupMetric { measured, lost, mean, deviation, .. } = *one;
        Self { measured, lost, mean, deviation }
    }
}

fn metrics_of(runs: &[&Run]) -> Vec<String> {
    let all = runs.iter().filter_map(|run| run.latest.as_object()).flat_map(|all| all.keys());
    all.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// The keys of the configurations, and whether their values differ.
fn keys_of(runs: &[&Run]) -> BTreeMap<String, bool> {
    let mut keys = BTreeMap::<String, (&Value, usize, bool)>::new();
    for run in runs {
        for (key, value) in config_leaves(&run.config) {
            let (first, count, differs) = keys.entry(key).or_insert((value, 0, false));
            *count += 1;
            *differs |= *first != value;
        }
    }
    keys.retain(|key, _| !key.is_empty());
    keys.into_iter()
        .map(|(key, (_, count, differs))| (key, differs || count < runs.len()))
        .collect()
}

fn equal_of(runs: &[&Run]) -> BTreeSet<String> {
    let mut equal = BTreeSet::new();
    let mut note = |name: &str, value: fn(&Run) -> String| {
        let values: BTreeSet<String> = runs.iter().map(|run| value(run)).collect();
        if runs.len() > 1 && values.len() == 1 {
            equal.insert(name.to_owned());
        }
    };
    note("owner", |run| run.owner.clone());
    note("experiment", |run| run.experiment.clone());
    note("seed", |run| run.seed.to_string());
    equal
}

/// What is chosen, or what is usual; and where that is asked for what differs.
fn columns(view: &View, metrics: &[String], keys: &BTreeMap<String, bool>) -> Vec<Column> {
    let usual = || {
        let there = USUAL.iter().filter(|name| metrics.iter().any(|metric| metric == *name));
        there.map(|name| Column::Metric((*name).to_owned())).collect()
    };
    let mut columns: Vec<Column> = view.columns.clone().unwrap_or_else(usual);
    if view.differing {
        columns.retain(|column| match column {
            Column::Config(key) => keys.get(key).copied().unwrap_or(true),
            Column::Metric(_) => true,
        });
        let own = |key: &&String| !matches!(key.as_str(), "seed" | "name");
        let differing = keys.iter().filter(|(_, differs)| **differs).map(|(key, _)| key);
        let differing = differing.filter(own).map(|key| Column::Config(key.clone()));
        for column in differing.take(DIFFERING) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    columns
}

fn row(run: &Run, group: Option<RunsTogether>, columns: &[Column]) -> RunRow {
    let latest = run.latest.as_object().into_iter().flatten();
    let config = columns.iter().filter_map(|column| {
        let Column::Config(key) = column else { return None };
        let value =
            config_path(key)?.iter().try_fold(&run.config, |value, segment| match value {
                Value::Array(elements) => elements.get(segment.parse::<usize>().ok()?),
                value => value.get(segment),
            })?;
        Some((key.clone(), value.clone()))
    });
    RunRow {
        id: run.id,
        short: run.short.clone(),
        name: run.name.clone(),
        experiment: run.experiment.clone(),
        owner: run.owner.clone(),
        state: run.state.map_or("imported", |state| state.name()).to_owned(),
        tags: run.tags.iter().filter(|tag| *tag != STAR).cloned().collect(),
        starred: run.tags.iter().any(|tag| tag == STAR),
        note: run.note.clone(),
        archived: run.archived_at.is_some(),
        seed: run.seed,
        last_step: run.last_step,
        total_steps: run.total_steps,
        created_at: run.created_at,
        metrics: latest.map(|(name, value)| (name.clone(), value.as_f64())).collect(),
        config: config.collect(),
        group,
    }
}
