//! The bytes of pictures, by digest.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pictures::RgbImage;
use pipeline::image::{self, Format, Limits};
use registry::pictures::picture_address;
use storage::Store;
use tokio::sync::Semaphore;

use crate::{Answer, Refusal, Room};

/// Pictures that are read and decoded at once; others wait.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Pixels of the largest picture that is decoded here: its pixels take 16 bytes each on the way.
const PIXELS: u64 = 16_000_000;

/// Bytes of the longest file that is served.
pub const LONGEST: u64 = 64 << 20;

/// `GET /pictures/DIGEST`: the file as it was stored.
pub async fn whole(
    State(room): State<Arc<Room>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    if let Some(known) = known(&headers, &digest) {
        return Ok(known);
    }
    let bytes = load(&room, &digest).await?;
    picture(bytes, &digest, true)
}

/// `GET /pictures/DIGEST/small`: at most 96 pixels a side, a JPEG.
pub async fn small(
    State(room): State<Arc<Room>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let tag = format!("{digest}-small");
    if let Some(known) = known(&headers, &tag) {
        return Ok(known);
    }
    check(&digest)?;
    let bytes = room.database.thumbnail(&digest).await?.ok_or_else(unknown)?;
    picture(bytes, &tag, true)
}

/// `GET /pictures/DIGEST/error/REFERENCE`: the difference of two pictures, a PNG.
pub async fn error(
    State(room): State<Arc<Room>>,
    Path((digest, reference)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let tag = format!("{digest}-{reference}");
    if let Some(known) = known(&headers, &tag) {
        return Ok(known);
    }
    let (output, reference) = (load(&room, &digest).await?, load(&room, &reference).await?);
    let map =
        blocking(move || pictures::png(&between(&output, &reference)?.map).map_err(failed)).await?;
    picture(map, &tag, true)
}

/// The file of a picture that a run has, whichever store holds it.
pub async fn load(room: &Room, digest: &str) -> Answer<Vec<u8>> {
    check(digest)?;
    let files = room.database.picture_files(digest).await?;
    if files.is_empty() {
        return Err(unknown());
    }
    let mut missing = None;
    for file in files {
        let (folder, name) = picture_address(&file.run_uri, digest)?;
        let (place, expected) = (folder.clone(), digest.to_owned());
        let most = u64::try_from(file.bytes).unwrap_or(0).min(LONGEST);
        let read = blocking(move || {
            let bytes = Store::open(&place).and_then(|store| store.read(&name, most));
            let bytes = bytes.map_err(|error| Refusal::later(error.to_string()))?;
            Ok(bytes.filter(|bytes| storage::atomic::sha256(bytes) == expected))
        });
        match read.await {
            Ok(Some(bytes)) => return Ok(bytes.to_vec()),
            Ok(None) => {
                let host = file.host.as_deref().unwrap_or("an unknown host");
                missing.get_or_insert_with(|| {
                    Refusal::missing(format!(
                        "the picture is not in {folder}: it was written on {host}, and this server sees no such file; \
                         runs whose train.checkpoint.place is a store or a shared folder can be looked at from anywhere"
                    ))
                });
            }
            Err(refusal) => missing = Some(refusal),
        }
    }
    Err(missing.unwrap_or_else(unknown))
}

fn check(digest: &str) -> Answer<()> {
    picture_address("/", digest)
        .map(|_| ())
        .map_err(|_| Refusal::missing("there is no such picture"))
}

fn unknown() -> Refusal {
    Refusal::missing(
        "no run has this picture: it was drawn again, thinned out, or removed by `scheduler gc --pictures`",
    )
}

/// The answer that a browser has the picture already.
pub fn known(headers: &HeaderMap, tag: &str) -> Option<Response> {
    let quoted = format!("\"{tag}\"");
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|sent| sent.as_bytes() == quoted.as_bytes());
    known.then(|| StatusCode::NOT_MODIFIED.into_response())
}

/// The answer that is a picture; its kind is what its first bytes say. For good where the address names its content.
pub fn picture(bytes: Vec<u8>, tag: &str, for_good: bool) -> Answer<Response> {
    let format =
        Format::of(&bytes).map_err(|error| Refusal::conflict(format!("not a picture: {error}")))?;
    let cached = match for_good {
        true => "private, max-age=31536000, immutable",
        false => "private, no-cache",
    };
    let headers = [
        (header::CONTENT_TYPE, format!("image/{}", format.name())),
        (header::CACHE_CONTROL, cached.to_owned()),
        (header::ETAG, format!("\"{tag}\"")),
    ];
    Ok((headers, bytes).into_response())
}

/// What is between the pictures of two files.
pub fn between(output: &[u8], reference: &[u8]) -> Answer<pictures::Difference> {
    let (output, reference) = (decoded(output)?, decoded(reference)?);
    pictures::difference(&output, &reference).map_err(failed)
}

/// The pixels of a file, within what a few of them at once may take of the memory.
pub fn decoded(bytes: &[u8]) -> Answer<RgbImage> {
    let limits = Limits { pixels: PIXELS, ..Limits::DECODE };
    Ok(image::examine(bytes, &limits).map_err(failed)?.0.image)
}

pub fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::conflict(error.to_string())
}

/// Does what waits for files or takes a processor's time on a thread of its own, a few at once.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let turn = AT_ONCE.acquire().await.map_err(failed)?;
    // The work goes on when whoever asked has left, and keeps its turn.
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    let done = done.await;
    done.unwrap_or_else(|_| Err(Refusal::conflict("reading the picture ended badly")))
}
