//! `evaluator submit`: queues what tables need, sampling where outputs are missing and then scoring.

mod sampling;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use contracts::EvaluationRequest;
use contracts::files::MANIFEST;
use registry::{Blocking, JobKind, JobOptions, NewJob, NewSampling, Uuid};
use serde::Serialize;
use serde_json::Value;
use terminal::Usage;

use super::Protocol;
use crate::pictures::Set;
use crate::protocol::{Request, Work};

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator submit configs/evaluation/table-1.toml --profile my-lab.toml --dry-run
  evaluator submit configs/evaluation/table-1.toml --profile my-lab.toml --after 1a2b3c4d")]
pub struct Submit {
    /// Tables, such as configs/evaluation/table-1.toml.
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<PathBuf>,
    /// Where this laboratory has what the tables name, such as configs/evaluation/profiles/paper.toml.
    #[arg(long, value_name = "FILE")]
    profile: PathBuf,
    /// Only this system; may be repeated.
    #[arg(long = "only", value_name = "SYSTEM")]
    only: Vec<String>,
    /// Score again what was scored before.
    #[arg(long)]
    again: bool,
    /// Check everything and say what would be queued, and queue nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
    // The key of each job is made of a `--key` and what the job is about.
    #[command(flatten, next_help_heading = "Options of every job that is queued")]
    options: JobOptions,
}

/// What became of a row.
#[derive(Serialize)]
struct Queued {
    table: String,
    block: String,
    group: String,
    system: String,
    label: Option<String>,
    sampling: Option<String>,
    scoring: Option<String>,
    state: String,
}

impl Submit {
    pub fn run(self) -> Result<()> {
        let protocol = Protocol::read(&self.tables, &self.profile)?;
        let db = Blocking::open()?;
        for kind in [JobKind::Sample, JobKind::Evaluate] {
            // What is wrong with the options shows before anything is queued.
            self.options.clone().apply(&db, NewJob::new(kind, "", Value::Null))?;
        }
        let rows =
            protocol.tables.iter().flat_map(|table| &table.parts).flat_map(|part| &part.rows);
        let systems: BTreeSet<&str> = rows.map(|row| row.system.as_str()).collect();
        if let Some(unknown) = self.only.iter().find(|only| !systems.contains(only.as_str())) {
            let meant = contracts::nearest(unknown, systems.iter().copied());
            let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            let message = format!("--only {unknown}: no table has such a system{meant}");
            return Err(Usage::new(message).into());
        }
        let mut rows = Vec::new();
        let mut seen = BTreeSet::new();
        for table in &protocol.tables {
            for part in &table.parts {
                for row in &part.rows {
                    if !self.only.is_empty() && !self.only.contains(&row.system) {
                        continue;
                    }
                    let (profile, extractors) = (&protocol.profile, &protocol.extractors);
                    let mut line = Queued {
                        table: table.name.clone(),
                        block: part.block.clone(),
                        group: part.group.clone(),
                        system: row.system.clone(),
                        label: None,
                        sampling: None,
                        scoring: None,
                        state: String::new(),
                    };
                    let mut prepared = None;
                    match Request::of(part, row, profile, extractors) {
                        Err(lacks) => line.state = lacks.to_string(),
                        Ok(request) if !seen.insert(request.label.clone()) => {
                            line.state = "as above".to_owned();
                            line.label = Some(request.label);
                        }
                        Ok(request) => {
                            prepared =
                                self.prepare(&protocol, &request, &db, &mut line).with_context(
                                    || row_name([&table.name, &part.block, &row.system]),
                                )?;
                            line.label = Some(request.label);
                        }
                    }
                    rows.push((line, prepared));
                }
            }
        }
        // Only now, when nothing of any row is refused: all of them are queued, or none.
        let mut queued = Vec::new();
        for (mut line, prepared) in rows {
            if let Some(prepared) = prepared {
                prepared.queue(&db, &mut line).with_context(|| {
                    let row = row_name([&line.table, &line.block, &line.system]);
                    format!(
                        "{row}: rows before it are queued: submit again, nothing is queued twice"
                    )
                })?;
            }
            queued.push(line);
        }
        if self.json { terminal::print_json(&queued) } else { print(&queued) }
    }

    /// Checks all of a row that can be wrong, and makes its jobs; none where nothing is to be queued.
    fn prepare(
        &self,
        protocol: &Protocol,
        request: &Request,
        db: &Blocking,
        line: &mut Queued,
    ) -> Result<Option<Prepared>> {
        let scored = db.wait(db.evaluations_labelled(std::slice::from_ref(&request.label)))?;
        if !self.again && !scored.is_empty() {
            line.state = "scored".to_owned();
            return Ok(None);
        }
        let there = match &request.work {
            Work::Run { outputs, .. } => outputs.join(MANIFEST).is_file(),
            Work::Outputs(_) | Work::Reference => true,
        };
        let asked = request.scoring(&protocol.profile)?;
        let payload = asked.payload()?;
        check_sets(request, &asked)?;
        let sampler = &protocol.profile.sampler;
        if self.dry_run {
            if !there {
                sampling::check(request, sampler, &self.options, db)?;
            }
            let what = if there { "would be scored" } else { "would be sampled and scored" };
            line.state = what.to_owned();
            return Ok(None);
        }
        let sampling = match there {
            true => None,
            false => Some(sampling::prepare(request, sampler, &self.options, db)?),
        };
        let name = request.label.split('#').next().unwrap_or(&request.label);
        let again = if self.again { format!(" {}", Uuid::new_v4()) } else { String::new() };
        let job = NewJob::new(JobKind::Evaluate, storage::names::fitted(name), payload);
        let mut job = self.options.clone().apply(db, job)?;
        let own = format!("evaluation {}{again}", request.label);
        job.submit_key = Some(key(&self.options, &own));
        job.key_says_all = true;
        Ok(Some(Prepared { sampling, scoring: job }))
    }
}

/// The jobs of a row.
struct Prepared {
    sampling: Option<NewSampling>,
    scoring: NewJob,
}

impl Prepared {
    fn queue(self, db: &Blocking, line: &mut Queued) -> Result<()> {
        let Self { sampling, scoring: mut job } = self;
        let sampling = sampling.map(|new| db.wait(db.submit_sampling(new))).transpose()?;
        let sampling = sampling.map(|made| made.job.id);
        line.sampling = sampling.map(|job| registry::short(&job));
        job.after.extend(sampling);
        let submitted = db.wait(db.submit(job))?;
        line.scoring = Some(submitted.job.short.clone());
        line.state = submitted.job.state.to_string();
        Ok(())
    }
}

/// What a message calls a row: table, block where it has one, system.
fn row_name(parts: [&str; 3]) -> String {
    let named: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    named.join(", ")
}

/// Opens the sets that no sampling job makes, so that a mistake shows before anything is queued.
fn check_sets(request: &Request, asked: &EvaluationRequest) -> Result<()> {
    let outputs = match request.work {
        Work::Run { .. } => None,
        Work::Outputs(_) | Work::Reference => Some(&asked.outputs),
    };
    for set in outputs.into_iter().chain(&asked.reference).chain(&asked.distribution) {
        Set::at(set)?;
    }
    Ok(())
}

/// The key of a job: its own, after that of the submission where it has one.
fn key(options: &JobOptions, own: &str) -> String {
    options.key().map_or_else(|| own.to_owned(), |key| format!("{key} {own}"))
}

/// With what to do about a job that ended without scores.
fn state(line: &Queued) -> String {
    match (&line.scoring, line.state.as_str()) {
        (Some(job), "failed" | "cancelled") => {
            format!("{} (`scheduler retry {job}` tries again)", line.state)
        }
        _ => line.state.clone(),
    }
}

fn print(queued: &[Queued]) -> Result<()> {
    let mut table = terminal::Table::new(&[
        "table", "block", "group", "system", "sampling", "scoring", "state",
    ]);
    for line in queued {
        let job = |job: &Option<String>| job.clone().unwrap_or_default();
        table.row([
            line.table.clone(),
            line.block.clone(),
            line.group.clone(),
            line.system.clone(),
            job(&line.sampling),
            job(&line.scoring),
            state(line),
        ]);
    }
    table.print()
}
