//! One attempt at a run: from its last good checkpoint to its end or to a stop.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use contracts::{Experiment, Trained, TrainingJob, payload};
use diffusion::checkpoint::Checkpoint;
use registry::{Attempt, End, Run, RunFacts, RunOrigin};
use storage::Place;
use tch::{Cuda, Device};
use terminal::Usage;

use crate::data;
use crate::place;
use crate::ranks::children::LAST_WORDS;
use crate::ranks::crew::{self, Crew, Gang, Wait};
use crate::ranks::outside::Outside;
use crate::ranks::pauses::Pauses;
use crate::ranks::plan::Plan;
use crate::ranks::{LostRank, Ranks};
use crate::shortage;
use crate::train::{Places, Role, train};

/// `trainer attempt`: the identity comes from the worker by environment.
pub fn run() -> anyhow::Result<ExitCode> {
    Attempt::of_worker()?.make(|attempt| train_attempt(attempt, &Start::Worker))
}

/// Who started the process of an attempt.
pub enum Start {
    /// A worker, which gave it GPUs.
    Worker,
    /// Somebody at a terminal.
    Terminal,
    /// Something that started other ranks as well.
    Outside(Outside),
}

/// How often the other hosts of a gang are looked at while its ranks meet.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Trains what the attempt is about, with as many ranks as there are to be.
pub fn train_attempt(attempt: &Attempt, start: &Start) -> anyhow::Result<End> {
    payload::read::<TrainingJob>(&attempt.job().payload, "the payload of the job", "trainer")
        .map_err(Usage::of)?;
    let run = attempt.run()?;
    let place = Place::stored(&run.uri).map_err(|error| Usage::new(error.to_string()))?;
    place::check(&place)?;
    let experiment = Experiment::from_json(&run.config).map_err(Usage::of)?;
    let choice = experiment.train.device;
    let device = choice.device()?;
    let gang = Gang::here().filter(|_| matches!(start, Start::Worker));
    let (mut asked, mut looked) = (None, Instant::now());
    let mut wait = || {
        asked = attempt.stop_requested();
        if asked.is_some() {
            bail!("asked to stop while the ranks met");
        }
        if gang.is_some() && looked.elapsed() > LOOK_EVERY {
            looked = Instant::now();
            if attempt.other_hosts()?.iter().any(|host| host.left || host.gone) {
                return Err(anyhow!("a host was lost while the ranks met").context(LostRank));
            }
        }
        Ok(())
    };
    let wait: &mut Wait = &mut wait;
    let crew = match start {
        Start::Outside(outside) => {
            crew::check(&experiment, outside.size)?;
            Crew::lead(outside, outside.device(choice)?, wait)
        }
        Start::Worker if let Some(gang) = gang => {
            crew::check(&experiment, gang.world)?;
            Crew::gather(gang, choice, device, wait, |address, port| {
                Ok(attempt.meet_gang(address, port)?)
            })
        }
        Start::Worker | Start::Terminal => {
            let asked = usize::try_from(attempt.job().ranks).unwrap_or(1);
            let count = count(&experiment, asked, device, start);
            crew::check(&experiment, count)?;
            Crew::start(count, choice, device, wait)
        }
    };
    let crew = match (crew, asked) {
        (Ok(crew), _) => crew,
        (Err(_), Some(registry::Stop::Stale)) => return Ok(End::Stale),
        (Err(_), Some(_)) => return Ok(End::Stopped),
        (Err(error), None) => return Err(blamed_on_hosts(error, attempt)),
    };
    let pauses = crew.group().map(|_| Pauses::watch()).transpose()?;
    let end = lead(attempt, experiment, &run, &place, device, crew.ranks());
    crew.end(end).map_err(|error| match pauses {
        Some(pauses) => blamed_on_itself(blamed_on_hosts(error, attempt), &pauses),
        None => error,
    })
}

/// The error as it is or, where ranks were lost and nobody else is at fault, that this process stood still.
fn blamed_on_itself(error: anyhow::Error, pauses: &Pauses) -> anyhow::Error {
    // A part of the limit is enough: the others have waited since the collective before.
    let enough = registry::collective_limit().unwrap_or(Duration::MAX) / 2;
    if error.downcast_ref::<LostRank>().is_none() || pauses.longest() < enough {
        return error;
    }
    let seconds = pauses.longest().as_secs_f64();
    anyhow!(
        "rank 0 on {} stood still for {seconds:.0} s, and the others no longer waited for it",
        registry::host()
    )
}

/// The error as it is or, where ranks of other hosts were lost, what their workers say of them; a worker that says
/// nothing for a while is the one that was lost.
fn blamed_on_hosts(error: anyhow::Error, attempt: &Attempt) -> anyhow::Error {
    if error.downcast_ref::<LostRank>().is_none() || Gang::here().is_none() {
        return error;
    }
    match lost_hosts(attempt) {
        Ok(Some(reason)) => anyhow!(reason),
        // Its own loss is the one to tell.
        Ok(None) | Err(_) => error,
    }
}

/// Which ranks of other hosts were lost first, and why; none where all of them say that they lost others first.
fn lost_hosts(attempt: &Attempt) -> anyhow::Result<Option<String>> {
    // A host waits for its own ranks before it says anything.
    const PATIENCE: Duration = LAST_WORDS.saturating_add(Duration::from_secs(3));
    const NAMED: usize = 3;
    let deadline = Instant::now() + PATIENCE;
    let silent = loop {
        let hosts = attempt.other_hosts()?;
        if let Some(reason) = hosts.iter().find_map(|host| host.reason.clone()) {
            return Ok(Some(reason));
        }
        let silent: Vec<_> = hosts.into_iter().filter(|host| !host.left).collect();
        if silent.is_empty() || Instant::now() > deadline {
            break silent;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    for host in &silent {
        attempt.note_lost(host, "its worker said nothing any more")?;
    }
    let mut named: Vec<_> = silent.iter().take(NAMED).map(ToString::to_string).collect();
    if silent.len() > NAMED {
        named.push(format!("those on {} more hosts", silent.len() - NAMED));
    }
    Ok(match silent.len() {
        0 => None,
        1 => Some(format!("{}: its worker said nothing any more", named.concat())),
        _ => Some(format!("{}: their workers said nothing any more", named.join(", "))),
    })
}

/// How many ranks there are to be: as many as asked for or, for a job that a worker gave GPUs, one for each of
/// them, and no more than asked for.
fn count(experiment: &Experiment, asked: usize, device: Device, start: &Start) -> usize {
    if device == Device::Cpu || !matches!(start, Start::Worker) {
        return asked;
    }
    let gpus = usize::try_from(Cuda::device_count()).unwrap_or(1).max(1);
    let count = crew::fitting(experiment, if asked > 1 { asked.min(gpus) } else { gpus });
    if count < asked {
        tracing::warn!(
            "{count} of {asked} ranks: the worker gave {gpus} GPUs, and each rank takes one"
        );
    } else if count < gpus {
        tracing::warn!(
            "{count} of {gpus} GPUs are used: train.batch_size = {} and train.shares = {} allow no more ranks",
            experiment.train.batch_size,
            experiment.train.shares
        );
    }
    count
}

/// Trains as the first of the ranks.
fn lead(
    attempt: &Attempt,
    mut experiment: Experiment,
    run: &Run,
    place: &Place,
    device: Device,
    ranks: Ranks,
) -> anyhow::Result<End> {
    attempt.run_facts(RunFacts {
        device: contracts::device::name(device),
        libtorch: torch_ext::version().to_owned(),
        git_revision: crate::REVISION.map(str::to_owned),
    })?;
    let resume = resume_point(attempt)?;
    let step = resume.as_ref().map_or(0, |checkpoint| checkpoint.metadata().step);
    let asked = experiment.train.threads;
    if ranks.count() > 1 {
        tracing::info!("{} ranks train together", ranks.count());
        if device == Device::Cpu {
            tch::set_num_threads(i32::try_from(ranks.cores())?);
        }
    }
    experiment.settle(device, resume.as_ref().map(|checkpoint| &checkpoint.metadata().experiment));
    say_threads(&experiment, asked, device, resume.as_ref());
    data::settle(&mut experiment, attempt, &run.short, step)?;
    attempt.resumed_at(step.cast_signed())?;
    if step > 0 {
        tracing::info!(step, "going on from step {step}");
    }
    Plan::tell(&experiment, ranks)?;
    let places = Places { run: place, attempt: attempt.folder() };
    let resume = resume.map(Box::new);
    let end = train(&experiment, Role::Leader { places, resume }, device, ranks, attempt)
        .map_err(|error| shortage::explained(error, &experiment.train, device))?;
    if end != End::Stale {
        tell(attempt, &experiment, &run.short, end)?;
    }
    Ok(end)
}

/// Says where the run's newest checkpoint is, and how a picture is made with it.
fn tell(attempt: &Attempt, experiment: &Experiment, run: &str, end: End) -> anyhow::Result<()> {
    let Some(newest) = attempt.resume_point()? else { return Ok(()) };
    let task = experiment.data.tasks.iter().find(|(_, share)| **share > 0.0);
    let task = task.map(|(task, _)| task.to_string());
    if end == End::Stopped {
        tracing::info!(
            step = newest.step,
            "stopped at step {}; where it is paused, `scheduler resume {run}` lets a worker go on",
            newest.step
        );
    } else if let Some(finding) = attempt.finding()? {
        tracing::warn!(step = newest.step, "{finding}");
    }
    tracing::info!(step = newest.step, "checkpoint of step {}: {}", newest.step, newest.uri);
    tracing::info!("to make a picture: {}", super::picture(run, task.as_deref()));
    Ok(())
}

/// Says where a run that was `asked` for no number of threads goes on with others than this machine would take,
/// or may end with other bits than it would have.
fn say_threads(experiment: &Experiment, asked: usize, device: Device, resume: Option<&Checkpoint>) {
    let Some(checkpoint) = resume.filter(|_| device == Device::Cpu) else { return };
    let threads = experiment.train.threads;
    let here = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    match Trained::of(&checkpoint.metadata().experiment).threads {
        None => tracing::warn!(
            "its checkpoint does not say with how many threads the run began: it goes on with {threads}, \
             and may end with other bits than a run that was never interrupted"
        ),
        Some(began) if asked == 0 && began != here && began == threads => tracing::info!(
            "goes on with as many threads as it began with, {began}, for the same bits; here it would \
             take {here}"
        ),
        Some(_) => {}
    }
}

/// The newest registered checkpoint that is sound. Damaged ones before it are set aside, and that is said;
/// where none is sound it is an error, for beginning anew would silently throw work away.
fn resume_point(attempt: &Attempt) -> anyhow::Result<Option<Checkpoint>> {
    let registered = attempt.resume_points()?;
    let mut damaged: Vec<(i64, anyhow::Error)> = Vec::new();
    for point in &registered {
        match sound(point) {
            Ok(checkpoint) => {
                let steps: Vec<i64> = damaged.iter().map(|(step, _)| *step).collect();
                if !steps.is_empty() {
                    attempt.set_aside(&steps)?;
                }
                for (step, error) in &damaged {
                    tracing::warn!(
                        step,
                        "the checkpoint of step {step} cannot be used and is set aside: {error:#}"
                    );
                }
                return Ok(Some(checkpoint));
            }
            Err(error) => damaged.push((point.step, error)),
        }
    }
    let count = registered.len();
    match damaged.into_iter().next() {
        None => match attempt.origin()? {
            None => Ok(None),
            Some(RunOrigin { short, step, .. }) => Err(Usage::new(format!(
                "this run goes on from step {step} of run {short}, and its copy of that checkpoint is gone; \
                 submit it again: trainer submit --from {short}@{step}"
            ))
            .into()),
        },
        Some((step, error)) => Err(error.context(format!(
            "the checkpoint of step {step} cannot be used, and none of the {count} is sound; bring one \
             back, or begin anew: scheduler retry {} --from 0",
            attempt.job().short
        ))),
    }
}

/// A registered checkpoint whose files are all as they were written. What was fetched from a store and is
/// not, is fetched once more.
fn sound(registered: &registry::Checkpoint) -> anyhow::Result<Checkpoint> {
    let place = Place::stored(&registered.uri)?;
    let open = |folder: &Path| -> anyhow::Result<Checkpoint> {
        let checkpoint = Checkpoint::open(folder)?;
        if checkpoint.digest() != registered.digest {
            bail!("{} is not the checkpoint that was registered", registered.uri);
        }
        checkpoint.verify()?;
        Ok(checkpoint)
    };
    let folder = place::fetch(&place)?;
    match open(&folder) {
        Err(error) if !place.is_local() => {
            tracing::warn!("{error:#}; it is fetched once more");
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("{} cannot be removed", folder.display()))?;
            open(&place::fetch(&place)?)
        }
        opened => opened,
    }
}
