//! From a submission to the first act of its child, on a queue where nothing else waits: what the
//! notification, the claim and the start of a process take together.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::{Error, JobKind, JobState, Lease, NewJob, Result, Scratch};
use serde::Serialize;
use serde_json::json;

use super::Milliseconds;
use crate::worker::{Options, run};

/// Latency of a start.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Jobs that were submitted, one after the other.
    pub jobs: usize,
    /// From the submission to the claim, by the server's clock.
    pub to_claim: Milliseconds,
    /// From the call that submits to the first thing that the child does.
    pub to_child: Milliseconds,
}

/// Submits so many jobs, each when the one before has ended, to a worker that polls once a minute.
///
/// # Errors
/// Those of the database; a folder for temporary files that cannot be written.
pub async fn latency(scratch: &Scratch, jobs: usize) -> Result<Latency> {
    scratch.clear().await?;
    let folder = tempfile::tempdir().map_err(Error::io(&std::env::temp_dir()))?;
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)
        .map_err(|error| Error::Failed(format!("{}: {error}", pipe.display())))?;
    let program = folder.path().join(JobKind::Ingest.program());
    let script = format!("#!/bin/sh\necho >> '{}'\n", pipe.display());
    write_program(&program, &script).map_err(Error::io(&program))?;
    // Open for both, so that no child is the last writer.
    let file = File::options().read(true).write(true).open(&pipe).map_err(Error::io(&pipe))?;
    let (acts_in, mut acts) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for _ in BufReader::new(file).lines() {
            if acts_in.send(Instant::now()).is_err() {
                return;
            }
        }
    });

    let options = Options {
        poll: Duration::from_secs(60),
        programs: folder.path().to_owned(),
        ..Options::new(Lease::from_env()?)
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(run(scratch.client().await?, options, Arc::new(|_| ()), async {
        let _ = stopped.await;
    }));
    let gone = || Error::Failed("the worker ended".into());
    let database = scratch.client().await?;
    let (mut to_claim, mut to_child) = (Vec::new(), Vec::new());
    // The first one waits for the worker to be there, and does not count.
    for number in 0..=jobs {
        let submitted = Instant::now();
        let job = database.submit(NewJob::new(JobKind::Ingest, "empty", json!({}))).await?.job;
        let acted: Instant = acts.recv().await.ok_or_else(gone)?;
        while database.job(job.id).await?.state != JobState::Succeeded {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let job = database.job(job.id).await?;
        if number > 0 {
            to_child.push(acted - submitted);
            let claimed = job.started_at.unwrap_or(job.created_at) - job.created_at;
            to_claim.push(Duration::try_from(claimed).unwrap_or_default());
        }
    }
    let _ = stop.send(());
    worker.await.map_err(|error| Error::Failed(error.to_string()))??;
    Ok(Latency { jobs, to_claim: Milliseconds::of(to_claim), to_child: Milliseconds::of(to_child) })
}

fn write_program(path: &Path, script: &str) -> std::io::Result<()> {
    std::fs::write(path, script)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}
