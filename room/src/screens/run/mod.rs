//! Everything about one run, or one job of another kind, and its buttons.
//!
//! `/runs/ID` is a run, `/jobs/ID` a job that makes none; the id is a short id or a name, of several of one name the newest.
//! Buttons are forms that work without scripts: a refusal is the same page with the reason.

mod actions;
mod again;
mod buttons;
mod config;
mod lineage;
pub mod log;
mod page;
mod story;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json};
use registry::{Job, Kind, Run, Several};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{Page, fragment};
use crate::{Answer, Refusal, Room, Who};
use actions::{Action, Subject};
use again::{Again, Extended, More, Submitted};
use log::{Asked, Piece};
use page::Told;
use story::{JobStory, RunStory};

pub use config::text as toml_text;

/// How old an answer may be.
const AGE: Duration = Duration::from_secs(1);

/// The pages and their part of the API.
pub fn routes() -> OpenApiRouter<Arc<Room>> {
    OpenApiRouter::new()
        .routes(routes!(api_run))
        .routes(routes!(api_job))
        .routes(routes!(api_log))
        .routes(routes!(api_run_action))
        .routes(routes!(api_job_action))
        .routes(routes!(api_again))
        .routes(routes!(api_more))
        .route("/runs/{id}", get(run))
        .route("/runs/{id}/part/{part}", get(run_part))
        .route("/runs/{id}/do", post(run_do))
        .route("/runs/{id}/more", post(run_more))
        .route("/runs/{id}/again", get(again_form).post(again_sent))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/part/{part}", get(job_part))
        .route("/jobs/{id}/do", post(job_do))
        .route("/jobs/{id}/log.txt", get(log_text))
}

/// What a page says after a button was pressed.
#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

async fn find_run(room: &Room, id: &str) -> Answer<Run> {
    Ok(room.database.find_run(id).await?)
}

/// The run that is to be changed, or done again: named by one name alone.
async fn one_run(room: &Room, id: &str) -> Answer<Run> {
    let target = room.database.find_among(id, &[Kind::Run], Several::Refuse).await?;
    Ok(room.database.run(target.id).await?)
}

async fn find_job(room: &Room, id: &str) -> Answer<Job> {
    Ok(room.database.find_job(id).await?)
}

/// What is changed is named by one name alone.
async fn find_subject(room: &Room, id: &str, kind: Kind) -> Answer<Subject> {
    let kinds = if kind == Kind::Run { [Kind::Job, Kind::Run] } else { [Kind::Job, Kind::Job] };
    let target = room.database.find_among(id, &kinds, Several::Refuse).await?;
    Ok(match target.kind {
        Kind::Run => Subject::Run(Box::new(room.database.run(target.id).await?)),
        _ => Subject::Job(Box::new(room.database.job(target.id).await?)),
    })
}

async fn run_story(room: &Arc<Room>, id: &str) -> Answer<Arc<RunStory>> {
    let run = find_run(room, id).await?;
    room.shared.get(&format!("run/{}", run.id), AGE, story::run(room, run.id)).await
}

async fn job_story(room: &Arc<Room>, id: &str) -> Answer<Arc<JobStory>> {
    let job = find_job(room, id).await?;
    let key = format!("run/job/{}", job.id);
    room.shared.get(&key, AGE, story::job(room, job)).await
}

async fn run_page(room: &Arc<Room>, id: &str, told: &Told, who: &Who) -> Answer<Response> {
    let story = run_story(room, id).await?;
    let log = match &story.job {
        Some(_) => {
            let job = room.database.job(story.id).await?;
            Some(log::piece(room, &job, Asked::default()).await?)
        }
        None => None,
    };
    let body = page::run(&story, log.as_ref(), told, who);
    let title = story.name.clone();
    let page = Page {
        title: &title,
        screen: "/runs",
        who,
        scripts: &["run.js"],
        styles: &["run.css"],
        body,
    };
    Ok(page.into_response())
}

async fn job_page(room: &Arc<Room>, id: &str, told: &Told, who: &Who) -> Answer<Response> {
    let job = find_job(room, id).await?;
    if job.run_id == Some(job.id) {
        return Ok(Redirect::to(&format!("/runs/{}", job.short)).into_response());
    }
    let log = log::piece(room, &job, Asked::default()).await?;
    let story = job_story(room, &job.short).await?;
    let body = page::job(&story, &log, told, who);
    let title = story.name.clone();
    let page = Page {
        title: &title,
        screen: "/queue",
        who,
        scripts: &["run.js"],
        styles: &["run.css"],
        body,
    };
    Ok(page.into_response())
}

async fn run(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(Done { done }): Query<Done>,
    who: Who,
) -> Answer<Response> {
    run_page(&room, &id, &Told { done, error: None }, &who).await
}

async fn job(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(Done { done }): Query<Done>,
    who: Who,
) -> Answer<Response> {
    job_page(&room, &id, &Told { done, error: None }, &who).await
}

async fn run_part(
    State(room): State<Arc<Room>>,
    Path((id, part)): Path<(String, String)>,
    who: Who,
) -> Answer<impl IntoResponse> {
    let story = run_story(&room, &id).await?;
    Ok(fragment(match part.as_str() {
        "top" => page::run_top(&story),
        "rest" => page::run_rest(&story),
        "buttons" => page::buttons(&format!("/runs/{}", story.short), &story.buttons, &who),
        _ => return Err(Refusal::missing("there is no such part")),
    }))
}

async fn job_part(
    State(room): State<Arc<Room>>,
    Path((id, part)): Path<(String, String)>,
    who: Who,
) -> Answer<impl IntoResponse> {
    let story = job_story(&room, &id).await?;
    Ok(fragment(match part.as_str() {
        "top" => page::standing(&story),
        "rest" => page::job_rest(&story),
        "buttons" => page::buttons(&format!("/jobs/{}", story.short), &story.buttons, &who),
        _ => return Err(Refusal::missing("there is no such part")),
    }))
}

/// Does what a form asks.
async fn act(
    room: &Room,
    id: &str,
    kind: Kind,
    form: actions::Form,
    who: &Who,
) -> Answer<&'static str> {
    let action = form.action()?;
    let name = action.name();
    action.run(room, &find_subject(room, id, kind).await?, who).await?;
    Ok(name)
}

async fn run_do(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Form(form): Form<actions::Form>,
) -> Answer<Response> {
    let short = one_run(&room, &id).await?.short;
    match act(&room, &short, Kind::Run, form, &who).await {
        Ok(done) => Ok(Redirect::to(&format!("/runs/{short}?done={done}")).into_response()),
        Err(refusal) => refused(run_page(&room, &short, &told(&refusal), &who).await?, &refusal),
    }
}

async fn job_do(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Form(form): Form<actions::Form>,
) -> Answer<Response> {
    let target = room.database.find_among(&id, &[Kind::Job], Several::Refuse).await?;
    let short = registry::short(&target.id);
    match act(&room, &short, Kind::Job, form, &who).await {
        Ok(done) => Ok(Redirect::to(&format!("/jobs/{short}?done={done}")).into_response()),
        Err(refusal) => refused(job_page(&room, &short, &told(&refusal), &who).await?, &refusal),
    }
}

fn told(refusal: &Refusal) -> Told {
    Told { done: None, error: Some(refusal.why.clone()) }
}

/// The same page, with the status of what was refused.
fn refused(mut page: Response, refusal: &Refusal) -> Answer<Response> {
    *page.status_mut() = refusal.status;
    Ok(page)
}

async fn run_more(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Form(more): Form<MoreForm>,
) -> Answer<Response> {
    let run = one_run(&room, &id).await?;
    match again::extend(&room, &run, &More { steps: more.steps }).await {
        Ok(_) => Ok(Redirect::to(&format!("/runs/{}?done=more", run.short)).into_response()),
        Err(refusal) => {
            refused(run_page(&room, &run.short, &told(&refusal), &who).await?, &refusal)
        }
    }
}

/// With the token, which `More` does not know.
#[derive(Deserialize)]
struct MoreForm {
    steps: String,
}

async fn again_page(
    room: &Room,
    run: &Run,
    form: &again::Form,
    error: Option<&str>,
    who: &Who,
) -> Answer<Response> {
    let kept = room.database.checkpoints(run.id).await?;
    let steps: Vec<i64> = kept.iter().rev().map(|checkpoint| checkpoint.step).collect();
    let body = page::again(run, form, &steps, error, who);
    let title = format!("{} again", run.name);
    let page =
        Page { title: &title, screen: "/runs", who, scripts: &[], styles: &["run.css"], body };
    Ok(page.into_response())
}

async fn again_form(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
) -> Answer<Response> {
    let run = find_run(&room, &id).await?;
    again_page(&room, &run, &again::fresh(&run.config), None, &who).await
}

async fn again_sent(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Form(form): Form<again::Form>,
) -> Answer<Response> {
    let run = one_run(&room, &id).await?;
    let made = match form.again() {
        Ok(again) => again::submit(&room, &run, again, &who).await,
        Err(refusal) => Err(refusal),
    };
    match made {
        Ok(made) => Ok(Redirect::to(&format!("/runs/{}?done=again", made.run)).into_response()),
        Err(refusal) => {
            let page = again_page(&room, &run, &form, Some(&refusal.why), &who).await?;
            refused(page, &refusal)
        }
    }
}

async fn log_text(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer<impl IntoResponse> {
    let job = find_job(&room, &id).await?;
    let text = log::whole(&room, &job, asked).await?;
    let name = format!("attachment; filename=\"{}.log\"", job.short);
    Ok((
        [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
            (header::CONTENT_DISPOSITION, name),
        ],
        text,
    ))
}

/// A run: its configuration, job, attempts, checkpoints and who needs them, data, what was drawn with it, scores.
#[utoipa::path(get, path = "/api/v1/runs/{id}", params(("id" = String, Path, description = "short id or name")),
    responses((status = 200, body = RunStory), (status = 404, body = crate::refusal::Problem)))]
async fn api_run(State(room): State<Arc<Room>>, Path(id): Path<String>) -> Answer<Json<RunStory>> {
    Ok(Json(RunStory::clone(&*run_story(&room, &id).await?)))
}

/// A job: its state, attempts, what it waits for, what can be done with it.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", params(("id" = String, Path, description = "short id or name")),
    responses((status = 200, body = JobStory), (status = 404, body = crate::refusal::Problem)))]
async fn api_job(State(room): State<Arc<Room>>, Path(id): Path<String>) -> Answer<Json<JobStory>> {
    Ok(Json(JobStory::clone(&*job_story(&room, &id).await?)))
}

/// A piece of the log of an attempt: whole lines from a byte on, without control characters.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/log",
    params(("id" = String, Path, description = "short id or name"), Asked),
    responses((status = 200, body = Piece), (status = 404, body = crate::refusal::Problem)))]
async fn api_log(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer<Json<Piece>> {
    let job = find_job(&room, &id).await?;
    Ok(Json(log::piece(&room, &job, asked).await?))
}

/// Does something with a run, or with the job that makes it; gives the run as it is then.
#[utoipa::path(post, path = "/api/v1/runs/{id}/actions", request_body = Action,
    params(("id" = String, Path, description = "short id, or a name that one run alone has")),
    responses((status = 200, body = RunStory), (status = 409, body = crate::refusal::Problem)))]
async fn api_run_action(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Json(action): Json<Action>,
) -> Answer<Json<RunStory>> {
    let subject = find_subject(&room, &id, Kind::Run).await?;
    let id = match &subject {
        Subject::Job(job) => job.id,
        Subject::Run(run) => run.id,
    };
    action.run(&room, &subject, &who).await?;
    Ok(Json(story::run(&room, id).await?))
}

/// Does something with a job; gives the job as it is then.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/actions", request_body = Action,
    params(("id" = String, Path, description = "short id, or a name that one job alone has")),
    responses((status = 200, body = JobStory), (status = 409, body = crate::refusal::Problem)))]
async fn api_job_action(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Json(action): Json<Action>,
) -> Answer<Json<JobStory>> {
    let subject = find_subject(&room, &id, Kind::Job).await?;
    action.run(&room, &subject, &who).await?;
    let Subject::Job(job) = subject else { return Err(Refusal::missing("it is no job")) };
    let job = room.database.job(job.id).await?;
    Ok(Json(story::job(&room, job).await?))
}

/// Submits a run once more, with changes; whoever asks owns it.
#[utoipa::path(post, path = "/api/v1/runs/{id}/again", request_body = Again,
    params(("id" = String, Path, description = "short id or name")),
    responses((status = 200, body = Submitted), (status = 400, body = crate::refusal::Problem)))]
async fn api_again(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    who: Who,
    Json(again): Json<Again>,
) -> Answer<Json<Submitted>> {
    let run = one_run(&room, &id).await?;
    Ok(Json(again::submit(&room, &run, again, &who).await?))
}

/// Lets a run make another number of steps.
#[utoipa::path(post, path = "/api/v1/runs/{id}/more", request_body = More,
    params(("id" = String, Path, description = "short id or name")),
    responses((status = 200, body = Extended), (status = 400, body = crate::refusal::Problem)))]
async fn api_more(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Json(more): Json<More>,
) -> Answer<Json<Extended>> {
    let run = one_run(&room, &id).await?;
    Ok(Json(again::extend(&room, &run, &more).await?))
}
