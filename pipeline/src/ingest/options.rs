//! What a user says of an ingest.

use std::path::PathBuf;

use super::holdout::Holdout;
use super::layout::LayoutKind;
use crate::config::within;
use storage::{Place, Reach, Source};

use crate::{Error, Result};

/// What is done with images whose very bytes were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// Left out and listed among the rejects.
    Skip,
    /// Kept and counted.
    Keep,
}

/// What is done with images that are damaged and can be decoded all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Left out and listed among the rejects.
    #[default]
    Reject,
    /// Stored with the pixels that the decoder makes of them, and listed.
    Keep,
}

/// What to ingest and how.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// Archives and folders, in order.
    pub sources: Vec<Source>,
    /// How far one goes to read those that are far away.
    pub reach: Reach,
    /// Layout of all sources; recognized for each where absent.
    pub layout: Option<LayoutKind>,
    /// Address of the dataset, a folder or a prefix in an object store.
    pub out: Place,
    /// Name of the dataset; that of the first source where absent.
    pub name: Option<String>,
    /// Split; by the layout where absent.
    pub split: Option<String>,
    /// Labels that lie beside the sources: a list, or ImageNet's devkit.
    pub labels: Option<PathBuf>,
    /// Names of the classes in the order of their labels, one a line.
    pub classes: Option<PathBuf>,
    /// A dataset whose classes settle the order of the labels, as `classes` does.
    pub classes_from: Option<Place>,
    /// Column of parquet files that holds the labels; by type and name where absent.
    pub label_column: Option<String>,
    /// Take only what is below the folder of this name; `.` takes splits side by side for classes.
    pub split_folder: Option<String>,
    /// Store copies whose shorter side has this many pixels, where the image is larger.
    pub short_side: Option<u32>,
    /// Store upright copies of images whose EXIF orientation says that they are not.
    pub upright: bool,
    /// JPEG quality of copies.
    pub quality: u8,
    /// Payload after which a shard is closed.
    pub shard_bytes: u64,
    /// Decoding threads; 0 takes all cores.
    pub workers: usize,
    /// Duplicates: kept for official archives and skipped elsewhere where absent.
    pub duplicates: Option<Duplicates>,
    /// Damage that can be decoded.
    pub on_damage: OnDamage,
    /// Store one side only of a cut into training and held-out images.
    pub holdout: Option<Holdout>,
    /// Stop after this many stored images.
    pub limit: Option<u64>,
    /// Replace a finished dataset in the place.
    pub overwrite: bool,
}

impl IngestOptions {
    /// What is done to images before they are stored.
    pub(super) fn copy(&self) -> Copying {
        let Self { short_side, upright, quality, on_damage, .. } = *self;
        Copying { short_side, upright, quality, on_damage }
    }

    /// Shards of 256 MB and everything else by the layout.
    pub fn new<S: Into<Source>>(sources: Vec<S>, out: Place) -> Self {
        Self {
            sources: sources.into_iter().map(Into::into).collect(),
            reach: Reach::default(),
            layout: None,
            out,
            name: None,
            split: None,
            labels: None,
            classes: None,
            classes_from: None,
            label_column: None,
            split_folder: None,
            short_side: None,
            upright: false,
            quality: 95,
            shard_bytes: 256 << 20,
            workers: 0,
            duplicates: None,
            on_damage: OnDamage::Reject,
            holdout: None,
            limit: None,
            overwrite: false,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.sources.is_empty() {
            return Err(Error::config("SOURCE", "empty", "at least one archive or folder"));
        }
        if self.classes.is_some() && self.classes_from.is_some() {
            return Err(Error::config("--classes-from", "given", "not together with --classes"));
        }
        if let Some(side) = self.short_side {
            within("--short-side", side, 8, 4096)?;
        }
        within("--quality", self.quality, 1, 100)?;
        within("--shard-bytes", self.shard_bytes, 1 << 16, 2 << 30)?;
        within("--workers", self.workers, 0, 1024)?;
        if let Some(holdout) = &self.holdout {
            holdout.validate()?;
        }
        within("--limit", self.limit.unwrap_or(1), 1, u64::MAX)?;
        for (what, name) in [("--name", &self.name), ("--split", &self.split)] {
            if let Some(name) = name {
                check_name(what, name)?;
            }
        }
        Ok(())
    }
}

/// Checks a name that becomes a part of file names; `what` is what messages call it.
///
/// # Errors
/// Says what is allowed.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(known) {
        return Ok(());
    }
    let allowed = "1 to 100 letters, digits, `_`, `-`, `.`, not beginning with a dot";
    Err(Error::config(what, format!("`{name}`"), allowed))
}

/// What is done to an image before it is stored; nothing by default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copying {
    /// Shorter side of smaller copies.
    pub(super) short_side: Option<u32>,
    /// Turn by EXIF orientation.
    pub(super) upright: bool,
    /// JPEG quality of copies.
    pub(super) quality: u8,
    /// Whether damage that can be decoded is stored.
    pub(super) on_damage: OnDamage,
}
