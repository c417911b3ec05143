//! Datasets as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pipeline::Dataset;
use pipeline::dataset::{Rejects, Spread};
use pipeline::order::Permutation;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::catalogue::{self, Known, State as Condition};
use super::inside::{self, Inside, Listed};
use super::pictures::PARTS;
use super::show::{Show, View};
use crate::work::Long;
use crate::{Answer, Refusal, Room, Who};

/// Pictures of a page.
pub const PAGE: u64 = 24;

/// A dataset that is known.
#[derive(Serialize, ToSchema)]
pub struct DatasetRow {
    /// SHA-256 of its manifest; empty for a place that the server was given and where there is none.
    pub digest: String,
    /// Its name.
    pub name: String,
    /// Where it was seen last.
    pub place: String,
    /// Images.
    pub rows: u64,
    /// Runs that read it.
    pub runs: i64,
    /// When the registry first knew it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub recorded_at: Option<OffsetDateTime>,
    /// `there`, `elsewhere` (in an object store, not looked at yet) or `lost`.
    pub state: &'static str,
    /// Why it is lost.
    pub problem: Option<String>,
    /// Its split, where it was looked at.
    pub split: Option<String>,
    /// Its classes, where it was looked at.
    pub classes: Option<usize>,
    /// Its shards, where it was looked at.
    pub shards: Option<usize>,
    /// Bytes of its shards, where it was looked at.
    pub bytes: Option<u64>,
    /// What it was made from, where it was looked at.
    pub sources: Vec<String>,
}

impl From<&Known> for DatasetRow {
    fn from(known: &Known) -> Self {
        let Known { digest, name, place, rows, runs, recorded, state } = known.clone();
        let (word, problem, about) = match state {
            Condition::There(about) => ("there", None, Some(about)),
            Condition::Elsewhere => ("elsewhere", None, None),
            Condition::Lost(why) => ("lost", Some(why), None),
        };
        Self {
            digest,
            name,
            place,
            rows,
            runs,
            recorded_at: recorded,
            state: word,
            problem,
            split: about.as_ref().map(|about| about.split.clone()),
            classes: about.as_ref().map(|about| about.classes),
            shards: about.as_ref().map(|about| about.shards),
            bytes: about.as_ref().map(|about| about.bytes),
            sources: about.map(|about| about.sources).unwrap_or_default(),
        }
    }
}

/// The datasets that runs read, and those that the server was given.
#[utoipa::path(get, path = "/api/v1/datasets", responses((status = 200, body = Vec<DatasetRow>)))]
pub async fn all(State(room): State<Arc<Room>>, _: Who) -> Answer<Json<Vec<DatasetRow>>> {
    Ok(Json(catalogue::all(&room).await?.iter().map(DatasetRow::from).collect()))
}

/// A source of a dataset.
#[derive(Serialize, ToSchema)]
pub struct Source {
    /// File or folder.
    pub name: String,
    /// What it was taken for.
    pub layout: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// Images that its publisher says it has.
    pub published: Option<u64>,
}

/// A dataset.
#[derive(Serialize, ToSchema)]
pub struct DatasetFacts {
    /// SHA-256 of its manifest.
    pub digest: String,
    /// Its name.
    pub name: String,
    /// Its split.
    pub split: String,
    /// Where it is.
    pub place: String,
    /// Images.
    pub rows: u64,
    /// Shards.
    pub shards: usize,
    /// Bytes of its shards.
    pub bytes: u64,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// What it was made from.
    pub sources: Vec<Source>,
    /// How it was ingested.
    #[schema(value_type = Object)]
    pub options: serde_json::Value,
    /// What became of the files of its sources.
    pub counts: Counts,
    /// How it was cut out of another dataset.
    pub cut: Option<String>,
    /// The newest runs that read it, and what for.
    pub runs: Vec<Reader>,
}

/// A run that reads a dataset.
#[derive(Serialize, ToSchema)]
pub struct Reader {
    /// Its name.
    pub run: String,
    /// `train`, `validation` or `preview`.
    pub role: String,
}

/// What became of the files of the sources.
#[derive(Serialize, ToSchema)]
pub struct Counts {
    /// Stored images.
    pub accepted: u64,
    /// Files that are no usable image.
    pub rejected: u64,
    /// Images with the bytes of an earlier one.
    pub duplicates: u64,
    /// Images on the other side of a cut into parts.
    pub left_out: u64,
    /// Stored images that are listed all the same.
    pub noted: u64,
    /// Stored images without a label, where others have one.
    pub unlabelled: u64,
}

/// What a dataset says of itself.
pub async fn facts(room: &Room, dataset: &Dataset) -> Answer<DatasetFacts> {
    let manifest = dataset.manifest();
    let counts = manifest.counts;
    let key = format!("data.readers.{}", dataset.digest());
    let readers = async { Ok(room.database.readers_of(dataset.digest(), 50).await?) };
    let readers = room.shared.get(&key, std::time::Duration::from_secs(5), readers).await?;
    Ok(DatasetFacts {
        digest: dataset.digest().to_owned(),
        name: manifest.name.clone(),
        split: manifest.split.clone(),
        place: dataset.store().place().to_string(),
        rows: dataset.len(),
        shards: manifest.shards.len(),
        bytes: manifest.shards.iter().map(|shard| shard.bytes).sum(),
        classes: manifest.classes.clone(),
        sources: manifest
            .sources
            .iter()
            .map(|source| Source {
                name: source.name.clone(),
                layout: source.layout.clone(),
                bytes: source.bytes,
                sha256: source.sha256.clone(),
                published: source.published,
            })
            .collect(),
        options: manifest.options.clone(),
        counts: Counts {
            accepted: counts.accepted,
            rejected: counts.rejected,
            duplicates: counts.duplicates,
            left_out: counts.left_out,
            noted: counts.noted,
            unlabelled: counts.unlabelled,
        },
        cut: manifest.cut.as_ref().map(|cut| cut.how.clone()),
        runs: readers
            .iter()
            .map(|(run, role)| Reader {
                run: run.clone(),
                role: format!("{role:?}").to_lowercase(),
            })
            .collect(),
    })
}

/// A dataset's manifest, and the runs that read it.
#[utoipa::path(get, path = "/api/v1/datasets/{digest}",
    params(("digest" = String, Path, description = "SHA-256 of the manifest")),
    responses((status = 200, body = DatasetFacts)))]
pub async fn one(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(digest): Path<String>,
) -> Answer<Json<DatasetFacts>> {
    let (_, dataset) = catalogue::open(&room, &digest).await?;
    Ok(Json(facts(&room, &dataset).await?))
}

/// Smallest, middle and largest.
#[derive(Serialize, ToSchema)]
pub struct Range {
    /// Smallest.
    pub min: u64,
    /// Middle.
    pub median: u64,
    /// Largest.
    pub max: u64,
}

impl From<Spread> for Range {
    fn from(Spread { min, median, max }: Spread) -> Self {
        Self { min, median, max }
    }
}

/// Files that are listed for one reason.
#[derive(Serialize, ToSchema)]
pub struct Reason {
    /// The reason.
    pub reason: String,
    /// How many.
    pub files: u64,
    /// The first of them.
    pub first: String,
}

/// A file of the list.
#[derive(Serialize, ToSchema)]
pub struct ListedFile {
    /// Its name.
    pub key: String,
    /// Archive or folder that it is in.
    pub source: String,
    /// Why it is listed.
    pub reason: String,
    /// The row that shows it, or the stored image of the same bytes or name.
    pub row: Option<u64>,
}

impl From<&Listed> for ListedFile {
    fn from(Listed { file, row }: &Listed) -> Self {
        let (key, source) = (file.key.clone(), file.source.clone());
        Self { key, source, reason: file.reason.clone(), row: *row }
    }
}

/// What is in a dataset.
#[derive(Serialize, ToSchema)]
pub struct DatasetInside {
    /// Images by format.
    pub formats: BTreeMap<String, u64>,
    /// Images by class.
    pub classes: BTreeMap<String, u64>,
    /// Shorter sides in pixels.
    pub short_side: Range,
    /// Longer sides in pixels.
    pub long_side: Range,
    /// Bytes of an image.
    pub file_bytes: Range,
    /// Images by shorter side in pixels.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub short_sides: BTreeMap<u64, u64>,
    /// Images that EXIF says are turned.
    pub turned: u64,
    /// Images that are smaller copies, made at ingest.
    pub copies: u64,
    /// Why files were left out.
    pub rejected: Vec<Reason>,
    /// Why stored images are listed.
    pub noted: Vec<Reason>,
    /// The first files that were left out.
    pub rejected_files: Vec<ListedFile>,
    /// The first stored images that are listed.
    pub noted_files: Vec<ListedFile>,
}

pub fn reasons(listed: &BTreeMap<String, Rejects>) -> Vec<Reason> {
    let reason = |(reason, rejects): (&String, &Rejects)| Reason {
        reason: reason.clone(),
        files: rejects.files,
        first: rejects.first.clone(),
    };
    listed.iter().map(reason).collect()
}

/// What is not made yet: how far it is.
#[derive(Serialize, ToSchema)]
pub struct NotYet {
    /// Steps that are done.
    pub done: u64,
    /// Of how many; 0 where that is not known.
    pub of: u64,
}

/// What is in a dataset: sizes, formats, classes, rejects. The first who asks has it read, which takes seconds for a
/// million images; until then the answer is 202.
#[utoipa::path(get, path = "/api/v1/datasets/{digest}/inside",
    params(("digest" = String, Path, description = "SHA-256 of the manifest")),
    responses((status = 200, body = DatasetInside), (status = 202, body = NotYet)))]
pub async fn inside(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(digest): Path<String>,
) -> Answer<Response> {
    let (_, dataset) = catalogue::open(&room, &digest).await?;
    let inside = match inside::read(&room, &dataset).await? {
        Long::Done(inside) => inside,
        Long::Running(done, of) => {
            return Ok((StatusCode::ACCEPTED, Json(NotYet { done, of })).into_response());
        }
    };
    let Inside { summary, rejects, noted, .. } = &*inside;
    let body = DatasetInside {
        formats: summary.formats.clone(),
        classes: summary.classes.clone(),
        short_side: summary.short_side.into(),
        long_side: summary.long_side.into(),
        file_bytes: summary.file_bytes.into(),
        short_sides: summary.histograms.short_side.0.clone(),
        turned: summary.turned,
        copies: summary.copies,
        rejected: reasons(&summary.rejects),
        noted: reasons(&summary.noted),
        rejected_files: rejects.iter().map(ListedFile::from).collect(),
        noted_files: noted.iter().map(ListedFile::from).collect(),
    };
    Ok(Json(body).into_response())
}

/// A photograph of a sample.
#[derive(Serialize, ToSchema)]
pub struct Sample {
    /// Its row.
    pub row: u64,
    /// Its key; none where the row cannot be read.
    pub key: Option<String>,
    /// Why the row cannot be read.
    pub problem: Option<String>,
    /// Addresses of its pictures: `target` alone of a photograph as it is, else `source`, `mask` and `target`.
    pub pictures: BTreeMap<String, String>,
}

/// A page of a random sample.
#[derive(Serialize, ToSchema)]
pub struct Samples {
    /// Photographs that the sample is drawn from.
    pub of: u64,
    /// The page, from 0.
    pub page: u64,
    /// Pages.
    pub pages: u64,
    /// The photographs.
    pub samples: Vec<Sample>,
}

/// A page of the sample that a view asks for: the same for the same seed.
pub async fn sample(room: &Room, dataset: &Arc<Dataset>, view: &View) -> Answer<Samples> {
    let (show, side) = (view.shown()?, view.side()?);
    let chosen = match view.class {
        None => None,
        Some(class) => match inside::read(room, dataset).await? {
            Long::Done(inside) if class < inside.classes.len() => Some((inside, class)),
            Long::Done(_) => {
                return Err(Refusal::missing(format!("the dataset has no class {class}")));
            }
            Long::Running(..) => {
                return Err(Refusal::later("the classes are still being read; reload in a moment"));
            }
        },
    };
    let of = match &chosen {
        None => dataset.len(),
        Some((inside, class)) => inside.classes[*class].len() as u64,
    };
    let permutation = Permutation::new(of, view.seed);
    let first = view.page.saturating_mul(PAGE);
    let rows: Vec<u64> = (first..first.saturating_add(PAGE).min(of).max(first))
        .map(|at| permutation.apply(at))
        .map(|at| match &chosen {
            None => at,
            Some((inside, class)) => u64::from(inside.classes[*class][at as usize]),
        })
        .collect();
    let seed = view.seed;
    let dataset = Arc::clone(dataset);
    let work = move || {
        let one = |row: u64| {
            let key = dataset.key(row);
            Sample {
                row,
                pictures: addresses(dataset.digest(), row, show, side, seed),
                problem: key.as_ref().err().map(ToString::to_string),
                key: key.ok(),
            }
        };
        Ok(rows.into_iter().map(one).collect())
    };
    let samples = room.work.short(work).await?;
    Ok(Samples { of, page: view.page, pages: of.div_ceil(PAGE), samples })
}

/// The addresses of a row's pictures.
pub fn addresses(
    digest: &str,
    row: u64,
    show: Show,
    side: u32,
    seed: u64,
) -> BTreeMap<String, String> {
    let address = |part: &str| {
        let address =
            format!("/data/pictures/{digest}/{row}/{part}?show={show}&seed={seed}&size={side}");
        (part.to_owned(), address)
    };
    match show {
        Show::Photograph => [address("target")].into(),
        _ => PARTS.into_iter().map(address).collect(),
    }
}

/// A page of a random sample of a dataset, the same for the same seed, with what a degradation makes of each.
#[utoipa::path(get, path = "/api/v1/datasets/{digest}/samples",
    params(
        ("digest" = String, Path, description = "SHA-256 of the manifest"),
        ("seed" = Option<u64>, Query, description = "what the sample is drawn by"),
        ("page" = Option<u64>, Query, description = "page of 24, from 0"),
        ("class" = Option<usize>, Query, description = "of this class alone, by its index"),
        ("show" = Option<String>, Query,
            description = "photograph, train:TASK, or an evaluation such as jpeg:10"),
        ("size" = Option<u32>, Query, description = "side of the pictures, 8 to 1024"),
    ),
    responses((status = 200, body = Samples)))]
pub async fn samples(
    State(room): State<Arc<Room>>,
    _: Who,
    Path(digest): Path<String>,
    Query(view): Query<View>,
) -> Answer<Json<Samples>> {
    let (_, dataset) = catalogue::open(&room, &digest).await?;
    Ok(Json(sample(&room, &dataset, &view).await?))
}

/// A row of a dataset.
#[derive(Serialize, ToSchema)]
pub struct RowFacts {
    /// Its place in the dataset, from 0.
    pub row: u64,
    /// Its name.
    pub key: String,
    /// Its class.
    pub class: Option<String>,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// SHA-256 of the source's file, where the bytes are a copy.
    pub source_sha256: Option<String>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `jpeg`, `png` or `webp`.
    pub format: String,
    /// Bytes.
    pub bytes: usize,
    /// Archive or folder that it came from.
    pub source: String,
    /// File name in the source.
    pub path: String,
    /// How EXIF says it is turned; 1 is upright.
    pub orientation: u8,
}

/// Refuses a row that a dataset does not have.
///
/// # Errors
/// 404 with the number of rows.
pub fn demand_row(dataset: &Dataset, row: u64) -> Answer<()> {
    let rows = dataset.len();
    match row < rows {
        true => Ok(()),
        false => {
            Err(Refusal::missing(format!("there is no row {row}; the dataset has {rows}, from 0")))
        }
    }
}

/// What is known of a row; its bytes are compared with their digest.
pub async fn row_facts(room: &Room, dataset: &Arc<Dataset>, row: u64) -> Answer<RowFacts> {
    demand_row(dataset, row)?;
    let dataset = Arc::clone(dataset);
    let work = move || {
        let record = dataset.record(row).map_err(|error| Refusal::conflict(error.to_string()))?;
        let class = record.label.and_then(|label| usize::try_from(label).ok());
        Ok(RowFacts {
            row,
            class: class.and_then(|class| dataset.manifest().classes.get(class)).cloned(),
            key: record.key,
            sha256: record.sha256,
            source_sha256: record.source_sha256,
            width: record.width,
            height: record.height,
            format: record.format,
            bytes: record.bytes.len(),
            source: record.source,
            path: record.path,
            orientation: record.orientation,
        })
    };
    room.work.short(work).await
}

/// A row of a dataset. Its pictures are `/data/pictures/DIGEST/ROW/source`, `mask` and `target`, with `show`, `seed`
/// and `size` as for samples.
#[utoipa::path(get, path = "/api/v1/datasets/{digest}/rows/{row}",
    params(
        ("digest" = String, Path, description = "SHA-256 of the manifest"),
        ("row" = u64, Path, description = "place in the dataset, from 0"),
    ),
    responses((status = 200, body = RowFacts)))]
pub async fn row(
    State(room): State<Arc<Room>>,
    _: Who,
    Path((digest, row)): Path<(String, u64)>,
) -> Answer<Json<RowFacts>> {
    let (_, dataset) = catalogue::open(&room, &digest).await?;
    Ok(Json(row_facts(&room, &dataset, row).await?))
}
