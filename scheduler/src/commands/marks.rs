//! `rename`, `tag`, `note`, `archive`, `unarchive`: what people write on jobs, runs and sweeps.

use registry::{Blocking, Kind, Several, Target};
use terminal::Usage;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler rename 1a2b3c4d palette-wide")]
pub struct RenameArguments {
    /// The job, run or sweep
    job: String,
    /// Its new name
    name: String,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler tag palette paper
  scheduler tag palette paper --remove")]
pub struct TagArguments {
    /// The job or run, or a sweep for all of its jobs
    job: String,
    /// Words to find it by (`scheduler jobs --tag WORD`)
    #[arg(required = true, value_name = "WORD")]
    words: Vec<String>,
    /// Take these words away
    #[arg(long)]
    remove: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler note palette half the batch of the paper")]
pub struct NoteArguments {
    /// The job, run or sweep
    job: String,
    /// The text, which replaces the one before
    #[arg(required_unless_present = "remove", conflicts_with = "remove", value_name = "TEXT")]
    text: Vec<String>,
    /// Take the note away
    #[arg(long)]
    remove: bool,
}

#[derive(clap::Args)]
pub struct Arguments {
    /// The jobs, runs or sweeps
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub fn rename(arguments: &RenameArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let target = find(&db, &arguments.job)?;
    let (before, name) = (called(&db, target)?, &arguments.name);
    db.wait(db.rename(target, name))?;
    terminal::print(&format!("{before} is called {name} now"))
}

pub fn tag(arguments: &TagArguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    let target = find(&db, &arguments.job)?;
    let mut words: Vec<String> = Vec::new();
    for word in &arguments.words {
        if !words.contains(word) {
            words.push(word.clone());
        }
    }
    let (add, remove): (&[String], &[String]) = match arguments.remove {
        true => (&[], &words),
        false => (&words, &[]),
    };
    db.wait(db.tag(target, add, remove))?;
    let tags = match target.kind {
        Kind::Job => db.wait(db.job(target.id))?.tags,
        Kind::Run => db.wait(db.run(target.id))?.tags,
        Kind::Sweep => {
            let count = db.wait(db.sweep_jobs(target.id))?.len();
            return terminal::print(&format!("{}: {count} jobs", called(&db, target)?));
        }
    };
    let tags = if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
    terminal::print(&format!("{}: tags {tags}", called(&db, target)?))
}

pub fn note(arguments: &NoteArguments) -> anyhow::Result<()> {
    let text = arguments.text.join(" ");
    if text.trim().is_empty() && !arguments.remove {
        return Err(
            Usage::new("the note is empty: --remove takes the one that is there away").into()
        );
    }
    let db = Blocking::open()?;
    let target = find(&db, &arguments.job)?;
    db.wait(db.note(target, (!arguments.remove).then_some(text.as_str())))?;
    let done = if arguments.remove { "no note" } else { "noted" };
    terminal::print(&format!("{}: {done}", called(&db, target)?))
}

pub fn archive(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    super::each(all(&db, arguments)?, |target| {
        db.wait(db.archive(target))?;
        terminal::print(&format!("{} is archived", called(&db, target)?))
    })
}

pub fn unarchive(arguments: &Arguments) -> anyhow::Result<()> {
    let db = Blocking::open()?;
    super::each(all(&db, arguments)?, |target| {
        let was = is_archived(&db, target)?;
        db.wait(db.unarchive(target))?;
        let now = if was { "is listed again" } else { "is not archived" };
        terminal::print(&format!("{} {now}", called(&db, target)?))
    })
}

/// Of a sweep whether itself or a job of it is.
fn is_archived(db: &Blocking, target: Target) -> anyhow::Result<bool> {
    Ok(match target.kind {
        Kind::Job => db.wait(db.job(target.id))?.archived_at.is_some(),
        Kind::Run => db.wait(db.run(target.id))?.archived_at.is_some(),
        Kind::Sweep => {
            db.wait(db.sweep(target.id))?.archived_at.is_some()
                || db.wait(db.sweep_jobs(target.id))?.iter().any(|job| job.archived_at.is_some())
        }
    })
}

/// Every name first: where one is none, or belongs to several, nothing is done.
fn all(db: &Blocking, arguments: &Arguments) -> anyhow::Result<Vec<Target>> {
    arguments.jobs.iter().map(|name| find(db, name)).collect()
}

fn find(db: &Blocking, name: &str) -> anyhow::Result<Target> {
    Ok(db.wait(db.find_among(name, &[Kind::Job, Kind::Run, Kind::Sweep], Several::Refuse))?)
}

/// `job 1a2b3c4d demo`.
fn called(db: &Blocking, target: Target) -> anyhow::Result<String> {
    let (short, name) = match target.kind {
        Kind::Job => {
            let job = db.wait(db.job(target.id))?;
            (job.short, job.name)
        }
        Kind::Run => {
            let run = db.wait(db.run(target.id))?;
            (run.short, run.name)
        }
        Kind::Sweep => {
            let sweep = db.wait(db.sweep(target.id))?;
            (sweep.short, sweep.name)
        }
    };
    Ok(format!("{} {short} {name}", target.kind.name()))
}
