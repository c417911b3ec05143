//! A table of the paper as a TOML file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use contracts::ConfigError;
use pipeline::degrade::Evaluation;
use serde::Deserialize;
use terminal::Usage;

use crate::scores::Score;

/// A table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What it is called: the file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Groups of columns, such as one a dataset.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    /// What is scored.
    #[serde(rename = "part")]
    pub parts: Vec<TablePart>,
}

/// Columns beside each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its heading; empty where there is one group only.
    #[serde(default)]
    pub name: String,
    /// Its columns.
    pub columns: Vec<Score>,
}

/// Systems that do the same task on the same images.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TablePart {
    /// Heading of its rows; parts with the same block and other groups share their rows.
    #[serde(default)]
    pub block: String,
    /// The group of columns that its numbers are in.
    #[serde(default)]
    pub group: String,
    /// The images, by the name that a profile gives a place.
    pub set: String,
    /// What FID and KID compare with, by such a name; the images themselves where it is left out.
    pub distribution: Option<String>,
    /// Task and degradation.
    pub task: Evaluation,
    /// Outputs of each image.
    #[serde(default = "one")]
    pub samples: u32,
    /// The systems.
    #[serde(rename = "row")]
    pub rows: Vec<TableRow>,
}

fn one() -> u32 {
    1
}

/// A system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRow {
    /// What the table calls it.
    pub system: String,
    /// A run of ours, by the name that a profile gives one.
    pub run: Option<String>,
    /// Another system's outputs, by the name that a profile gives a folder.
    pub outputs: Option<String>,
    /// The photographs themselves.
    #[serde(default)]
    pub reference: bool,
    /// The paper's numbers.
    #[serde(default)]
    pub paper: BTreeMap<Score, f64>,
}

impl Table {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// For a file that cannot be read and for contradictions, naming what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let mut table: Self = contracts::read(path).map_err(Usage::of)?;
        table.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match table.contradiction() {
            None => Ok(table),
            Some(error) => Err(Usage::of(error.of(path.display().to_string())).into()),
        }
    }

    fn contradiction(&self) -> Option<ConfigError> {
        let other = |message: String| Some(ConfigError::other("", message));
        let names: BTreeSet<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
        if names.len() < self.groups.len() {
            return other("two groups have one name".to_owned());
        }
        let mut rows = BTreeSet::new();
        for part in &self.parts {
            let TablePart { block, group, .. } = part;
            let Some(columns) = self.columns(group) else {
                return other(format!("part `{block}`: no group is called `{group}`"));
            };
            if !(1..=1000).contains(&part.samples) {
                let key = format!("part `{block}`: samples");
                return Some(ConfigError::value(key, part.samples, "1 to 1000"));
            }
            for row in &part.rows {
                let system = &row.system;
                let ways = [row.run.is_some(), row.outputs.is_some(), row.reference];
                if ways.into_iter().filter(|&way| way).count() > 1 {
                    return other(format!(
                        "`{system}`: one of run, outputs and reference, not two"
                    ));
                }
                if let Some(column) = row.paper.keys().find(|column| !columns.contains(column)) {
                    let column = column.heading();
                    return other(format!("`{system}`: the table has no column {column}"));
                }
                if !rows.insert((block, group, system)) {
                    return other(format!("`{system}` is twice in `{block}`"));
                }
            }
        }
        None
    }

    /// The columns of a group.
    pub fn columns(&self, group: &str) -> Option<&[Score]> {
        let found = self.groups.iter().find(|one| one.name == group);
        found.map(|one| one.columns.as_slice())
    }
}
