//! What people write on runs: star, tags, note, name, and whether lists leave them out. Forms without scripts do all
//! of it.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect};
use maud::html;
use registry::{Kind, Several, Target};

use super::table::STAR;
use super::view::View;
use crate::page::{Page, csrf_input};
use crate::{Answer, Refusal, Role, Room, Who};

/// Runs that are marked at once, at most: more than a page shows.
const MOST: usize = 500;

/// What is done.
pub enum Deed {
    Star,
    Unstar,
    Archive,
    Unarchive,
    /// Added, taken away.
    Tag(Vec<String>, Vec<String>),
    /// An empty one takes away what is there.
    Note(String),
    Rename(String),
}

/// The runs that are meant; all of them are there, or none is marked.
pub async fn targets(room: &Room, runs: &[String]) -> Answer<Vec<Target>> {
    if runs.is_empty() {
        return Err(Refusal::bad("no run is chosen: tick the boxes before their names first"));
    }
    if runs.len() > MOST {
        return Err(Refusal::bad(format!("at most {MOST} runs at once")));
    }
    let mut targets = Vec::new();
    for run in runs {
        let target = room.database.find_among(run, &[Kind::Run], Several::Refuse).await?;
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Does it to each; what one refuses is said after the others are done.
pub async fn apply(room: &Room, targets: &[Target], deed: &Deed) -> Answer<()> {
    let db = &room.database;
    let star = [STAR.to_owned()];
    let mut refused = Vec::new();
    for &target in targets {
        let done = match deed {
            Deed::Star => db.tag(target, &star, &[]).await,
            Deed::Unstar => db.tag(target, &[], &star).await,
            Deed::Archive => db.archive(target).await,
            Deed::Unarchive => db.unarchive(target).await,
            Deed::Tag(add, remove) => db.tag(target, add, remove).await,
            Deed::Note(note) => {
                db.note(target, Some(note.as_str()).filter(|note| !note.is_empty())).await
            }
            Deed::Rename(name) => db.rename(target, name).await,
        };
        match done {
            Ok(()) => {}
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(error) => refused.push(Refusal::from(error)),
        }
    }
    room.shared.forget("runs/");
    room.live.tell("jobs");
    let count = refused.len();
    match refused.into_iter().next() {
        None => Ok(()),
        Some(first) if targets.len() == 1 => Err(first),
        Some(first) => Err(Refusal {
            why: format!("{count} of {} were refused: {}", targets.len(), first.why),
            ..first
        }),
    }
}

fn all<'a>(form: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
}

fn one<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    all(form, name).last().copied().unwrap_or_default()
}

fn words(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Back to the table as it was.
fn back(query: &str) -> Redirect {
    Redirect::to(&View::of_query(query).unwrap_or_default().address())
}

/// `POST /marks/DEED` with `run`s: the buttons of the table.
pub async fn mark(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(deed): Path<String>,
    Form(form): Form<Vec<(String, String)>>,
) -> Answer<impl IntoResponse> {
    who.demand(Role::User)?;
    let tags = || words(one(&form, "tags"));
    let deed = match deed.as_str() {
        "star" => Deed::Star,
        "unstar" => Deed::Unstar,
        "archive" => Deed::Archive,
        "unarchive" => Deed::Unarchive,
        "tag" if tags().is_empty() => return Err(Refusal::bad("write a tag into the field first")),
        "tag" => Deed::Tag(tags(), vec![]),
        "untag" if tags().is_empty() => {
            return Err(Refusal::bad("write a tag into the field first"));
        }
        "untag" => Deed::Tag(vec![], tags()),
        _ => return Err(Refusal::missing("there is no such mark")),
    };
    // A star's own button names its run; the boxes that are ticked do not matter then.
    let runs: Vec<String> = match one(&form, "only") {
        "" => all(&form, "run").into_iter().map(str::to_owned).collect(),
        only => vec![only.to_owned()],
    };
    apply(&room, &targets(&room, &runs).await?, &deed).await?;
    Ok(back(one(&form, "back")))
}

/// `GET /open/SCREEN` with `run`s: the same runs on another screen.
pub async fn open(
    Path(screen): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<Redirect> {
    let runs = all(&pairs, "run");
    if runs.is_empty() {
        return Err(Refusal::bad("no run is chosen: tick the boxes before their names first"));
    }
    if !matches!(screen.as_str(), "compare" | "curves" | "pictures") {
        return Err(Refusal::missing("there is no such screen"));
    }
    let runs: Vec<String> = runs.iter().take(MOST).map(|run| super::view::encoded(run)).collect();
    Ok(Redirect::to(&format!("/{screen}?runs={}", runs.join(","))))
}

/// `GET /marks/edit?run=ID`: name, tags and note of a run.
pub async fn edit(
    State(room): State<Arc<Room>>,
    who: Who,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer<impl IntoResponse> {
    let target = targets(&room, &[one(&pairs, "run").to_owned()]).await?[0];
    let run = room.database.run(target.id).await?;
    let archived = run.archived_at.is_some();
    let body = html! {
        p { a href=(format!("/runs/{}", run.short)) { (run.short) } " of " (run.owner) ", " (run.experiment) }
        form method="post" action="/marks/edit" {
            (csrf_input(&who))
            input type="hidden" name="run" value=(run.id);
            input type="hidden" name="back" value=(one(&pairs, "back"));
            p { label.above { "Name" input name="name" value=(run.name) required maxlength="100"; } }
            p { label.above { "Tags, with spaces between them"
                input name="tags" value=(run.tags.join(" ")) size="50"; } }
            p { label.above { "Note" textarea name="note" maxlength="10000" { (run.note.as_deref().unwrap_or("")) } } }
            p { label {
                input type="checkbox" name="archived" value="1" checked[archived];
                "Archived: lists leave it out, nothing is lost"
            } }
            div.row { button.main { "Save" } a.button href="/runs" { "Back" } }
        }
    };
    let title = format!("Marks of {}", run.name);
    let page = Page { title: &title, screen: "/runs", who: &who, scripts: &[], styles: &[], body };
    Ok(page.into_response())
}

/// `POST /marks/edit`.
pub async fn write(
    State(room): State<Arc<Room>>,
    who: Who,
    Form(form): Form<Vec<(String, String)>>,
) -> Answer<impl IntoResponse> {
    who.demand(Role::User)?;
    let targets = targets(&room, &[one(&form, "run").to_owned()]).await?;
    let run = room.database.run(targets[0].id).await?;
    let tags = words(one(&form, "tags"));
    let removed = run.tags.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
    let name = one(&form, "name");
    // Browsers send line breaks as two characters.
    let note = one(&form, "note").replace("\r\n", "\n");
    if name != run.name {
        apply(&room, &targets, &Deed::Rename(name.to_owned())).await?;
    }
    apply(&room, &targets, &Deed::Tag(tags, removed)).await?;
    apply(&room, &targets, &Deed::Note(note)).await?;
    let archived = !one(&form, "archived").is_empty();
    if archived != run.archived_at.is_some() {
        let deed = if archived { Deed::Archive } else { Deed::Unarchive };
        apply(&room, &targets, &deed).await?;
    }
    Ok(back(one(&form, "back")))
}
