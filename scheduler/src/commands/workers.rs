//! `workers`: who works, on what.

use std::time::Duration;

use registry::{Blocking, Lease, RunningGang, WorkerRow, WorkerState};
use serde::Serialize;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler workers")]
pub struct Arguments {
    /// Also those that ended, and those that were lost more than a day ago
    #[arg(long)]
    all: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let workers = db.wait(db.workers(arguments.all, &Lease::from_env()?))?;
    let gangs = db.wait(db.gangs())?;
    let workers: Vec<Worker> = workers.into_iter().map(|row| Worker::new(row, &gangs)).collect();
    if arguments.json {
        return terminal::print_json(&workers);
    }
    if workers.is_empty() {
        return terminal::print("no workers (`scheduler worker` starts one)");
    }
    let mut table = terminal::Table::new(&[
        "worker", "host", "pid", "slots", "gpus", "labels", "seen", "state", "jobs",
    ])
    .cut(&["jobs", "labels", "gpus", "host"])
    .omit(&["pid", "labels", "slots", "host"]);
    for Worker { row: worker, seats } in &workers {
        let seen = Duration::try_from_secs_f64(worker.unseen).unwrap_or_default();
        table.row([
            worker.name.clone(),
            worker.host.clone(),
            worker.pid.to_string(),
            worker.slots.to_string(),
            gpus(worker),
            super::labels(&worker.labels),
            terminal::duration(seen) + " ago",
            state(worker),
            worker
                .jobs
                .iter()
                .cloned()
                .chain(seats.iter().map(Seat::text))
                .collect::<Vec<_>>()
                .join(" "),
        ]);
    }
    table.print()
}

/// A worker, with its seats in attempts of other hosts.
#[derive(Serialize)]
struct Worker {
    #[serde(flatten)]
    row: WorkerRow,
    seats: Vec<Seat>,
}

/// A seat in the attempt of another host.
#[derive(Serialize)]
struct Seat {
    /// The job, by its short id.
    job: String,
    attempt: i32,
    /// Its first rank, once the gang is complete.
    first: Option<i32>,
    /// How many ranks it has, once it is ready.
    ranks: Option<i32>,
    #[serde(skip)]
    its_ranks: Option<String>,
}

impl Worker {
    fn new(row: WorkerRow, gangs: &[RunningGang]) -> Self {
        let seats = gangs.iter().flat_map(|gang| {
            let own = gang.seats.iter().filter(|seat| seat.worker_id == row.id);
            own.map(|seat| Seat {
                job: gang.job.clone(),
                attempt: gang.attempt,
                first: seat.first,
                ranks: seat.ranks,
                its_ranks: seat.its_ranks(),
            })
        });
        let seats = seats.collect();
        Self { row, seats }
    }
}

impl Seat {
    fn text(&self) -> String {
        format!("{} ({})", self.job, self.its_ranks.as_deref().unwrap_or("waits for hosts"))
    }
}

/// Its GPUs: how many, which, and the memory of the smallest.
fn gpus(worker: &WorkerRow) -> String {
    if worker.gpus == 0 {
        return "-".to_owned();
    }
    let mut text = worker.gpus.to_string();
    let mut names = worker.gpu_names.clone();
    names.sort();
    names.dedup();
    if !names.is_empty() {
        text += &format!(" × {}", names.join(", "));
    }
    if worker.gpu_memory > 0 {
        text += &format!(", {}", super::memory(worker.gpu_memory));
    }
    text
}

fn state(worker: &WorkerRow) -> String {
    let state = worker.state.name();
    let there = matches!(worker.state, WorkerState::Alive | WorkerState::Ailing);
    let mut text = state.to_owned();
    if let Some(left) = worker.ends_at.and_then(super::until).filter(|_| there) {
        text += &format!(", ends in {left}");
    }
    if let Some(ails) = worker.ails.as_ref().filter(|_| worker.state == WorkerState::Ailing) {
        text += &format!(": {ails}");
    }
    text
}
