//! The server of the rating page. A rater has a link with a secret and nothing else: no cookie, no
//! name. Everything that decides is decided here and in the database: which trial is next, which
//! picture lies on which side, whether a pair was shown for its time, that the first answer stays.
//!
//! | | |
//! |---|---|
//! | `GET /r/TOKEN` | the page |
//! | `GET /r/TOKEN/standing` | how far the rater is: `{trial, answered, trials, seconds, started}` |
//! | `POST /r/TOKEN/start` | they agree and begin; gives their standing |
//! | `GET /r/TOKEN/picture/TRIAL/SIDE` | a picture of the next trial; of any other there is none |
//! | `POST /r/TOKEN/shown/TRIAL` | its pair is about to be shown |
//! | `POST /r/TOKEN/answer/TRIAL` | an answer; gives the new standing, also when it was sent before |
//!
//! Addresses in the page are relative, so that a proxy may serve it under any path.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use registry::{Answered, Database, NewAnswer, RatedBy, RaterInput, Side, Uuid};
use serde::{Deserialize, Serialize};

use super::seldom::Seldom;

const PAGE: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");
const MISSING: &str = include_str!("page/missing.html");

/// Bytes of a request's body, at most: an answer has some 120.
const BODY: usize = 4096;

/// What no answer goes without: nothing from elsewhere is loaded, nothing is kept, nobody is told
/// where the rater came from.
const HEADERS: [(header::HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// What is served.
struct Served {
    database: Database,
    study: Uuid,
}

/// The rating page of a study.
pub fn router(database: Database, study: Uuid) -> Router {
    Router::new()
        .route("/r/{token}", get(page))
        .route("/r/{token}/standing", get(standing))
        .route("/r/{token}/start", post(start))
        .route("/r/{token}/picture/{trial}/{side}", get(picture))
        .route("/r/{token}/shown/{trial}", post(shown))
        .route("/r/{token}/answer/{trial}", post(answer))
        .route("/page.js", get(async || text("text/javascript; charset=utf-8", SCRIPT)))
        .route("/page.css", get(async || text("text/css; charset=utf-8", STYLE)))
        .fallback(async || Refusal::Missing)
        .method_not_allowed_fallback(async || Refusal::Missing)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::map_response(with_headers))
        .with_state(Arc::new(Served { database, study }))
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}

/// Why a request is not done.
enum Refusal {
    /// There is no such thing, or not for this rater, or not now.
    Missing,
    /// The request is none that the page sends.
    Bad(String),
    /// The trial is not one that can be answered now.
    NotShown,
    /// The database does not answer; the page tries again.
    Later,
}

impl From<registry::Error> for Refusal {
    fn from(error: registry::Error) -> Self {
        if let registry::Error::Invalid(why) = error {
            return Self::Bad(why);
        }
        static UNANSWERED: Seldom = Seldom::new();
        if UNANSWERED.is_due(Instant::now()) {
            tracing::error!("{error}");
        }
        Self::Later
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::Missing => return (StatusCode::NOT_FOUND, Html(MISSING)).into_response(),
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why),
            Self::NotShown => (StatusCode::CONFLICT, "the pair was not shown for its time".into()),
            Self::Later => (StatusCode::SERVICE_UNAVAILABLE, "try again".into()),
        };
        #[derive(Serialize)]
        struct Why {
            error: String,
        }
        (status, Json(Why { error: why })).into_response()
    }
}

/// The rater whose link was followed.
struct Rater(RatedBy);

impl FromRequestParts<Arc<Served>> for Rater {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, served: &Arc<Served>) -> Result<Self, Refusal> {
        // The only part of an address that every one of the routes has.
        let token = parts.uri.path().split('/').nth(2).unwrap_or_default();
        let rater = served.database.rater(served.study, token).await?;
        rater.map(Self).ok_or(Refusal::Missing)
    }
}

/// How far the rater is, as the page sees it.
#[derive(Serialize)]
struct Standing {
    /// The next trial; none at the end.
    trial: Option<i32>,
    answered: i64,
    trials: i64,
    seconds: f64,
    started: bool,
}

async fn page(_: Rater) -> Html<&'static str> {
    Html(PAGE)
}

async fn standing(
    State(served): State<Arc<Served>>,
    Rater(rater): Rater,
) -> Result<Json<Standing>, Refusal> {
    let standing = served.database.standing(rater.id).await?;
    Ok(Json(Standing {
        trial: standing.next,
        answered: standing.answered,
        trials: standing.trials,
        seconds: rater.seconds,
        started: rater.started,
    }))
}

async fn start(
    State(served): State<Arc<Served>>,
    Rater(rater): Rater,
) -> Result<Json<Standing>, Refusal> {
    served.database.start_rater(rater.id).await?;
    standing(State(served), Rater(RatedBy { started: true, ..rater })).await
}

async fn picture(
    State(served): State<Arc<Served>>,
    Rater(rater): Rater,
    Path((_, trial, side)): Path<(String, String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let side = match side.as_str() {
        "left" => Side::Left,
        "right" => Side::Right,
        _ => return Err(Refusal::Missing),
    };
    let trial = number(&trial)?;
    let picture = served.database.trial_picture(rater.id, trial, side).await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture.ok_or(Refusal::Missing)?))
}

async fn shown(
    State(served): State<Arc<Served>>,
    Rater(rater): Rater,
    Path((_, trial)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    match served.database.show_trial(rater.id, number(&trial)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NotShown),
    }
}

/// An answer as the page sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    chosen: Side,
    shown_ms: f64,
    response_ms: f64,
    interrupted: bool,
    input: RaterInput,
}

async fn answer(
    State(served): State<Arc<Served>>,
    Rater(rater): Rater,
    Path((_, trial)): Path<(String, String)>,
    sent: Result<Json<Sent>, JsonRejection>,
) -> Result<Json<Standing>, Refusal> {
    let Json(sent) = sent.map_err(|rejection| Refusal::Bad(rejection.body_text()))?;
    let Sent { chosen, shown_ms, response_ms, interrupted, input } = sent;
    let trial = number(&trial)?;
    let answer = NewAnswer { trial, chosen, shown_ms, response_ms, interrupted, input };
    match served.database.answer_trial(rater.id, &answer).await? {
        Answered::Kept | Answered::Before => standing(State(served), Rater(rater)).await,
        Answered::NotShown => Err(Refusal::NotShown),
    }
}

fn number(text: &str) -> Result<i32, Refusal> {
    text.parse().map_err(|_| Refusal::Missing)
}
