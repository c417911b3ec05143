//! Rows of datasets of outputs, at any place: opened once for many who look, read without those before.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use outputs::{OutputDataset, OutputImage};
use storage::Place;

use crate::{Answer, Refusal, Room};

/// For how long an opened dataset is taken to be what it was.
const AGE: Duration = Duration::from_secs(30);

/// What every PNG file begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The dataset of outputs at a place that the database names.
///
/// # Errors
/// Where the place is none, is gone, or holds something else.
pub async fn open(room: &Room, place: &str) -> Answer<Arc<OutputDataset>> {
    let parsed = Place::stored(place).map_err(|error| Refusal::conflict(error.to_string()))?;
    let opening = room.work.short(move || {
        OutputDataset::open(&parsed).map_err(|error| Refusal::conflict(error.to_string()))
    });
    room.shared.get(&format!("rows.{place}"), AGE, opening).await
}

/// An image of a row as an answer.
///
/// # Errors
/// Past the end; where it cannot be read, or is no PNG file.
pub async fn image(
    room: &Room,
    dataset: &Arc<OutputDataset>,
    row: u64,
    image: OutputImage,
) -> Answer<Response> {
    let dataset = Arc::clone(dataset);
    let work = move || {
        let found = dataset.image(row, image);
        let found = found.map_err(|error| Refusal::conflict(error.to_string()))?;
        let end = dataset.len();
        let found = found.ok_or_else(|| {
            Refusal::missing(format!("there is no row {row}; the dataset has {end}, from 0"))
        })?;
        match found.starts_with(PNG) {
            true => Ok(found),
            false => {
                Err(Refusal::conflict(format!("row {row}: {} is no PNG file", image.column())))
            }
        }
    };
    Ok(png(room.work.short(work).await?))
}

/// A picture that never changes at its address.
pub fn png(bytes: Vec<u8>) -> Response {
    const HEADERS: [(header::HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, "private, max-age=86400, immutable"),
    ];
    (HEADERS, Body::from(bytes)).into_response()
}

/// The image that a column's name names.
///
/// # Errors
/// For any other name.
pub fn column(name: &str) -> Answer<OutputImage> {
    let found = OutputImage::ALL.into_iter().find(|image| image.column() == name);
    found.ok_or_else(|| {
        Refusal::missing("an output has the images source, mask, output and reference")
    })
}
