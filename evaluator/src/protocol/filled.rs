//! A table with the paper's numbers and those of the registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use contracts::EvaluationRequest;
use registry::{Blocking, Evaluation, Job, JobFilter, JobKind, JobState};
use serde::{Deserialize, Serialize};

use super::compare::{Comparison, compare};
use super::request::Lacks;
use super::{Extractors, Profile, Request, Table, TablePart, Work};
use crate::pictures::NO_TASK;
use crate::scores::{Interval, Score};
use crate::scoring::{Depends, Matching, Scores};
use crate::study::rates::{Rate, rates};

/// A filled table.
#[derive(Serialize)]
pub struct Filled {
    /// Name of the table.
    pub table: String,
    /// What it shows.
    pub title: String,
    /// Groups of columns.
    pub groups: Vec<(String, Vec<Score>)>,
    /// Its rows, from the top.
    pub lines: Vec<Line>,
    /// Who is best in a column, and who is within noise of it.
    pub comparisons: Vec<Comparison>,
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
    pub paper: BTreeMap<Score, f64>,
    /// What was found here.
    pub here: Option<Here>,
    /// Fool rates of the study that the profile names, in percent.
    pub studied: BTreeMap<Score, Interval>,
    /// Why nothing was found here; none also where nothing is to be found.
    pub lacks: Option<String>,
}

/// Scores of the registry.
#[derive(Serialize)]
pub struct Here {
    /// The numbers.
    pub numbers: BTreeMap<Score, Interval>,
    /// All scores.
    pub scores: Scores,
    /// What they depend on.
    pub depends: Depends,
    /// What had no partner.
    pub matching: Matching,
    /// Run and step.
    pub run: Option<String>,
    /// The run, where it is one.
    pub trained: Option<TrainedRun>,
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

/// The run that outputs are from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TrainedRun {
    /// Name and step.
    pub name: String,
    /// By which commands find it.
    pub id: String,
    /// The revision of the code that trained it.
    pub revision: Option<String>,
    /// Where its checkpoints are.
    pub place: String,
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
        extractors: &Extractors,
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
        let mut found: BTreeMap<String, Vec<Evaluation>> = BTreeMap::new();
        for one in db.wait(db.evaluations_labelled(&labels))? {
            found.entry(one.label.clone()).or_default().push(one);
        }
        let queued = queued(db)?;
        let studied = studied(table, profile, db)?;
        let mut filled = Self {
            table: table.name.clone(),
            title: table.title.clone(),
            groups: table
                .groups
                .iter()
                .map(|one| (one.name.clone(), one.columns.clone()))
                .collect(),
            lines: Vec::new(),
            comparisons: Vec::new(),
        };
        for (part, row, request) in requests {
            let columns = table.columns(&part.group).unwrap_or_default();
            let (here, lacks) = match request {
                Err(Lacks::Paper) => (None, None),
                Err(Lacks::Profile(text)) => (None, Some(text)),
                Ok(request) => match found.get(&request.label) {
                    None => (None, Some(not_scored(queued.get(&request.label)))),
                    Some(scored) => match of_task(scored, part.task) {
                        Ok(scored) => (Some(Here::new(scored, &request, part, columns, db)?), None),
                        Err(lacks) => (None, Some(lacks)),
                    },
                },
            };
            let rates = studied.iter().filter(|rate| rate.system == row.system);
            let studied = columns
                .iter()
                .filter_map(|column| Some((*column, fool_rate(rates.clone(), column.seconds()?)?)))
                .collect();
            let cell = Cell { paper: row.paper.clone(), here, studied, lacks };
            filled.line(&part.block, &row.system).cells.insert(part.group.clone(), cell);
        }
        filled.comparisons = compare(&filled);
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

/// The newest scoring job under each label that has not scored. What cannot be read as a request has no label
/// here: it says itself what is wrong, or is a command line of before.
fn queued(db: &Blocking) -> Result<BTreeMap<String, Job>> {
    let jobs = db.wait(db.jobs(JobFilter {
        states: vec![JobState::Queued, JobState::Running, JobState::Paused, JobState::Failed],
        kinds: vec![JobKind::Evaluate],
        limit: None,
        ..JobFilter::default()
    }))?;
    let mut queued = BTreeMap::new();
    for job in jobs {
        let request = EvaluationRequest::from_payload(&job.payload).ok();
        if let Some(label) = request.and_then(|request| request.label) {
            queued.entry(label).or_insert(job);
        }
    }
    Ok(queued)
}

/// The newest of a row's scores that are of this task: outputs may be of several. Earlier versions kept them
/// under the task's name alone, and folders have no task.
fn of_task(scored: &[Evaluation], task: pipeline::Evaluation) -> Result<&Evaluation, String> {
    let (exact, bare) = (task.to_string(), task.task().to_string());
    for name in [Some(exact.as_str()), Some(NO_TASK), None, Some(bare.as_str())] {
        if let Some(found) = scored.iter().find(|one| one.task.as_deref() == name) {
            return Ok(found);
        }
    }
    let there: Vec<&str> = scored.iter().filter_map(|one| one.task.as_deref()).collect();
    Err(format!("its outputs are of {}, not of {exact}", there.join(", ")))
}

/// Why there are no scores.
fn not_scored(job: Option<&Job>) -> String {
    match job {
        None => "not scored yet (`evaluator submit`)".to_owned(),
        Some(Job { short, state: JobState::Failed, .. }) => {
            format!("not scored yet: job {short} failed (`scheduler show {short}`)")
        }
        Some(Job { short, state, .. }) => format!("not scored yet: job {short} is {state}"),
    }
}

/// The rates of the study that the profile names for a table.
fn studied(table: &Table, profile: &Profile, db: &Blocking) -> Result<Vec<Rate>> {
    let Some(name) = profile.studies.get(&table.name) else { return Ok(Vec::new()) };
    let study = db.wait(db.study(name))?;
    Ok(rates(&study.systems, &db.wait(db.study_answers(study.id))?))
}

/// The rate over both sets at one display time, in percent.
fn fool_rate<'a>(rates: impl Iterator<Item = &'a Rate> + Clone, seconds: f64) -> Option<Interval> {
    let over = |time| rates.clone().find(|rate| rate.set.is_none() && rate.seconds == time);
    let single = || {
        // A study of one time has its sum under no time.
        let all_at_it = rates.clone().all(|rate| rate.seconds.is_none_or(|own| own == seconds));
        over(None).filter(|_| all_at_it)
    };
    let rate = over(Some(seconds)).or_else(single)?;
    let ends = rate.interval.unwrap_or(rate.wilson);
    Some(Interval::new(rate.fool_rate, Some(ends)).times(100.0))
}

impl Here {
    /// The photographs themselves, which are compared with themselves.
    pub fn is_photographs(&self) -> bool {
        // Outputs of sampling jobs have their references beside them, at the same place.
        !self.sampled && self.reference.as_deref() == Some(&self.outputs)
    }

    fn new(
        evaluation: &Evaluation,
        request: &Request,
        part: &TablePart,
        columns: &[Score],
        db: &Blocking,
    ) -> Result<Self> {
        let kept: Kept = serde_json::from_value(evaluation.scores.clone())?;
        let number = |column: &Score| Some((*column, kept.scores.cell(*column)?));
        let trained = match evaluation.run_id {
            Some(id) => {
                let run = db.wait(db.find_run(&id.to_string()))?;
                Some(TrainedRun {
                    name: format!("{}@{}", run.name, evaluation.step.unwrap_or_default()),
                    id: run.short,
                    revision: run.git_revision,
                    place: run.uri,
                })
            }
            None => None,
        };
        Ok(Self {
            numbers: columns.iter().filter_map(number).collect(),
            scores: kept.scores,
            depends: kept.depends,
            matching: kept.matching,
            run: trained.as_ref().map(|run| run.name.clone()),
            trained,
            outputs: evaluation.outputs_uri.clone(),
            reference: evaluation.reference_uri.clone(),
            details: request.details.clone(),
            set: part.set.clone(),
            task: part.task.to_string(),
            sampled: matches!(request.work, Work::Run { .. }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(set: Option<i16>, seconds: Option<f64>, fool_rate: f64) -> Rate {
        Rate {
            system: "Palette".into(),
            set,
            seconds,
            raters: 9,
            answers: 90,
            fooled: (90.0 * fool_rate) as u64,
            fool_rate,
            interval: set.is_none().then_some([fool_rate - 0.1, fool_rate + 0.1]),
            wilson: [0.0, 1.0],
        }
    }

    #[test]
    fn a_fool_rate_is_over_both_sets_at_its_time() {
        let both = [
            over(Some(1), Some(3.0), 0.2),
            over(Some(2), Some(3.0), 0.3),
            over(None, Some(3.0), 0.25),
            over(None, Some(5.0), 0.4),
            over(None, None, 0.3),
        ];
        let rate = |of: &[Rate], seconds| fool_rate(of.iter(), seconds);
        assert_eq!(rate(&both, 3.0), Some(Interval::new(25.0, Some([15.0, 35.0]))));
        assert_eq!(rate(&both, 5.0).unwrap().value, 40.0);
        // A study of one time has no sum of that time alone.
        let one = [over(Some(1), Some(3.0), 0.2), over(None, None, 0.25)];
        assert_eq!(rate(&one, 3.0).unwrap().value, 25.0);
        assert_eq!(rate(&one, 5.0), None);
        assert_eq!(rate(&[], 3.0), None);
    }
}
