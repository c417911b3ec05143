//! The tables: points of metrics, and runs with their settings and latest metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use registry::{Database, Moment, Run, RunFilter, SeriesKey};
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use super::{EventFile, Format, TableWriter};

/// Points that are read at once.
const PAGE: i64 = 20_000;

/// The columns of points.
fn points_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("run", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("metric", DataType::Utf8, false),
        Field::new("step", DataType::Int64, false),
        Field::new("attempt", DataType::Int64, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

/// Why a table was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Database(#[from] registry::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// A table that cannot be made.
    #[error(transparent)]
    Table(#[from] ArrowError),
}

/// Gives all points of these runs, by run, metric and step, to `take`, some thousands at a time.
async fn each_page(
    database: &Database,
    runs: &[Run],
    metrics: &[String],
    mut take: impl AsyncFnMut(&Run, &SeriesKey, &[(i64, i32, f64)]) -> Result<(), Error>,
) -> Result<(), Error> {
    for run in runs {
        for series in database.series(&[run.id], metrics).await? {
            let mut from = i64::MIN;
            loop {
                let page = database.points_from(series.id, from, PAGE).await?;
                let Some(&(last, ..)) = page.last() else { break };
                take(run, &series, &page).await?;
                match last.checked_add(1) {
                    Some(next) if page.len() as i64 == PAGE => from = next,
                    _ => break,
                }
            }
        }
    }
    Ok(())
}

/// Writes all points of these runs; gives the file to `parts`, whose end may be closed.
///
/// # Errors
/// Those of the database.
pub async fn points(
    database: &Database,
    runs: &[Run],
    metrics: &[String],
    format: Format,
    parts: Sender<Vec<u8>>,
) -> Result<(), Error> {
    let schema = points_schema();
    let mut writer = TableWriter::new(format, &schema)?;
    for run in runs {
        for series in database.series(&[run.id], metrics).await? {
            let mut from = i64::MIN;
            loop {
                let page = database.points_from(series.id, from, PAGE).await?;
                let Some(&(last, ..)) = page.last() else { break };
                let part = writer.write(&batch(&schema, run, &series, &page)?)?;
                if !part.is_empty() && parts.send(part).await.is_err() {
                    return Ok(());
                }
                match last.checked_add(1) {
                    Some(next) if page.len() as i64 == PAGE => from = next,
                    _ => break,
                }
            }
        }
    }
    // Who does not want the end any more has gone.
    let _ = parts.send(writer.finish()?).await;
    Ok(())
}

fn batch(
    schema: &SchemaRef,
    run: &Run,
    series: &SeriesKey,
    points: &[(i64, i32, f64)],
) -> Result<RecordBatch, ArrowError> {
    let same = |text: &str| -> ArrayRef {
        let mut all = StringBuilder::new();
        points.iter().for_each(|_| all.append_value(text));
        Arc::new(all.finish())
    };
    let mut steps = Int64Builder::new();
    let mut attempts = Int64Builder::new();
    let mut values = Float64Builder::new();
    for &(step, attempt, value) in points {
        steps.append_value(step);
        attempts.append_value(attempt.into());
        values.append_value(value);
    }
    RecordBatch::try_new(
        Arc::clone(schema),
        vec![
            same(&run.short),
            same(&run.name),
            same(&series.name),
            Arc::new(steps.finish()),
            Arc::new(attempts.finish()),
            Arc::new(values.finish()),
        ],
    )
}

/// Writes the scalars of a run as an event file.
///
/// # Errors
/// Those of the database and of the file.
pub async fn events(
    database: &Database,
    run: &Run,
    file: impl std::io::Write,
) -> Result<(), Error> {
    let moments = database.moments(&[run.id], 100_000).await?;
    let begin = moments.first().map_or(run.created_at, |moment| moment.at);
    let mut file = EventFile::new(file, begin.unix_timestamp_nanos() as f64 / 1e9)?;
    let times: Vec<(i64, f64)> = moments
        .iter()
        .map(|Moment { step, at, .. }| (*step, at.unix_timestamp_nanos() as f64 / 1e9))
        .collect();
    let created = run.created_at.unix_timestamp_nanos() as f64 / 1e9;
    each_page(database, std::slice::from_ref(run), &[], async |_, series, points| {
        for &(step, _, value) in points {
            let at = time_of(&times, step).unwrap_or(created);
            file.scalar(at, step, &series.name, value)?;
        }
        Ok(())
    })
    .await?;
    Ok(file.finish()?)
}

/// When a step was made, between the moments that are known.
fn time_of(times: &[(i64, f64)], step: i64) -> Option<f64> {
    let at = times.partition_point(|(known, _)| *known <= step);
    let before = at.checked_sub(1).and_then(|at| times.get(at));
    match (before, times.get(at)) {
        (Some(&(first, begin)), Some(&(last, end))) => {
            let share = (step - first) as f64 / (last - first).max(1) as f64;
            Some(begin + share * (end - begin))
        }
        (Some(&(_, time)), None) | (None, Some(&(_, time))) => Some(time),
        (None, None) => None,
    }
}

/// What a run has in a column.
enum Cell {
    Int(i64),
    Real(f64),
    Text(String),
}

/// Runs that are read at once.
const RUNS: usize = 500;
/// The most columns of settings and metrics.
const MOST_COLUMNS: usize = 2000;

/// Writes the runs that a filter lets through, with a column for each setting (`config.train.steps`) and for the latest
/// value of each metric (`metric.loss`); gives the file to `parts`, whose end may be closed.
///
/// # Errors
/// Those of the database.
pub async fn runs(
    database: &Database,
    filter: RunFilter,
    format: Format,
    parts: Sender<Vec<u8>>,
) -> Result<(), Error> {
    let runs = database.runs(filter).await?;
    // Which columns there are, and what is in each: a number where all are, else a text.
    let mut columns: BTreeMap<String, DataType> = BTreeMap::new();
    for run in &runs {
        for (name, cell) in cells(run) {
            let kind = match cell {
                Cell::Int(_) => DataType::Int64,
                Cell::Real(_) => DataType::Float64,
                Cell::Text(_) => DataType::Utf8,
            };
            let known = match columns.get(&name) {
                None if columns.len() >= MOST_COLUMNS => continue,
                None => None,
                Some(known) => Some(known.clone()),
            };
            let both = match (known, kind) {
                (None, kind) => kind,
                (Some(known), kind) if known == kind => kind,
                (Some(DataType::Utf8), _) | (_, DataType::Utf8) => DataType::Utf8,
                _ => DataType::Float64,
            };
            columns.insert(name, both);
        }
    }
    const FIRST: [&str; 11] = [
        "id",
        "short",
        "name",
        "experiment",
        "owner",
        "state",
        "tags",
        "seed",
        "total_steps",
        "last_step",
        "created_at",
    ];
    let mut names: Vec<String> = FIRST.map(str::to_owned).to_vec();
    names.extend(columns.keys().filter(|name| !FIRST.contains(&name.as_str())).cloned());
    let kind = |name: &String| columns.get(name).cloned().unwrap_or(DataType::Utf8);
    let fields: Vec<Field> = names.iter().map(|name| Field::new(name, kind(name), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = TableWriter::new(format, &schema)?;
    for some in runs.chunks(RUNS) {
        let rows: Vec<BTreeMap<String, Cell>> = some.iter().map(cells).collect();
        let arrays = names.iter().map(|name| column(&rows, name, &kind(name))).collect();
        let part = writer.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
        if !part.is_empty() && parts.send(part).await.is_err() {
            return Ok(());
        }
    }
    // Who does not want the end any more has gone.
    let _ = parts.send(writer.finish()?).await;
    Ok(())
}

fn column(rows: &[BTreeMap<String, Cell>], name: &str, kind: &DataType) -> ArrayRef {
    let cells = rows.iter().map(|row| row.get(name));
    match kind {
        DataType::Int64 => {
            Arc::new(Int64Builder::finish(&mut cells.fold(Int64Builder::new(), |mut all, cell| {
                all.append_option(match cell {
                    Some(Cell::Int(value)) => Some(*value),
                    _ => None,
                });
                all
            })))
        }
        DataType::Float64 => Arc::new(Float64Builder::finish(&mut cells.fold(
            Float64Builder::new(),
            |mut all, cell| {
                all.append_option(match cell {
                    Some(Cell::Int(value)) => Some(*value as f64),
                    Some(Cell::Real(value)) => Some(*value),
                    _ => None,
                });
                all
            },
        ))),
        _ => Arc::new(StringBuilder::finish(&mut cells.fold(
            StringBuilder::new(),
            |mut all, cell| {
                all.append_option(cell.map(|cell| match cell {
                    Cell::Int(value) => value.to_string(),
                    Cell::Real(value) => value.to_string(),
                    Cell::Text(text) => text.clone(),
                }));
                all
            },
        ))),
    }
}

/// A run by columns.
fn cells(run: &Run) -> BTreeMap<String, Cell> {
    let mut cells = BTreeMap::new();
    let mut set = |name: &str, cell: Option<Cell>| {
        if let Some(cell) = cell {
            cells.insert(name.to_owned(), cell);
        }
    };
    let text = |text: &str| Some(Cell::Text(text.to_owned()));
    let time = |time: time::OffsetDateTime| {
        time.format(&time::format_description::well_known::Rfc3339).ok().map(Cell::Text)
    };
    set("id", text(&run.id.to_string()));
    set("short", text(&run.short));
    set("name", text(&run.name));
    set("experiment", text(&run.experiment));
    set("owner", text(&run.owner));
    set("state", text(run.state.map_or("imported", registry::JobState::name)));
    set("tags", text(&run.tags.join(" ")));
    set("seed", Some(Cell::Int(run.seed)));
    set("total_steps", Some(Cell::Int(run.total_steps)));
    set("last_step", Some(Cell::Int(run.last_step)));
    set("created_at", time(run.created_at));
    set("archived_at", run.archived_at.and_then(time));
    set("best_metric", text(&run.best_metric));
    for (name, value) in [
        ("note", &run.note),
        ("git_revision", &run.git_revision),
        ("host", &run.host),
        ("device", &run.device),
        ("libtorch", &run.libtorch),
    ] {
        set(name, value.as_deref().and_then(text));
    }
    leaves(&run.config, "config", &mut set);
    if let Some(latest) = run.latest.as_object() {
        for (name, value) in latest {
            // Null is what is not finite.
            set(&format!("metric.{name}"), Some(Cell::Real(value.as_f64().unwrap_or(f64::NAN))));
        }
    }
    cells
}

/// The settings of a configuration by their whole names.
fn leaves(value: &Value, name: &str, set: &mut impl FnMut(&str, Option<Cell>)) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                leaves(value, &format!("{name}.{key}"), set);
            }
        }
        Value::Null => {}
        Value::Number(number) => {
            set(name, number.as_i64().map(Cell::Int).or_else(|| number.as_f64().map(Cell::Real)))
        }
        Value::String(text) => set(name, Some(Cell::Text(text.clone()))),
        other => set(name, Some(Cell::Text(other.to_string()))),
    }
}
