//! A profile: where a laboratory has what the tables name. Paths start from the current folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::ConfigError;
use serde::Deserialize;
use terminal::Usage;

/// What a laboratory has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where outputs of sampling jobs and scores of single outputs go.
    pub out: PathBuf,
    /// The side of all pictures in pixels.
    pub size: u32,
    /// Configurations of the extractors.
    pub extractors: Vec<PathBuf>,
    /// Splits of the Inception Score.
    #[serde(default = "splits")]
    pub splits: u32,
    /// Images in a subset of KID, at most.
    #[serde(default = "subset")]
    pub kid_subset: u32,
    /// Further arguments of `sampler submit`.
    #[serde(default)]
    pub sampler: Vec<String>,
    /// Datasets of photographs by the names that tables use.
    #[serde(default)]
    pub sets: BTreeMap<String, String>,
    /// Runs (RUN, RUN@best, RUN@latest, RUN@STEP) by the names that tables use.
    #[serde(default)]
    pub runs: BTreeMap<String, String>,
    /// Outputs of other systems, folders or datasets, by the names that tables use.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// Human studies by the names of tables.
    #[serde(default)]
    pub studies: BTreeMap<String, String>,
}

fn splits() -> u32 {
    10
}

fn subset() -> u32 {
    crate::scores::kernel::SUBSET
}

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// For a file that cannot be read, unknown keys and values out of range.
    pub fn read(path: &Path) -> Result<Self> {
        let profile: Self = contracts::read(path).map_err(Usage::of)?;
        if !(8..=4096).contains(&profile.size) {
            let error = ConfigError::value("size", profile.size, "8 to 4096 pixels");
            return Err(Usage::of(error.of(path.display().to_string())).into());
        }
        Ok(profile)
    }
}
