//! The start of an attempt's child, and whose fault it is where there is none.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use registry::{ATTEMPT_VARIABLE, Claimed, CommandLine, Error, GANG_VARIABLE, Taken, within};

use super::Shared;
use super::child::Running;
use super::descendants;

/// Why a child was not started.
pub(super) enum NotStarted {
    /// The job cannot be started as it is.
    Job(Error),
    /// Something ails this worker's host: another worker may do the job.
    Worker(String),
    /// This host lacks what the job needs there; others may have it.
    Elsewhere(String),
    /// A GPU that it was given is not free after all.
    Taken(Taken),
    /// The job is another's by now.
    Anothers,
}

/// Starts the program of a job, with these GPUs and what it prints in this log; of a gang, which is complete, with its
/// ranks in all and on this host.
pub(super) async fn start(
    shared: &Shared,
    claimed: &Claimed,
    gpus: &[String],
    log: &Path,
    gang: Option<(i32, i32)>,
) -> Result<Running, NotStarted> {
    let job = &claimed.job;
    let line = CommandLine::of(job).map_err(NotStarted::Job)?;
    let bounds = shared.options.bounds.as_ref();
    if let (Some(bounds), Some(line)) = (bounds, &line)
        && line.lacks().is_none()
        && !bounds.hold(&line.folder)
    {
        let message = format!(
            "it was submitted from {}, which lies outside of the roots of this worker (--data-root, --output-root)",
            line.folder.display()
        );
        return Err(NotStarted::Job(Error::Invalid(message)));
    }
    if let Some(lacks) = line.as_ref().and_then(CommandLine::lacks) {
        return Err(NotStarted::Elsewhere(lacks));
    }
    let ails = |path: &Path, error| NotStarted::Worker(format!("{}: {error}", path.display()));
    let folder = log.parent().unwrap_or(log);
    shared.home.make(folder).map_err(|error| ails(folder, error))?;
    let out = shared.home.log(log).map_err(|error| ails(log, error))?;
    let errors = out.try_clone().map_err(|error| ails(log, error))?;
    take(shared, claimed, gpus).await?;

    if job.attempt > 1 {
        let id = job.id.to_string();
        let number = job.attempt;
        let earlier = tokio::task::spawn_blocking(move || descendants::end_earlier(&id, number));
        let _ = earlier.await;
    }
    let program = shared.options.programs.join(job.kind.program());
    let mut command = Command::new(&program);
    match &line {
        None => command.arg("attempt").current_dir(folder),
        Some(line) => command.args(&line.arguments).current_dir(&line.folder),
    };
    let mark = format!("{}:{}", job.id, job.attempt);
    if let Some(bounds) = bounds {
        bounds
            .bind(&mut command, &shared.home, folder)
            .map_err(|error| NotStarted::Worker(error.to_string()))?;
    }
    if job.kind.knows_the_database() {
        command.env("DATABASE_URL", shared.database.url());
    } else {
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_the_database(name)) {
            command.env_remove(name);
        }
    }
    for name in TASK_OF_SLURM {
        command.env_remove(name);
    }
    command
        .env(ATTEMPT_VARIABLE, &mark)
        .env("PALETTE_HOME", shared.home.path())
        .env(terminal::FORMAT_VARIABLE, shared.options.format.name())
        // Empty hides every GPU: a job that was given none must not use one that another has.
        .env("CUDA_VISIBLE_DEVICES", gpus.join(","))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors);
    if let Some((world, here)) = gang {
        command.env(GANG_VARIABLE, format!("{world}:{here}"));
    }
    shared.spawner.spawn(command, mark).await.map_err(|error| {
        // The kernel does not say which of the two paths it means.
        let lacks = line.as_ref().and_then(CommandLine::lacks);
        match (error.kind(), lacks) {
            (ErrorKind::ArgumentListTooLong | ErrorKind::InvalidInput, _) => {
                NotStarted::Job(Error::io(&program)(error))
            }
            (_, Some(lacks)) => NotStarted::Elsewhere(lacks),
            _ => {
                shared.host.suspect(&program);
                ails(&program, error)
            }
        }
    })
}

/// Which task of how many a worker is that Slurm has started. Its jobs are no tasks of Slurm: one that counted itself among
/// them would wait for ranks that never come.
pub(super) const TASK_OF_SLURM: [&str; 5] =
    ["SLURM_LOCALID", "SLURM_NODEID", "SLURM_NPROCS", "SLURM_NTASKS", "SLURM_PROCID"];

/// Whether a variable says how one gets into the database.
pub(super) fn is_of_the_database(name: &std::ffi::OsStr) -> bool {
    name == "DATABASE_URL" || name.to_string_lossy().starts_with("PG")
}

/// Enters the GPUs into the database, where a worker in another container of this host sees them, however long the
/// database takes.
pub(super) async fn take(
    shared: &Shared,
    claimed: &Claimed,
    gpus: &[String],
) -> Result<(), NotStarted> {
    if gpus.is_empty() {
        return Ok(());
    }
    let (lease, since) = (&shared.options.lease, Instant::now());
    loop {
        let taking = shared.database.take_gpus(shared.worker.id, claimed.fence, gpus);
        match within(lease.length, taking).await {
            Ok(None) => return Ok(()),
            Ok(Some(taken)) => return Err(NotStarted::Taken(taken)),
            Err(error) if error.is_stale() => return Err(NotStarted::Anothers),
            Err(error) if error.may_pass(since, lease) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(NotStarted::Worker(error.to_string())),
        }
    }
}
