//! A profile: where a laboratory has what the tables name. Paths start from the current folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use terminal::Usage;

use crate::extractor::Config;

/// What a laboratory has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where outputs of sampling jobs and scores of single outputs go, on this machine.
    #[serde(deserialize_with = "local_path")]
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

/// The extractors of a profile.
pub struct Extractors {
    /// Their configurations, as far as they are there.
    pub configs: Vec<Config>,
    /// Those whose configuration is missing: what is scored through all of them cannot be scored.
    pub missing: Vec<PathBuf>,
}

fn local_path<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<PathBuf, D::Error> {
    storage::local_path(&String::deserialize(from)?).map_err(Error::custom)
}

fn splits() -> u32 {
    10
}

fn subset() -> u32 {
    crate::scores::maths::kernel::SUBSET
}

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// For a file that cannot be read, unknown keys and values out of range.
    pub fn read(path: &Path) -> Result<Self> {
        let profile: Self = contracts::read(path).map_err(Usage::of)?;
        let Self { size, splits, kid_subset, .. } = profile;
        contracts::evaluation::check_numbers(Some(size), splits, kid_subset)
            .map_err(|error| Usage::of(error.of(path.display().to_string())))?;
        Ok(profile)
    }

    /// Reads the configurations of its extractors.
    ///
    /// # Errors
    /// For a configuration that cannot be read, and two that claim the same score.
    pub fn extractors(&self) -> Result<Extractors> {
        let (there, missing): (Vec<_>, Vec<_>) =
            self.extractors.iter().cloned().partition(|file| file.exists());
        let configs = there.iter().map(|file| Config::read(file)).collect::<Result<Vec<_>>>()?;
        Config::check_roles(&configs)?;
        Ok(Extractors { configs, missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_job_could_score_with_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        for (line, says) in [
            ("splits = 0", "splits is 0, allowed: 1 to 1000"),
            ("kid_subset = 1", "kid_subset is 1, allowed: 2 to 10000"),
        ] {
            std::fs::write(&file, format!("out = \"a\"\nsize = 32\nextractors = []\n{line}\n"))
                .unwrap();
            let message = Profile::read(&file).unwrap_err().to_string();
            assert!(message.contains("p.toml: ") && message.contains(says), "{message}");
        }
    }

    #[test]
    fn outputs_are_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let read = |out: &str| {
            std::fs::write(&file, format!("out = \"{out}\"\nsize = 32\nextractors = []\n"))
                .unwrap();
            Profile::read(&file)
        };
        assert_eq!(
            read("a/b").unwrap().out,
            Path::new("a/b"),
            "labels depend on it as it is typed"
        );
        assert_eq!(read("file:///a/b").unwrap().out, Path::new("/a/b"));
        let message = read("s3://bucket/out").unwrap_err().to_string();
        assert!(message.contains("out") && message.contains("not on this machine"), "{message}");
    }
}
