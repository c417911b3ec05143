//! Pictures of rows: the photograph, or source, mask and target of a degradation.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use pipeline::image::{Window, decode_region};
use pipeline::{Dataset, DegradationConfig, Degraded, ImageSize, degrade};

use super::show::{Show, View};
use super::{api, catalogue};
use crate::{Answer, Refusal, Room, Who, rows};

/// The parts of a pair that have a picture.
pub const PARTS: [&str; 3] = ["source", "mask", "target"];

pub async fn picture(
    State(room): State<Arc<Room>>,
    _: Who,
    Path((digest, row, part)): Path<(String, u64, String)>,
    Query(view): Query<View>,
) -> Answer<Response> {
    let (show, side, seed) = (view.shown()?, view.side()?, view.seed);
    if !PARTS.contains(&part.as_str()) {
        return Err(Refusal::missing("a pair has the pictures source, mask and target"));
    }
    let (_, dataset) = catalogue::open(&room, &digest).await?;
    api::demand_row(&dataset, row)?;
    let work = move || {
        draw(&dataset, row, show, side, seed, &part)
            .map_err(|error| Refusal::conflict(error.to_string()))
    };
    Ok(rows::png(room.work.short(work).await?))
}

/// A part of the pair that a row becomes, as a PNG file.
fn draw(
    dataset: &Dataset,
    row: u64,
    show: Show,
    side: u32,
    seed: u64,
    part: &str,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (key, bytes) = dataset.photograph(row)?;
    let cut = decode_region(&bytes, ImageSize::square(side), Window::CENTER, false);
    let target =
        cut.and_then(|region| region.cut()).map_err(|error| dataset.damaged(row, &error))?;
    let degraded = match (show, part) {
        (_, "target") | (Show::Photograph, _) => return Ok(pictures::png(&target)?),
        // Each row has a draw of its own.
        (Show::Train(task), _) => degrade::train(
            task,
            &DegradationConfig::default(),
            &target,
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(row),
        )?,
        (Show::Evaluate(evaluation), _) => evaluation.apply(&target, seed, &key)?,
    };
    let Degraded { source, mask } = degraded;
    let picture = if part == "mask" { pictures::from_mask(&mask) } else { source };
    Ok(pictures::png(&picture)?)
}
