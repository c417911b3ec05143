//! The table of runs as JSON, and the marks on them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::marks::{self, Deed};
use super::table::{self, RunTable};
use super::view::View;
use crate::{Answer, Refusal, Room, Who};

/// What a table may be asked for; lists may be repeated.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "they are read as pairs, because some are repeated")]
pub struct Parameters {
    /// States, `imported` among them.
    state: Option<Vec<String>>,
    /// Owners.
    owner: Option<Vec<String>>,
    /// Experiments.
    experiment: Option<Vec<String>>,
    /// Tags; a run has all of them. What is starred has the tag `starred`.
    tag: Option<Vec<String>>,
    /// Whole ids of sweeps.
    sweep: Option<Vec<String>>,
    /// `train`, `import`.
    kind: Option<Vec<String>>,
    /// `no` (the default), `only` or `all`.
    archived: Option<String>,
    /// A name, in which `*` is any text.
    name: Option<String>,
    /// A part of the name, the experiment, the owner, a tag, the note, or the beginning of the id.
    text: Option<String>,
    /// `KEY=VALUE` of the configuration.
    config: Option<Vec<String>>,
    /// `created`, `name`, `owner`, `experiment`, `state`, `step`, `seed`, `metric:NAME` or `config:KEY`; the largest
    /// first with `-` before it. `-created` by default.
    sort: Option<String>,
    /// `seed`: runs that differ by their seed and name only are one row.
    group: Option<String>,
    /// `metric:NAME` or `config:KEY`.
    column: Option<Vec<String>>,
    /// `1`: with the keys by which those of the page differ.
    differ: Option<String>,
    /// From 1 on.
    page: Option<i64>,
    /// Rows of a page, 50 by default and 500 at most.
    rows: Option<i64>,
}

/// Runs, filtered, sorted, grouped, a page at a time, with counts beside each value of a filter.
#[utoipa::path(get, path = "/api/v1/runs", params(Parameters), responses((status = 200, body = RunTable)))]
pub async fn runs(
    State(room): State<Arc<Room>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<Json<RunTable>> {
    let view = View::read(&pairs)?;
    Ok(Json(table::read(&room, &view).await?.as_ref().clone()))
}

/// What is to be written on runs; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunMarks {
    /// Ids, short ids or names.
    runs: Vec<String>,
    /// Whether they are starred.
    starred: Option<bool>,
    /// Whether lists leave them out.
    archived: Option<bool>,
    /// Tags to add.
    #[serde(default)]
    add_tags: Vec<String>,
    /// Tags to take away.
    #[serde(default)]
    remove_tags: Vec<String>,
    /// A note; an empty one takes away what is there.
    note: Option<String>,
    /// Another name, of one run.
    name: Option<String>,
}

/// How many were marked.
#[derive(Serialize, ToSchema)]
pub struct MarkedRuns {
    /// Runs.
    marked: usize,
}

/// Stars, tags, notes, names and archives runs.
#[utoipa::path(post, path = "/api/v1/runs/marks", request_body = RunMarks,
    responses((status = 200, body = MarkedRuns), (status = 409, description = "one that has not ended is not archived")))]
pub async fn mark(
    State(room): State<Arc<Room>>,
    who: Who,
    Json(marks): Json<RunMarks>,
) -> Answer<Json<MarkedRuns>> {
    who.demand(crate::Role::User)?;
    let RunMarks { runs, starred, archived, add_tags, remove_tags, note, name } = marks;
    if name.is_some() && runs.len() != 1 {
        return Err(Refusal::bad("a name is given to one run at a time"));
    }
    let targets = marks::targets(&room, &runs).await?;
    let deeds = [
        starred.map(|starred| if starred { Deed::Star } else { Deed::Unstar }),
        (!add_tags.is_empty() || !remove_tags.is_empty())
            .then_some(Deed::Tag(add_tags, remove_tags)),
        note.map(Deed::Note),
        name.map(Deed::Rename),
        archived.map(|archived| if archived { Deed::Archive } else { Deed::Unarchive }),
    ];
    for deed in deeds.into_iter().flatten() {
        marks::apply(&room, &targets, &deed).await?;
    }
    Ok(Json(MarkedRuns { marked: targets.len() }))
}
