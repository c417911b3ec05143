//! `trainer extend`: more steps for runs. A run goes on from its newest checkpoint and ends with the bits of one
//! that was submitted with as many steps.

use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use contracts::{Experiment, TrainingJob, payload};
use diffusion::checkpoint::LAST;
use registry::state::{self, Event};
use registry::{Blocking, Error, Extension, JobState, Kind, Run, RunJob, Several, Target};
use serde::Serialize;
use serde_json::json;
use storage::{Place, Store};
use terminal::Usage;

use crate::ranks::crew;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer extend palette --steps 20000
  trainer extend palette --steps +5000")]
pub struct Extend {
    /// The runs, or sweeps, by name or id.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Steps in all, as train.steps; or +N for N more than now.
    #[arg(long, value_name = "N")]
    steps: Steps,
    /// Processes that go on with it together [default: as many as before].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    ranks: Option<u16>,
    /// Print what was extended as JSON.
    #[arg(long)]
    json: bool,
}

/// More than this is no last file of a checkpoint.
const MOST_OF_LAST: u64 = 64 << 20;

/// The most that can be asked for; sums of them are numbers of the database too.
const MOST: u64 = 1_000_000_000_000_000;

/// How many steps a run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Steps {
    InAll(u64),
    More(u64),
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (more, digits) = match text.strip_prefix('+') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let number = digits.replace(['_', ','], "").parse().ok();
        let number = number
            .filter(|number| (1..=MOST).contains(number))
            .ok_or("a number of steps in all, such as 20000, or +5000")?;
        Ok(if more { Self::More(number) } else { Self::InAll(number) })
    }
}

impl Steps {
    fn of(self, now: u64) -> u64 {
        match self {
            Self::InAll(steps) => steps,
            Self::More(steps) => now.saturating_add(steps),
        }
    }
}

#[derive(Serialize)]
struct Extended {
    run: String,
    name: String,
    steps_before: i64,
    steps: i64,
    state: String,
}

impl Extend {
    /// All runs are looked at before any is changed.
    pub fn run(self) -> anyhow::Result<()> {
        let db = Blocking::open()?;
        let mut changes = Vec::new();
        for name in &self.runs {
            let found = db.find_among(name, &[Kind::Run, Kind::Sweep], Several::Refuse);
            let Target { kind, id } = db.wait(found)?;
            let ids = match kind {
                Kind::Sweep => db.wait(db.sweep_jobs(id))?.iter().map(|job| job.id).collect(),
                Kind::Job | Kind::Run => vec![id],
            };
            for id in ids {
                let run = db.wait(db.run(id))?;
                if changes.iter().any(|(other, _): &(Run, Extension)| other.id == id) {
                    continue;
                }
                let change = extension(&run, self.steps, self.ranks)?;
                check_newest(&db, &run)?;
                changes.push((run, change));
            }
        }
        let mut extended = Vec::new();
        for (before, change) in changes {
            let RunJob { run, job, .. } = db.wait(db.extend_run(before.id, change))?;
            extended.push(Extended {
                run: run.short,
                name: run.name,
                steps_before: before.total_steps,
                steps: run.total_steps,
                state: job.state.to_string(),
            });
        }
        if self.json {
            return terminal::print_json(&extended);
        }
        for Extended { run, name, steps_before, steps, state } in &extended {
            terminal::print(&format!(
                "run {run} ({name}): {steps} steps, no longer {steps_before}; it is {state}"
            ))?;
        }
        Ok(())
    }
}

/// Refuses a run that has ended and whose newest checkpoint is not there any more.
fn check_newest(db: &Blocking, run: &Run) -> anyhow::Result<()> {
    let newest = db.wait(db.latest_checkpoint(run.id))?;
    let Some(newest) = newest.filter(|_| run.state == Some(JobState::Succeeded)) else {
        return Ok(());
    };
    let place = Place::stored(&newest.uri).map_err(storage::Error::from)?;
    if Store::open(&place)?.read(LAST, MOST_OF_LAST)?.is_none() {
        bail!(Usage::new(format!(
            "run {}: its newest checkpoint is not there any more: {place}",
            run.short
        )));
    }
    Ok(())
}

/// What changes of a run.
fn extension(run: &Run, steps: Steps, ranks: Option<u16>) -> anyhow::Result<Extension> {
    let Some(state) = run.state else {
        bail!(Usage::new(format!("run {} was imported: it has no steps to make", run.short)));
    };
    let job = run.short.clone();
    state::next(state, None, Event::Extend).map_err(|refused| Error::Refused { job, refused })?;
    let now = u64::try_from(run.total_steps)?;
    let steps = steps.of(now);
    let made = u64::try_from(run.last_step)?;
    if steps == now || steps < made {
        let already = if steps == now { now } else { made };
        bail!(Usage::new(format!(
            "run {} makes {already} steps already: --steps says how many in all, --steps +{steps} how many more",
            run.short
        )));
    }
    let mut config = run.config.clone();
    config["train"]["steps"] = json!(steps);
    let experiment = Experiment::from_json(&config).map_err(Usage::of)?;
    if let Some(ranks) = ranks {
        crew::check(&experiment, ranks.into())?;
    }
    let job = TrainingJob { config_digest: experiment.digest() };
    Ok(Extension {
        config,
        total_steps: experiment.train.steps.cast_signed(),
        payload: payload::write(&job).map_err(Usage::of)?,
        ranks: ranks.map(i32::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_all_or_more() {
        let of = |text: &str| text.parse::<Steps>().map(|steps| steps.of(300));
        assert_eq!(of("600"), Ok(600));
        assert_eq!(of("+600"), Ok(900));
        assert_eq!(of("1_000"), Ok(1000));
        assert_eq!(of("20,000"), Ok(20_000));
        for wrong in ["", "+", "0", "+0", "-5", "1.5", "1e3", "many", "+18446744073709551615"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
