//! `cancel`, `pause`, `resume`, `retry`, `priority`: of jobs, or of all jobs of a sweep.

use std::num::IntErrorKind;

use registry::{
    Blocking, Error, GoOn, Job, JobState, Kind, Result, Several, StopRequest, Target, Uuid,
    current_user,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The jobs, or sweeps, by name or short id; a name that several have is refused
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler cancel palette
  scheduler cancel 1a2b3c4d --force")]
pub struct CancelArguments {
    #[command(flatten)]
    jobs: Arguments,
    /// Do not wait for a checkpoint: kill what runs; what it made since its last one is lost
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
pub struct GoOnArguments {
    #[command(flatten)]
    jobs: Arguments,
    /// Let a run go on over data that is not what was recorded when it was queued; the change is kept
    /// with the run
    #[arg(long)]
    accept_changed_data: bool,
    /// Let a run go on from the checkpoint of this step and not from its newest, 0 for its beginning; later
    /// ones are set aside
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(i64).range(0..))]
    from: Option<i64>,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler priority 5 palette")]
pub struct PriorityArguments {
    /// The new priority: higher goes first
    #[arg(allow_hyphen_values = true, value_parser = a_priority)]
    priority: i32,
    #[command(flatten)]
    jobs: Arguments,
}

/// The number comes first, which nobody remembers.
fn a_priority(text: &str) -> std::result::Result<i32, String> {
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => error.to_string(),
        _ => "the number comes first, then the jobs: scheduler priority 5 JOB".to_owned(),
    })
}

#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    Cancel,
    CancelNow,
    Pause,
    Resume(GoOn<'a>),
    Retry(GoOn<'a>),
    Priority(i32),
}

impl GoOnArguments {
    fn how<'a>(&self, user: &'a str) -> GoOn<'a> {
        GoOn { accepted_by: self.accept_changed_data.then_some(user), from: self.from }
    }
}

pub fn resume(arguments: &GoOnArguments) -> anyhow::Result<()> {
    run(Wish::Resume(arguments.how(&current_user())), &arguments.jobs)
}

pub fn retry(arguments: &GoOnArguments) -> anyhow::Result<()> {
    run(Wish::Retry(arguments.how(&current_user())), &arguments.jobs)
}

pub fn cancel(arguments: &CancelArguments) -> anyhow::Result<()> {
    let wish = if arguments.force { Wish::CancelNow } else { Wish::Cancel };
    run(wish, &arguments.jobs)
}

pub fn priority(arguments: &PriorityArguments) -> anyhow::Result<()> {
    run(Wish::Priority(arguments.priority), &arguments.jobs)
}

pub fn run(wish: Wish, arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    // All names first: where one is none, or belongs to several, nothing is done.
    let find =
        |name: &String| db.wait(db.find_among(name, &[Kind::Job, Kind::Sweep], Several::Refuse));
    let targets = arguments.jobs.iter().map(find).collect::<Result<Vec<Target>>>()?;
    super::each(targets, |Target { kind, id }| match kind {
        Kind::Sweep => of_sweep(&db, wish, id),
        Kind::Job | Kind::Run => say(&ask(&db, wish, id)?),
    })
}

/// Of a sweep each job that can; that some have ended already is no failure.
fn of_sweep(db: &Blocking, wish: Wish, id: Uuid) -> anyhow::Result<()> {
    let sweep = db.wait(db.sweep(id))?;
    let jobs = db.wait(db.sweep_jobs(id))?;
    let mut asked = 0;
    for job in &jobs {
        match ask(db, wish, job.id) {
            Ok(job) => {
                say(&job)?;
                asked += 1;
            }
            Err(Error::Refused { .. } | Error::Invalid(_) | Error::Failed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (short, name, all) = (&sweep.short, &sweep.name, jobs.len());
    terminal::print(&format!("sweep {short} {name}: {asked} of {all} jobs"))
}

fn ask(db: &Blocking, wish: Wish, job: Uuid) -> Result<Job> {
    db.wait(async {
        match wish {
            Wish::Cancel => db.cancel(job).await,
            Wish::CancelNow => db.cancel_now(job).await,
            Wish::Pause => db.pause(job).await,
            Wish::Resume(how) => db.resume_as(job, how).await,
            Wish::Retry(how) => db.retry_as(job, how).await,
            Wish::Priority(priority) => db.set_priority(job, priority).await,
        }
    })
}

fn say(job: &Job) -> anyhow::Result<()> {
    let what = match (job.state, job.stop_requested) {
        (JobState::Running, Some(StopRequest::Pause)) => "is asked to pause".to_owned(),
        (JobState::Running, Some(StopRequest::Cancel)) => "is asked to end".to_owned(),
        (JobState::Running, Some(StopRequest::Yield)) => "is asked to give way".to_owned(),
        (JobState::Running, None) => "goes on".to_owned(),
        (state, _) => format!("is {state}"),
    };
    terminal::print(&format!("{} {} {what}, priority {}", job.short, job.name, job.priority))
}
