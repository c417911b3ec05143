//! A table with the paper's numbers and those of the registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use scheduler::{Blocking, Evaluation};
use serde::{Deserialize, Serialize};

use super::request::Lacks;
use super::{Column, Part, Profile, Request, Table, Work};
use crate::extractor::Config;
use crate::scores::Interval;
use crate::scoring::{Depends, Matching, Scores};

/// A filled table.
#[derive(Serialize)]
pub struct Filled {
    /// Name of the table.
    pub table: String,
    /// What it shows.
    pub title: String,
    /// Groups of columns.
    pub groups: Vec<(String, Vec<Column>)>,
    /// Its rows, from the top.
    pub lines: Vec<Line>,
}

/// A system in a block: one row of the table.
#[derive(Serialize)]
pub struct Line {
    /// Heading of the block.
    pub block: String,
    /// The system.
    pub system: String,
    /// By group.
    pub cells: BTreeMap<String, Cell>,
}

/// What is known of a system in one group of columns.
#[derive(Serialize)]
pub struct Cell {
    /// The paper's numbers.
    pub paper: BTreeMap<Column, f64>,
    /// What was found here.
    pub here: Option<Here>,
    /// Why nothing was found here; none also where nothing is to be found.
    pub lacks: Option<String>,
}

/// Scores of the registry.
#[derive(Serialize)]
pub struct Here {
    /// The numbers.
    pub numbers: BTreeMap<Column, Interval>,
    /// All scores.
    pub scores: Scores,
    /// What they depend on.
    pub depends: Depends,
    /// What had no partner.
    pub matching: Matching,
    /// Run and step.
    pub run: Option<String>,
    /// The outputs.
    pub outputs: String,
    /// What they are compared with, where that is not beside them.
    pub reference: Option<String>,
    /// Every output's own scores.
    pub details: PathBuf,
    /// The images, by the table's name.
    pub set: String,
    /// The task.
    pub task: String,
    /// The outputs are a sampling job's.
    pub sampled: bool,
}

/// As `evaluator run` keeps them.
#[derive(Deserialize)]
struct Kept {
    #[serde(flatten)]
    scores: Scores,
    depends: Depends,
    matching: Matching,
}

impl Filled {
    /// Fills a table from the registry.
    ///
    /// # Errors
    /// Those of the database.
    pub fn new(
        table: &Table,
        profile: &Profile,
        extractors: &[Config],
        db: &Blocking,
    ) -> Result<Self> {
        let requests: Vec<_> = table
            .parts
            .iter()
            .flat_map(|part| part.rows.iter().map(move |row| (part, row)))
            .map(|(part, row)| (part, row, Request::of(part, row, profile, extractors)))
            .collect();
        let labels: Vec<String> = requests
            .iter()
            .filter_map(|(.., one)| Some(one.as_ref().ok()?.label.clone()))
            .collect();
        let found: BTreeMap<String, Evaluation> = db
            .wait(db.evaluations_labelled(&labels))?
            .into_iter()
            .map(|one| (one.label.clone(), one))
            .collect();
        let mut filled = Self {
            table: table.name.clone(),
            title: table.title.clone(),
            groups: table
                .groups
                .iter()
                .map(|one| (one.name.clone(), one.columns.clone()))
                .collect(),
            lines: Vec::new(),
        };
        for (part, row, request) in requests {
            let columns = table.columns(&part.group).unwrap_or_default();
            let (here, lacks) = match request {
                Err(Lacks::Paper) => (None, None),
                Err(Lacks::Place(place)) => (None, Some(place)),
                Ok(request) => match found.get(&request.label) {
                    None => (None, Some("not scored yet (`evaluator submit`)".to_owned())),
                    Some(scored) => (Some(Here::new(scored, &request, part, columns, db)?), None),
                },
            };
            let cell = Cell { paper: row.paper.clone(), here, lacks };
            filled.line(&part.block, &row.system).cells.insert(part.group.clone(), cell);
        }
        Ok(filled)
    }

    /// The line of a system; a block's lines stay together, whichever group they came with.
    fn line(&mut self, block: &str, system: &str) -> &mut Line {
        let own = |line: &Line| line.block == block;
        let found = self.lines.iter().position(|line| own(line) && line.system == system);
        let at = found.unwrap_or_else(|| {
            let at = self.lines.iter().rposition(own).map_or(self.lines.len(), |last| last + 1);
            let (block, system) = (block.to_owned(), system.to_owned());
            self.lines.insert(at, Line { block, system, cells: BTreeMap::new() });
            at
        });
        &mut self.lines[at]
    }
}

impl Here {
    fn new(
        evaluation: &Evaluation,
        request: &Request,
        part: &Part,
        columns: &[Column],
        db: &Blocking,
    ) -> Result<Self> {
        let kept: Kept = serde_json::from_value(evaluation.scores.clone())?;
        let number = |column: &Column| Some((*column, column.of(&kept.scores)?));
        let run = match evaluation.run_id {
            Some(id) => {
                let run = db.wait(db.find_run(&id.to_string()))?;
                Some(format!("{}@{}", run.name, evaluation.step.unwrap_or_default()))
            }
            None => None,
        };
        Ok(Self {
            numbers: columns.iter().filter_map(number).collect(),
            scores: kept.scores,
            depends: kept.depends,
            matching: kept.matching,
            run,
            outputs: evaluation.outputs_uri.clone(),
            reference: evaluation.reference_uri.clone(),
            details: request.details.clone(),
            set: part.set.clone(),
            task: part.task.to_string(),
            sampled: matches!(request.work, Work::Run { .. }),
        })
    }
}
