//! One fixed input of a run at a step: all of its pictures, the error, and its course.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use registry::{Picture, PicturePart};
use serde::Serialize;
use utoipa::ToSchema;

use super::bytes::{between, blocking, load};
use super::grid::{Image, escaped, number, pairs};
use super::shared;
use super::view::{Shown, tools, view};
use crate::format::count;
use crate::page::Page;
use crate::{Answer, Refusal, Room, Who};

/// Pictures of an input that are read, at most.
const MOST: i64 = 4096;

/// A fixed input of a run at a step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Input {
    /// The run's id.
    pub run: String,
    /// Its short id.
    pub short: String,
    /// Its name.
    pub name: String,
    /// Which of its inputs.
    pub input: i32,
    /// The task.
    pub task: String,
    /// The key of the photograph.
    pub key: String,
    /// The step of the outputs.
    pub step: i64,
    /// What the network was given.
    pub source: Option<Image>,
    /// White where it was to generate.
    pub mask: Option<Image>,
    /// The photograph.
    pub reference: Option<Image>,
    /// What it made.
    pub outputs: Vec<Output>,
    /// The first sample of every step that is kept.
    pub course: Vec<AtStep>,
}

/// An output with how far it is from the photograph.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Output {
    /// Which sample.
    pub sample: i32,
    /// The picture.
    pub image: Image,
    /// PSNR against the photograph in dB; none where they are equal or cannot be compared.
    pub psnr: Option<f64>,
    /// Where the map of its error is served.
    pub error: Option<String>,
}

/// An output of another step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AtStep {
    /// The step.
    pub step: i64,
    /// The picture.
    pub image: Image,
}

/// An input of a run with all of its pictures.
#[utoipa::path(
    get, path = "/api/v1/pictures/input", tag = "pictures",
    params(
        ("run" = String, Query, description = "Name or id"),
        ("input" = i32, Query, description = "Which of its inputs, from 0"),
        ("step" = Option<i64>, Query, description = "The step, or the nearest before; the last where none is named"),
    ),
    responses((status = 200, body = Input), (status = 404, description = "There is no such run or input"))
)]
pub async fn api(State(room): State<Arc<Room>>, RawQuery(query): RawQuery) -> Answer<Json<Input>> {
    Ok(Json(Input::clone(&*find(&room, query.as_deref()).await?)))
}

/// `GET /pictures/input`.
pub async fn page(
    State(room): State<Arc<Room>>,
    who: Who,
    RawQuery(query): RawQuery,
) -> Answer<impl IntoResponse> {
    let input = find(&room, query.as_deref()).await?;
    let title = format!("{} of {}", input.task, input.key);
    let page = Page {
        title: &title,
        screen: "/pictures",
        who: &who,
        scripts: &["pictures.js"],
        styles: &["pictures.css"],
        body: body(&input),
    };
    Ok(page.into_response())
}

async fn find(room: &Room, query: Option<&str>) -> Answer<Arc<Input>> {
    let (mut run, mut input, mut step) = (None, None, None);
    for (name, value) in pairs(query) {
        match name.as_str() {
            "run" => run = Some(value),
            "input" => input = Some(number(&value, "input")?),
            "step" if !value.is_empty() => step = Some(number(&value, "step")?),
            _ => {}
        }
    }
    let run = run.ok_or_else(|| Refusal::bad("run is missing: ?run=RUN&input=NUMBER"))?;
    let input = input.and_then(|input| i32::try_from(input).ok());
    let input = input
        .ok_or_else(|| Refusal::bad("input is missing, or too large: ?run=RUN&input=NUMBER"))?;
    let key = format!("pictures/input/{run:?}/{input}/{step:?}");
    shared(room, &key, Duration::from_secs(5), Box::pin(make(room, &run, input, step))).await
}

async fn make(room: &Room, run: &str, input: i32, step: Option<i64>) -> Answer<Input> {
    let run = room.database.find_run(run).await?;
    let pictures = room.database.pictures_of_input(run.id, input, MOST).await?;
    let outputs = || pictures.iter().filter(|one| one.part == PicturePart::Output);
    let before = outputs().map(|one| one.step).filter(|one| step.is_none_or(|step| *one <= step));
    let missing = || {
        Refusal::missing(format!(
            "run {} has no pictures of input {input} up to that step; `/pictures?runs={}` shows what there is",
            run.short, run.short
        ))
    };
    let step = before.max().ok_or_else(missing)?;
    let first = pictures.first().ok_or_else(missing)?;
    let part = |part: PicturePart| pictures.iter().find(|one| one.part == part);
    let reference = part(PicturePart::Reference);
    let mut made = Vec::new();
    let at_step: Vec<&Picture> = outputs().filter(|one| one.step == step).collect();
    for output in at_step {
        made.push(compared(room, output, reference).await);
    }
    let course = outputs().filter(|one| one.sample == 0);
    Ok(Input {
        run: run.id.to_string(),
        short: run.short.clone(),
        name: run.name.clone(),
        input,
        task: first.task.clone(),
        key: first.key.clone(),
        step,
        source: part(PicturePart::Source).map(Image::of),
        mask: part(PicturePart::Mask).map(Image::of),
        reference: reference.map(Image::of),
        outputs: made,
        course: course.map(|one| AtStep { step: one.step, image: Image::of(one) }).collect(),
    })
}

/// An output beside the photograph; what cannot be read or compared has no score.
async fn compared(room: &Room, output: &Picture, reference: Option<&Picture>) -> Output {
    let psnr = match reference {
        Some(reference) => score(room, &output.digest, &reference.digest).await.ok(),
        None => None,
    };
    let error = reference
        .map(|reference| format!("/pictures/{}/error/{}", output.digest, reference.digest));
    Output {
        sample: output.sample,
        image: Image::of(output),
        psnr: psnr.filter(|psnr| psnr.is_finite()),
        error,
    }
}

/// The PSNR of two pictures; it never changes.
async fn score(room: &Room, output: &str, reference: &str) -> Answer<f64> {
    let make = async {
        let (output, reference) = (load(room, output).await?, load(room, reference).await?);
        blocking(move || Ok(between(&output, &reference)?.psnr)).await
    };
    let key = format!("pictures/psnr/{output}/{reference}");
    Ok(*shared(room, &key, Duration::from_secs(3600), Box::pin(make)).await?)
}

fn body(input: &Input) -> Markup {
    let address = |step: i64| {
        format!("/pictures/input?run={}&input={}&step={step}", escaped(&input.short), input.input)
    };
    let at = input.course.iter().position(|one| one.step == input.step);
    let step = |at: Option<usize>| at.and_then(|at| input.course.get(at)).map(|one| one.step);
    let (earlier, later) = (step(at.and_then(|at| at.checked_sub(1))), step(at.map(|at| at + 1)));
    html! {
        p.row {
            a href=(format!("/runs/{}", input.short)) { (input.name) }
            span.quiet { "input " (input.input) ", step " (count(input.step)) }
            @if let Some(step) = earlier { a.button #earlier href=(address(step)) rel="prev" { "◀ " (count(step)) } }
            @if let Some(step) = later { a.button #later href=(address(step)) rel="next" { (count(step)) " ▶" } }
            a href=(format!("/pictures?runs={}&step={}", escaped(&input.short), input.step)) { "All inputs at this step" }
        }
        (tools(true))
        div.panels {
            @for output in &input.outputs {
                @let shown = Shown::from(&output.image);
                (panel("Output", &score_text(output.psnr), view("output", "output", &shown, input.source.as_ref().map(Shown::from).as_ref(), None)))
                @if let Some(error) = &output.error {
                    @let error = Shown { url: error.clone(), small: error.clone(), size: shown.size };
                    (panel("Error", ERROR, view("error", "difference from the photograph", &error, None, None)))
                }
            }
            @for (name, alt, image) in [
                ("Given", "what the network was given", &input.source),
                ("Mask", "white where the network generates", &input.mask),
                ("Photograph", "the photograph", &input.reference),
            ] {
                @if let Some(image) = image { (panel(name, alt, view(name, alt, &Shown::from(image), None, None))) }
            }
        }
        h2 { "Through the training" }
        div.course {
            @for one in &input.course {
                a href=(address(one.step)) aria-current=[(one.step == input.step).then_some("true")] {
                    (thumbnail(&one.image, one.step))
                    span.small { (count(one.step)) }
                }
            }
        }
    }
}

/// What an error map shows.
pub const ERROR: &str = "|output − photograph|: black is equal, white 64 levels of 255 or more";

fn thumbnail(image: &Image, step: i64) -> Markup {
    html! {
        img src=(image.small) alt=(format!("step {step}")) width=(image.width) height=(image.height) loading="lazy";
    }
}

/// A picture with what it is.
pub fn panel(name: &str, what: &str, picture: Markup) -> Markup {
    html! {
        figure.panel {
            (picture)
            figcaption { b { (name) } " " span.quiet.small { (what) } }
        }
    }
}

/// A score as it stands below an output.
pub fn score_text(psnr: Option<f64>) -> String {
    psnr.map_or_else(String::new, |psnr| format!("PSNR {psnr:.2} dB"))
}
