//! The training loop: Algorithm 1 of the paper with Adam, warm-up and EMA weights.
//!
//! Step s uses global batch s and random numbers keyed by (seed, position), so the state at a step
//! is a function of the configuration alone: a run that goes on from a checkpoint ends with the bits
//! of one that was never interrupted, on the same device with the same number of threads.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use diffusion::checkpoint::Checkpoint;
use pipeline::{Loader, Stream};
use registry::End;
use storage::Place;
use tch::{Device, Tensor};

use crate::control::{Control, Stop};
use crate::metrics::{Metrics, MetricsWindow};
use crate::place;
use crate::ranks::Ranks;
use crate::ranks::tally::Fare;
use crate::step::{Steps, Word};
use crate::train_state::TrainState;
use crate::validation::{self, Preview, Validation};
use crate::watch::{Fault, StepLosses, Watch};
use crate::writer::{Writer, Written};
use contracts::Experiment;

/// Where a run keeps its things.
pub struct Places<'a> {
    /// That of its checkpoints and pictures.
    pub run: &'a Place,
    /// A folder of this machine for what is under way.
    pub attempt: &'a Path,
}

/// What this process does beside the steps.
pub enum Role<'a> {
    /// It begins the run, or goes on with it, and keeps what comes of it.
    Leader { places: Places<'a>, resume: Option<Box<Checkpoint>> },
    /// It takes the state of the leader, and keeps nothing.
    Follower,
}

/// Trains until the last step or until `control` says stop.
///
/// # Errors
/// When data, network or disk fail, a rank is lost, or the loss is lost again and again.
pub fn train(
    experiment: &Experiment,
    role: Role,
    device: Device,
    ranks: Ranks,
    control: &dyn Control,
) -> Result<End> {
    let mut state = match &role {
        Role::Leader { resume: Some(checkpoint), .. } => {
            TrainState::resumed(experiment, device, ranks, checkpoint)?
        }
        Role::Leader { .. } => TrainState::new(experiment, device, ranks)?,
        Role::Follower => TrainState::followed(experiment, device, ranks)?,
    };
    let lead = match role {
        Role::Leader { places, resume } => {
            let folder = place::folder(places.run, places.attempt);
            Some(Lead {
                run: places.run.to_owned(),
                preview: Preview::new(experiment, folder.join("previews"))?,
                writer: Writer::new(folder.clone(), places.run.to_owned())?,
                folder,
                good: resume.map(|checkpoint| *checkpoint),
            })
        }
        Role::Follower => None,
    };
    let validation = Validation::new(experiment, ranks)?;
    let mut training = TrainingLoop { experiment, control, ranks, validation, lead };
    if state.step() == 0 && experiment.train.checkpoint.initial {
        training.keep(&state, false, Metrics::new())?;
    }
    ranks.await_leader()?;

    // Once through, unless the loss is lost: then again from the last good checkpoint.
    let mut tries = 0;
    let mut good = training.good_step();
    loop {
        let fault = match training.go_on(&mut state)? {
            Outcome::Ended(end) => {
                training.close()?;
                return Ok(end);
            }
            Outcome::Lost(fault) => fault,
        };
        if !ranks.leads() {
            // The leader goes back, or gives up and is gone.
            state.follow()?;
            ranks.await_leader()?;
            continue;
        }
        training.register(true)?;
        if training.good_step() > good {
            (good, tries) = (training.good_step(), 0);
        }
        let most = experiment.train.watch.rewinds;
        if tries == most {
            bail!(
                "{fault}; went back to step {good} {} to no avail: try a lower \
                 train.learning_rate or train.clip = 1",
                times(most)
            );
        }
        tries += 1;
        tracing::warn!(
            step = good,
            "{fault}; going back to step {good}, with other noise ({tries} of {most})"
        );
        training.go_back(&mut state)?;
        ranks.await_leader()?;
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// How a stretch of training ended.
enum Outcome {
    Ended(End),
    Lost(Fault),
}

/// What a run has beside its train state.
struct TrainingLoop<'a> {
    experiment: &'a Experiment,
    control: &'a dyn Control,
    ranks: Ranks<'a>,
    validation: Option<Validation>,
    /// Of the first rank.
    lead: Option<Lead>,
}

/// What the first rank has alone.
struct Lead {
    run: Place,
    /// The folder of this machine that checkpoints are written to.
    folder: PathBuf,
    preview: Option<Preview>,
    writer: Writer,
    /// The last checkpoint that is registered.
    good: Option<Checkpoint>,
}

impl TrainingLoop<'_> {
    /// Steps from the train state's step on, to the end, a stop or a fault.
    fn go_on(&mut self, state: &mut TrainState) -> Result<Outcome> {
        let config = &self.experiment.train;
        let ranks = self.ranks;
        let several = ranks.count() > 1;
        let mut data = self.experiment.data.clone();
        if several && data.threads == 0 {
            data.threads = ranks.cores();
        }
        let mut loader = Loader::start(&data, self.stream(state.step()))?;
        let mut window = MetricsWindow::new(state.step(), self.experiment);
        let mut watch = Watch::new(&config.watch);
        let mut steps = Steps::new(several);
        let mut stop_heard = false;
        // Watches the losses of the steps that are there, or with `all` of every step.
        let mut look = |steps: &mut Steps,
                        all: bool,
                        window: &mut MetricsWindow,
                        stop_heard: &mut bool|
         -> Result<Option<Fault>> {
            while let Some(losses) = steps.read(all)? {
                *stop_heard |= losses.stop;
                let fault = watch.look(&losses);
                if let Some(mut fault) = fault {
                    if several {
                        fault.name(&named(&losses, ranks)?);
                    }
                    window.add(losses);
                    return Ok(Some(fault));
                }
                window.add(losses);
            }
            Ok(None)
        };

        let (mut skips_said, mut nothing_said) = (0, false);
        let mut before = Fare::default();
        while state.step() < config.steps {
            let stop = self.control.stop();
            if stop == Some(Stop::Stale) {
                return Ok(Outcome::Ended(End::Stale));
            }
            // Several ranks stop together, at the step that the wish of one came along with.
            if if several { stop_heard } else { stop.is_some() } {
                if let Some(fault) = look(&mut steps, true, &mut window, &mut stop_heard)? {
                    return Ok(Outcome::Lost(fault));
                }
                if state.step() > 0 {
                    self.keep(state, false, window.latest())?;
                }
                self.register(true)?;
                return Ok(Outcome::Ended(End::Stopped));
            }

            let batch = loader.next_batch()?;
            for error in loader.skipped().first.get(skips_said..).unwrap_or_default() {
                tracing::warn!("step {}: skipped: {error}", state.step() + 1);
                skips_said += 1;
            }
            let now = Fare {
                waited: loader.waited().as_secs_f64(),
                in_collective: state.in_collective().as_secs_f64(),
                skipped: loader.skipped().count as f64,
            };
            let word = Word { fare: now.since(before), stop: stop.is_some() };
            before = now;
            let learning_rate = steps.make(state, &batch, word, &mut |_| {})?;
            loader.reuse(batch);
            let step = state.step();

            // Before anything is kept or told, the losses of all steps are read, this one's as well.
            let last = step == config.steps;
            let keep = last || step.is_multiple_of(config.checkpoint.every);
            let validate = self.validation.as_ref().filter(|validation| validation.due(step));
            let previews = Preview::due(config, step);
            let told = window.due(step) || keep || validate.is_some() || previews;
            if let Some(fault) = look(&mut steps, told, &mut window, &mut stop_heard)? {
                return Ok(Outcome::Lost(fault));
            }

            // Metrics.
            if window.due(step) {
                let metrics = window.close(state, learning_rate, &loader);
                self.control.metrics(step, &metrics);
                let message = window.message();
                if ranks.leads() {
                    tracing::info!(step, "step {step}/{}  {message}", config.steps);
                }
                self.control.progress(step, config.steps, &message);
                let finding = window.finding().filter(|_| ranks.leads() && !nothing_said);
                if let Some(finding) = finding {
                    tracing::warn!(step, "step {step}/{}  {finding}", config.steps);
                    nothing_said = true;
                }
            }
            let mut validated = Metrics::new();
            if let Some(validation) = validate {
                validated = validation.run(state, ranks)?;
                self.control.metrics(step, &validated);
                if let Some((_, loss)) = validated.first().filter(|_| ranks.leads()) {
                    tracing::info!(
                        step,
                        loss,
                        "step {step}/{}  validation loss {loss:.4}",
                        config.steps
                    );
                }
            }
            if previews {
                let average = state.average()?;
                if let Some(lead) = &self.lead {
                    lead.draw(state, &average, self.experiment, self.control)?;
                }
            }

            // Checkpoint.
            if keep {
                validated.extend(window.latest());
                self.keep(state, last, validated)?;
            }
            self.register(false)?;
            if previews || keep {
                ranks.await_leader()?;
            }
        }
        self.register(true)?;
        Ok(Outcome::Ended(End::Finished))
    }

    fn stream(&self, first_batch: u64) -> Stream {
        Stream {
            seed: self.experiment.seed,
            batch_size: self.experiment.train.batch_size,
            first_batch,
            rank: self.ranks.rank(),
            world_size: self.ranks.count(),
        }
    }

    /// Begins to write a checkpoint of the train state's step, with the newest metrics. Of several ranks all
    /// take part, and the first writes.
    fn keep(&mut self, state: &TrainState, last: bool, metrics: Metrics) -> Result<()> {
        self.register(true)?;
        let snapshot = state.snapshot()?;
        match (&mut self.lead, snapshot) {
            (Some(lead), Some(snapshot)) => {
                lead.writer.begin(snapshot, state.metadata()?, last, metrics)
            }
            _ => Ok(()),
        }
    }

    /// Registers what the writer has completed; with `wait` also what it is still at.
    fn register(&mut self, wait: bool) -> Result<()> {
        let Some(lead) = &mut self.lead else { return Ok(()) };
        let written = if wait { lead.writer.wait()? } else { lead.writer.poll()? };
        if let Some(written) = written {
            self.control.checkpoint(&written)?;
            self.control.reclaim(&self.experiment.train.checkpoint)?;
            let Written { checkpoint, .. } = written;
            tracing::debug!(step = checkpoint.metadata().step, "a checkpoint is registered");
            lead.good = Some(checkpoint);
        }
        Ok(())
    }

    /// Removes what went on to a store.
    fn close(&self) -> Result<()> {
        match &self.lead {
            Some(lead) if !lead.run.is_local() => place::clear(&lead.folder),
            _ => Ok(()),
        }
    }

    fn good_step(&self) -> u64 {
        let good = self.lead.as_ref().and_then(|lead| lead.good.as_ref());
        good.map_or(0, |checkpoint| checkpoint.metadata().step)
    }

    /// Takes the train state back to the last good checkpoint, or to step 0, with noise that it has
    /// not seen.
    fn go_back(&mut self, state: &mut TrainState) -> Result<()> {
        let rewinds = state.rewinds() + 1;
        match self.lead.as_ref().and_then(|lead| lead.good.as_ref()) {
            Some(checkpoint) => state.restore(checkpoint, Some(rewinds))?,
            None => state.begin(rewinds)?,
        }
        let step = state.step();
        self.control.went_back(step).context("going back could not be recorded")?;
        self.control.metrics(step, &vec![("rewinds".to_owned(), f64::from(rewinds))]);
        Ok(())
    }
}

impl Lead {
    /// Draws the fixed images, and keeps what can be kept of them: a picture that nobody can store ends no training.
    fn draw(
        &self,
        state: &TrainState,
        average: &[Tensor],
        experiment: &Experiment,
        control: &dyn Control,
    ) -> Result<()> {
        let Some(preview) = &self.preview else { return Ok(()) };
        let step = state.step();
        let drawn = match preview.draw(state, average, experiment) {
            Ok(drawn) => drawn,
            // A network may be too young for pictures; the losses say whether it is lost.
            Err(error) if validation::is_lost(&error) => {
                tracing::warn!(step, "step {step}: no preview: {error:#}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let sheet = || {
            let pages = preview.write(&drawn)?;
            if self.run.is_local() { Ok(()) } else { validation::publish(&pages, &self.run) }
        };
        if let Err(error) = sheet() {
            tracing::warn!(step, "step {step}: the sheet of the preview is not kept: {error:#}");
        }
        match crate::pictures::keep(step, &drawn.pictures, &self.run, control) {
            Ok(()) => preview.recorded(),
            Err(error) => {
                tracing::warn!(
                    step,
                    "step {step}: pictures of the preview are not kept: {error:#}"
                );
            }
        }
        Ok(())
    }
}

/// The keys of the images of a step, of all ranks.
fn named(losses: &StepLosses, ranks: Ranks) -> Result<Vec<String>> {
    let own: Vec<&str> = losses.images.iter().map(|image| image.key.as_str()).collect();
    let all = ranks.gather_words(&serde_json::to_string(&own)?)?;
    let mut keys = vec![String::new(); own.len()];
    for one in all {
        let of_rank: Vec<String> = serde_json::from_str(&one)?;
        for (key, own) in keys.iter_mut().zip(of_rank) {
            if !own.is_empty() {
                *key = own;
            }
        }
    }
    Ok(keys)
}
