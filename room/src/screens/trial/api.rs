//! Tries as JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pipeline::Task;
use registry::{
    NewTry, NewTryPicture, Run, RunRef, TRY_PROCESSES, Try, TryLimits, TryPart, TryPicture, Uuid,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};

use super::upload;
use crate::access::Role;
use crate::{Answer, Refusal, Room, Who};

/// How long an answer is good enough for other pages.
const AGE: Duration = Duration::from_millis(300);
/// Tries of a list, at most.
const MOST: i64 = 100;

/// A picture to try.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Whose weights: RUN, RUN@best, RUN@latest, RUN@STEP; or the place of a checkpoint.
    weights: String,
    /// colorization, inpainting, uncropping, jpeg or superresolution.
    task: String,
    /// The picture, a JPEG, PNG or WebP file of at most 8 MiB, in base64. Left out where `of` is given.
    #[serde(default)]
    picture: Option<String>,
    /// A file of the picture's size, white where pixels are to be made, in base64.
    #[serde(default)]
    mask: Option<String>,
    /// The picture, and the mask where none is given, are those of this try.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    of: Option<Uuid>,
    /// Name of the picture's file.
    #[serde(default)]
    name: Option<String>,
    /// `square` (the middle square at the network's size), `short-side` or `own`.
    #[serde(default = "square")]
    size: String,
    /// Pixels of the shorter side, for `short-side`.
    #[serde(default)]
    short_side: Option<i32>,
    /// The dark pixels of the mask are to be made.
    #[serde(default)]
    mask_invert: bool,
    /// Also where the network was not trained for the task.
    #[serde(default)]
    any_task: bool,
    /// The reverse process.
    #[serde(default = "process")]
    process: String,
    /// Its steps; as the process says where it is left out.
    #[serde(default)]
    steps: Option<i32>,
    /// Noise of ddim, 0 to 1.
    #[serde(default)]
    eta: f64,
    /// Outputs, 1 to 16.
    #[serde(default = "one_sample")]
    samples: i32,
    /// Seed of the noise.
    #[serde(default)]
    seed: i64,
}

impl Wanted {
    /// The same with the next seed.
    pub fn again(row: &Try) -> Self {
        Self {
            weights: row.weights.clone(),
            task: row.task.clone(),
            picture: None,
            mask: None,
            of: Some(row.id),
            name: None,
            size: row.framing.clone(),
            short_side: row.short_side,
            mask_invert: row.mask_invert,
            any_task: row.any_task,
            process: row.process.clone(),
            steps: row.steps,
            eta: row.eta,
            samples: row.samples,
            seed: row.seed.saturating_add(1),
        }
    }
}

fn square() -> String {
    "square".into()
}

fn process() -> String {
    TRY_PROCESSES[0].into()
}

fn one_sample() -> i32 {
    1
}

/// A try.
#[derive(Clone, Serialize, ToSchema)]
pub struct TryView {
    id: String,
    owner: String,
    name: String,
    weights: String,
    /// The step of the run that the weights are of, once they were read.
    step: Option<i64>,
    task: String,
    size: String,
    short_side: Option<i32>,
    process: String,
    steps: Option<i32>,
    eta: f64,
    samples: i32,
    seed: i64,
    /// waiting, running, done, failed or cancelled.
    state: String,
    /// Why it failed.
    reason: Option<String>,
    /// Steps of all samples together.
    steps_done: i64,
    steps_total: Option<i64>,
    /// It stays when old tries are removed.
    kept: bool,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// The job that makes or made it.
    job: Option<String>,
    /// Where one try was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pictures: Option<Vec<PictureView>>,
}

/// A picture of a try.
#[derive(Clone, Serialize, ToSchema)]
pub struct PictureView {
    /// input, mask, given, frame or output.
    what: String,
    sample: i32,
    /// The step that a frame is after.
    step: i32,
    width: i32,
    height: i32,
    sha256: String,
    bytes: i64,
    address: String,
}

impl From<&Try> for TryView {
    fn from(row: &Try) -> Self {
        let text = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        Self {
            id: row.id.to_string(),
            owner: row.owner.clone(),
            name: row.name.clone(),
            weights: row.weights.clone(),
            step: row.step,
            task: row.task.clone(),
            size: row.framing.clone(),
            short_side: row.short_side,
            process: row.process.clone(),
            steps: row.steps,
            eta: row.eta,
            samples: row.samples,
            seed: row.seed,
            state: row.state.name().into(),
            reason: row.reason.clone(),
            steps_done: row.steps_done,
            steps_total: row.steps_total,
            kept: row.kept,
            created_at: text(row.created_at),
            started_at: row.started_at.map(text),
            ended_at: row.ended_at.map(text),
            job: row.job_id.map(|job| registry::short(&job)),
            pictures: None,
        }
    }
}

impl From<&TryPicture> for PictureView {
    fn from(row: &TryPicture) -> Self {
        let what = match row.what {
            TryPart::Input => "input",
            TryPart::Mask => "mask",
            TryPart::Given => "given",
            TryPart::Frame => "frame",
            TryPart::Output => "output",
        };
        Self {
            what: what.into(),
            sample: row.sample,
            step: row.step,
            width: row.width,
            height: row.height,
            sha256: row.digest.clone(),
            bytes: row.size,
            address: address(&row.digest),
        }
    }
}

/// Where a picture is.
pub fn address(digest: &str) -> String {
    format!("/api/v1/tries/pictures/{digest}")
}

/// A try with its pictures, made once for all pages that show it.
pub async fn found(room: &Room, id: Uuid) -> Answer<Arc<(Try, Vec<TryPicture>)>> {
    let key = format!("try/one/{id}");
    let made =
        async { Ok((room.database.find_try(id).await?, room.database.try_pictures(id).await?)) };
    room.shared.get(&key, AGE, made).await
}

/// Which tries a list has.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Of this owner.
    owner: Option<String>,
    /// Made before this time (RFC 3339): the `created_at` of the last one of the page before.
    before: Option<String>,
    /// Maximum number, 1 to 100.
    limit: Option<i64>,
}

/// The newest tries.
#[utoipa::path(get, path = "/api/v1/tries", params(ListQuery), responses((status = 200, body = Vec<TryView>)))]
pub async fn list(
    State(room): State<Arc<Room>>,
    Query(query): Query<ListQuery>,
) -> Answer<Json<Vec<TryView>>> {
    let before = query.before.map(|text| OffsetDateTime::parse(&text, &Rfc3339)).transpose();
    let before =
        before.map_err(|_| Refusal::bad("`before` is no time such as 2026-01-31T12:00:00Z"))?;
    let limit = query.limit.unwrap_or(MOST).clamp(1, MOST);
    let rows = room.database.tries(query.owner.as_deref(), before, limit).await?;
    Ok(Json(rows.iter().map(TryView::from).collect()))
}

/// A try with its pictures.
#[utoipa::path(get, path = "/api/v1/tries/{id}", params(("id" = String, Path, description = "id of the try")), responses(
    (status = 200, body = TryView), (status = 404, description = "there is no such try")
))]
pub async fn one(State(room): State<Arc<Room>>, Path(id): Path<Uuid>) -> Answer<Json<TryView>> {
    let found = found(&room, id).await?;
    Ok(Json(view(&found.0, &found.1)))
}

fn view(row: &Try, pictures: &[TryPicture]) -> TryView {
    let pictures = pictures.iter().map(PictureView::from).collect();
    TryView { pictures: Some(pictures), ..TryView::from(row) }
}

/// Enters a picture to try. It is made as soon as somebody has time for it.
#[utoipa::path(post, path = "/api/v1/tries", request_body = Wanted, responses((status = 201, body = TryView)))]
pub async fn submit(
    State(room): State<Arc<Room>>,
    who: Who,
    Json(wanted): Json<Wanted>,
) -> Answer<(StatusCode, Json<TryView>)> {
    let made = enter(&room, &who, wanted).await?;
    Ok((StatusCode::CREATED, Json(TryView::from(&made))))
}

/// Enters a try.
///
/// # Errors
/// With what is wrong with it.
pub async fn enter(room: &Room, who: &Who, wanted: Wanted) -> Answer<Try> {
    who.demand(Role::User)?;
    let task: Task = wanted
        .task
        .parse()
        .map_err(|error: pipeline::Error| Refusal::bad(format!("task: {error}")))?;
    let earlier = match wanted.of {
        Some(id) => Some(room.database.find_try(id).await?),
        None => None,
    };
    let mut pictures = Vec::new();
    pictures.push(match (&wanted.picture, &earlier) {
        (Some(text), _) => {
            upload::checked(upload::decoded(text, "picture")?, TryPart::Input).await?
        }
        (None, Some(earlier)) => again(room, earlier.id, TryPart::Input)
            .await?
            .ok_or_else(|| Refusal::missing("the picture of that try is gone: choose it again"))?,
        (None, None) => return Err(Refusal::bad("there is no picture: choose one")),
    });
    if task.has_hole() {
        let mask = match (&wanted.mask, &earlier, &wanted.picture) {
            (Some(text), ..) => {
                Some(upload::checked(upload::decoded(text, "mask")?, TryPart::Mask).await?)
            }
            (None, Some(earlier), None) => again(room, earlier.id, TryPart::Mask).await?,
            _ => None,
        };
        let picture = &pictures[0];
        match mask {
            Some(mask) if (mask.width, mask.height) != (picture.width, picture.height) => {
                return Err(Refusal::bad(format!(
                    "the mask is {}×{}, the picture {}×{}: both must be of one size",
                    mask.width, mask.height, picture.width, picture.height
                )));
            }
            Some(mask) => pictures.push(mask),
            None if picture.media == "image/jpeg" => {
                return Err(Refusal::bad(format!(
                    "{task} needs a hole: paint one, mark a box, or give a mask"
                )));
            }
            // Of others the hole may have been erased.
            None => {}
        }
    }
    let (run, weights) = weights(room, wanted.weights.trim()).await?;
    let name = match (&wanted.name, &earlier) {
        (Some(name), _) => upload::name(name),
        (None, Some(earlier)) => earlier.name.clone(),
        (None, None) => "picture".into(),
    };
    let new = NewTry {
        owner: who.name.clone(),
        name,
        weights,
        run_id: run.map(|run| run.id),
        task: task.name().into(),
        short_side: wanted.short_side.filter(|_| wanted.size == "short-side"),
        framing: wanted.size,
        mask_invert: wanted.mask_invert,
        any_task: wanted.any_task,
        process: wanted.process,
        steps: wanted.steps,
        spacing: "linear".into(),
        eta: wanted.eta,
        samples: wanted.samples,
        seed: wanted.seed,
    };
    in_range(&new)?;
    let made = room.database.submit_try(new, pictures, TryLimits::default()).await?;
    room.shared.forget("try/");
    room.tries.wake();
    Ok(made)
}

/// What the database would refuse, in words.
fn in_range(new: &NewTry) -> Answer<()> {
    let range = |what: &str, ok: bool, allowed: &str| match ok {
        true => Ok(()),
        false => Err(Refusal::bad(format!("{what}: {allowed}"))),
    };
    range("samples", (1..=16).contains(&new.samples), "1 to 16")?;
    range("steps", new.steps.is_none_or(|steps| (1..=2000).contains(&steps)), "1 to 2000")?;
    range("seed", new.seed >= 0, "0 or more")?;
    range("eta", (0.0..=1.0).contains(&new.eta), "0 to 1")?;
    let side = match &*new.framing {
        "short-side" => new.short_side.is_some_and(|side| (8..=2048).contains(&side)),
        _ => true,
    };
    range("shorter side", side, "8 to 2048 pixels")
}

/// A picture of an earlier try.
async fn again(room: &Room, id: Uuid, what: TryPart) -> Answer<Option<NewTryPicture>> {
    let rows = room.database.try_pictures(id).await?;
    let Some(row) = rows.iter().find(|row| row.what == what) else { return Ok(None) };
    let Some((_, bytes)) = room.database.picture_of_try(id, what, 0).await? else {
        return Ok(None);
    };
    let media = match &*row.media {
        "image/jpeg" => "image/jpeg",
        "image/webp" => "image/webp",
        _ => "image/png",
    };
    let (width, height) = (row.width, row.height);
    Ok(Some(NewTryPicture { what, sample: 0, step: 0, width, height, media, bytes }))
}

/// The run that is meant, where it is one; its checkpoint must be there.
async fn weights(room: &Room, text: &str) -> Answer<(Option<Run>, String)> {
    if text.is_empty() {
        return Err(Refusal::bad("whose weights? Choose a run, such as RUN@best"));
    }
    if text.contains('/') {
        let place: Result<storage::Place, _> = text.parse();
        let place = place.map_err(|error| Refusal::bad(format!("weights: {error}")))?;
        return Ok((None, place.to_string()));
    }
    let reference: RunRef = text.parse().map_err(|why| Refusal::bad(format!("weights: {why}")))?;
    let (database, wanted) = (room.database.clone(), reference.clone());
    // Names are looked up by closures whose futures no handler may hold.
    let found = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(database.checkpoint(&wanted))
    });
    let (run, _) = found.await.map_err(|_| Refusal::later("the server ends"))??;
    Ok((Some(run), reference.to_string()))
}

/// What belongs to somebody else is changed by administrators alone.
async fn own(room: &Room, who: &Who, id: Uuid) -> Answer<Try> {
    let row = room.database.find_try(id).await?;
    match row.owner == who.name {
        true => who.demand(Role::User)?,
        false => who.demand(Role::Admin)?,
    }
    Ok(row)
}

/// Ends a try that waits or is made.
#[utoipa::path(post, path = "/api/v1/tries/{id}/cancel", params(("id" = String, Path, description = "id of the try")), responses((status = 200, body = TryView)))]
pub async fn cancel(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<Uuid>,
) -> Answer<Json<TryView>> {
    own(&room, &who, id).await?;
    let row = room.database.cancel_try(id).await?;
    room.shared.forget("try/");
    Ok(Json(TryView::from(&row)))
}

/// Whether a try is kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// It stays when old tries are removed.
    pub kept: bool,
}

/// Keeps a try when old ones are removed, or no longer.
#[utoipa::path(post, path = "/api/v1/tries/{id}/keep", params(("id" = String, Path, description = "id of the try")), request_body = Keep, responses((status = 200, body = TryView)))]
pub async fn keep(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<Uuid>,
    Json(keep): Json<Keep>,
) -> Answer<Json<TryView>> {
    own(&room, &who, id).await?;
    let row = room.database.keep_try(id, keep.kept).await?;
    room.shared.forget("try/");
    Ok(Json(TryView::from(&row)))
}

/// Removes a try with its pictures.
#[utoipa::path(delete, path = "/api/v1/tries/{id}", params(("id" = String, Path, description = "id of the try")), responses((status = 204)))]
pub async fn remove(
    State(room): State<Arc<Room>>,
    who: Who,
    Path(id): Path<Uuid>,
) -> Answer<StatusCode> {
    own(&room, &who, id).await?;
    room.database.remove_try(id).await?;
    room.shared.forget("try/");
    Ok(StatusCode::NO_CONTENT)
}

/// Makes what waits beside the server, on its CPU, and not on a worker.
#[utoipa::path(post, path = "/api/v1/tries/here", responses((status = 202)))]
pub async fn here(State(room): State<Arc<Room>>, who: Who) -> Answer<StatusCode> {
    who.demand(Role::User)?;
    room.tries.make_here();
    Ok(StatusCode::ACCEPTED)
}

/// How a picture is sent.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PictureQuery {
    /// Save it under this name.
    save: Option<String>,
}

/// A picture of a try by its SHA-256.
#[utoipa::path(get, path = "/api/v1/tries/pictures/{sha256}",
    params(("sha256" = String, Path, description = "SHA-256 of the picture"), PictureQuery), responses(
    (status = 200, content_type = "image/png"), (status = 404)))]
pub async fn picture(
    State(room): State<Arc<Room>>,
    _who: Who,
    Path(sha256): Path<String>,
    Query(query): Query<PictureQuery>,
) -> Answer<Response> {
    let found = room.database.try_picture(&sha256).await?;
    let (media, bytes) = found.ok_or_else(|| Refusal::missing("there is no such picture"))?;
    let mut response = ([(header::CONTENT_TYPE, media)], bytes).into_response();
    let headers = response.headers_mut();
    // What is named by its digest never changes.
    let forever = "private, max-age=31536000, immutable";
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(forever));
    if let Some(name) = query.save {
        let plain = upload::name(&name);
        let plain: String =
            plain.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let value = format!("attachment; filename=\"{plain}.png\"");
        if let Ok(value) = header::HeaderValue::try_from(value) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}
