//! What a worker does with one file: decode it once in full, digest it, make the smaller copy where
//! one is asked for. A function of the file alone.

use sha2::{Digest, Sha256};
use storage::atomic;

use super::layout::Item;
use super::options::{Copying, OnDamage};
use super::plan::IngestPlan;
use crate::dataset::KEPT;
use crate::image::{Decoded, Limits, apply_orientation, examine, jpeg, orientation, shrink};
use crate::{Error, Result};

/// A file on its way to a worker.
pub(super) struct Job {
    pub(super) number: u64,
    source: usize,
    label: i64,
    item: Item,
}

impl Job {
    /// With several sources, keys begin with the name of theirs, so that they stay unique.
    pub(super) fn new(number: u64, source: usize, plan: &IngestPlan, mut item: Item) -> Self {
        let planned = &plan.sources[source];
        let label = item.class.and_then(|class| planned.classes.get(class).copied());
        if plan.sources.len() > 1 {
            item.key = format!("{}/{}", planned.name, item.key);
        }
        Self { number, source, label: label.unwrap_or(-1), item }
    }

    /// What it weighs in memory.
    pub(super) fn weight(&self) -> u64 {
        self.item.content.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

/// A file that a worker is through with.
pub(super) struct Done {
    pub(super) source: usize,
    pub(super) key: String,
    /// SHA-256 of the source's file, where it was read.
    pub(super) digest: Option<[u8; 32]>,
    /// The image, or the reason of its rejection.
    pub(super) image: Result<StoredImage, String>,
    pub(super) weight: u64,
}

/// An image as it is stored.
pub(super) struct StoredImage {
    pub(super) bytes: Vec<u8>,
    pub(super) path: String,
    pub(super) label: i64,
    pub(super) sha256: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: &'static str,
    /// How the stored pixels are turned, as EXIF says it, 1 to 8.
    pub(super) orientation: u8,
    /// SHA-256 of the source's file where `bytes` are a copy; else empty.
    pub(super) source_sha256: String,
    /// What is listed of it although it is stored.
    pub(super) note: Option<String>,
}

/// Checks, digests and, where it is asked for, makes a copy.
pub(super) fn work(job: Job, copying: &Copying) -> Done {
    let weight = job.weight();
    let Job { source, label, item, .. } = job;
    let Item { key, path, content, .. } = item;
    let digest = content.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
    let image = content.and_then(|bytes| {
        caught::panics(|| store(bytes, path, label, digest, copying))
            .unwrap_or_else(|_| Err(Error::Image("damaged: the decoder panicked".into())))
            .map_err(|error| error.to_string())
    });
    Done { source, key, digest, image, weight }
}

fn store(
    bytes: Vec<u8>,
    path: String,
    label: i64,
    digest: Option<[u8; 32]>,
    copying: &Copying,
) -> Result<StoredImage> {
    let (decoded, format) = examine(&bytes, &Limits::INGEST)?;
    let Decoded { mut image, damage, refused_elsewhere, remark } = decoded;
    if let (Some(damage), OnDamage::Reject) = (&damage, copying.on_damage) {
        return Err(Error::Image(format!("damaged: {damage}; stored with --on-damage keep")));
    }
    let orientation = orientation(&bytes);
    let (width, height) = image.dimensions();
    let sha256 = atomic::hex(&digest.unwrap_or_default());
    let shrinks = copying.short_side.filter(|&side| width.min(height) > side);
    let turns = copying.upright && orientation != 1;
    let damage = damage.map(|damage| format!("{KEPT} although damaged: {damage}"));
    if shrinks.is_none() && !turns {
        // What is wrong with a file and not with its pixels matters where its bytes are stored.
        let note = damage
            .or(refused_elsewhere.map(|why| format!("{KEPT}, opens here, not in Pillow: {why}")))
            .or(remark.map(|remark| format!("{KEPT} with a remark: {remark}")));
        return Ok(StoredImage {
            bytes,
            path,
            label,
            sha256,
            width,
            height,
            format: format.name(),
            orientation,
            source_sha256: String::new(),
            note,
        });
    }
    if turns {
        image = apply_orientation(image, orientation);
    }
    if let Some(side) = shrinks {
        image = shrink(&image, side)?;
    }
    let bytes = jpeg::encode(&image, copying.quality, jpeg::Codec::default())?;
    let (width, height) = image.dimensions();
    Ok(StoredImage {
        sha256: atomic::sha256(&bytes),
        bytes,
        path,
        label,
        width,
        height,
        format: "jpeg",
        orientation: if turns { 1 } else { orientation },
        source_sha256: sha256,
        note: damage,
    })
}
