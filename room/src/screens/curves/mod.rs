//! Metrics over steps, images or time: the page, the charts that other pages show too, and series and tables as
//! files.
//!
//! A chart is an element that `curves.js` fills (`chart`): it asks `/api/v1/curves` for as many columns as it is
//! wide, and says whether it shows every point.

mod answer;
mod api;
mod files;
mod page;

use std::sync::Arc;
use std::time::Duration;

use maud::{Markup, html};
use registry::Run;
use utoipa_axum::router::OpenApiRouter;

use crate::{Answer, Refusal, Room};

/// Scripts that a page with charts needs.
pub const SCRIPTS: &[&str] = &["uplot.js", "curves.js"];
/// Styles that a page with charts needs.
pub const STYLES: &[&str] = &["uplot.css", "curves.css"];

/// The most runs of one question.
const MOST_RUNS: usize = 500;

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    page::routes().merge(api::routes()).merge(files::routes())
}

/// A chart of these metrics of these runs, by id: a curve for each. A page that has one needs [`SCRIPTS`] and
/// [`STYLES`].
pub fn chart(title: &str, runs: &[String], metrics: &[&str]) -> Markup {
    html! {
        figure.chart.curves data-runs=(runs.join(",")) data-metrics=(metrics.join(",")) data-keep {
            figcaption { h3 { (title) } }
            noscript { p.quiet { "Curves need scripts. The values are at " a href=(format!("/api/v1/curves?runs={}&metrics={}", runs.join(","), metrics.join(","))) { "the API" } "." } }
        }
    }
}

/// The runs of a list of names and ids with commas between.
///
/// # Errors
/// Where one is not there, or there are too many.
async fn runs(room: &Room, list: &str) -> Answer<Vec<Run>> {
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.len() > MOST_RUNS {
        return Err(Refusal::bad(format!(
            "{} runs at once are too many: name at most {MOST_RUNS}",
            names.len()
        )));
    }
    let mut runs: Vec<Run> = Vec::new();
    for name in names {
        let run = run(room, name).await?;
        if runs.iter().all(|known| known.id != run.id) {
            runs.push(Run::clone(&run));
        }
    }
    Ok(runs)
}

/// A run by its name or id.
///
/// # Errors
/// Where there is none.
async fn run(room: &Room, name: &str) -> Answer<Arc<Run>> {
    if name.len() > 512 {
        return Err(Refusal::missing("there is no run with a name as long as that"));
    }
    let found = async { Ok(room.database.find_run(name).await?) };
    room.shared.get(&format!("curves/run/{name}"), Duration::from_secs(2), found).await
}
