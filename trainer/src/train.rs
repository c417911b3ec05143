//! The training loop: Algorithm 1 of the paper with Adam, warm-up and EMA weights.
//!
//! Step s uses global batch s and random numbers keyed by (seed, position), so the state at a step
//! is a function of the configuration alone: a run that goes on from a checkpoint ends with the bits
//! of one that was never interrupted, on the same device with the same number of threads.

use std::path::Path;

use anyhow::{Context, Result, bail};
use diffusion::checkpoint::Checkpoint;
use pipeline::{Loader, Stream};
use registry::End;
use storage::Place;
use tch::Device;

use crate::control::{Control, Stop};
use crate::metrics::{Metrics, MetricsWindow};
use crate::place;
use crate::ranks::Ranks;
use crate::step::Steps;
use crate::train_state::TrainState;
use crate::validation::{self, Preview, Validation};
use crate::watch::{Fault, Watch};
use crate::writer::{Writer, Written};
use contracts::Experiment;

/// Where a run keeps its things.
pub struct Places<'a> {
    /// That of its checkpoints and pictures.
    pub run: &'a Place,
    /// A folder of this machine for what is under way.
    pub attempt: &'a Path,
}

/// Trains until the last step or until `control` says stop.
///
/// # Errors
/// When data, network or disk fail, or the loss is lost again and again.
pub fn train(
    experiment: &Experiment,
    places: &Places,
    resume: Option<Checkpoint>,
    device: Device,
    ranks: Ranks,
    control: &dyn Control,
) -> Result<End> {
    let mut state = match &resume {
        Some(checkpoint) => TrainState::resumed(experiment, device, ranks, checkpoint)?,
        None => TrainState::new(experiment, device, ranks)?,
    };
    let folder = place::folder(places.run, places.attempt);
    let mut training = TrainingLoop {
        experiment,
        control,
        ranks,
        run: places.run.to_owned(),
        validation: Validation::new(experiment)?,
        preview: Preview::new(experiment, folder.join("previews"))?,
        writer: Writer::new(folder.clone(), places.run.to_owned())?,
        good: resume,
    };
    if state.step() == 0 && experiment.train.checkpoint.initial {
        training.keep(&state, false, Metrics::new())?;
    }

    // Once through, unless the loss is lost: then again from the last good checkpoint.
    let mut tries = 0;
    let mut good = training.good_step();
    loop {
        let fault = match training.go_on(&mut state)? {
            Outcome::Ended(end) => {
                if !places.run.is_local() {
                    place::clear(&folder)?;
                }
                return Ok(end);
            }
            Outcome::Lost(fault) => fault,
        };
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
    run: Place,
    validation: Option<Validation>,
    preview: Option<Preview>,
    writer: Writer,
    /// The last checkpoint that is registered.
    good: Option<Checkpoint>,
}

impl TrainingLoop<'_> {
    /// Steps from the train state's step on, to the end, a stop or a fault.
    fn go_on(&mut self, state: &mut TrainState) -> Result<Outcome> {
        let config = &self.experiment.train;
        let mut loader = Loader::start(&self.experiment.data, self.stream(state.step()))?;
        let mut window = MetricsWindow::new(state.step(), self.experiment);
        let mut watch = Watch::new(&config.watch);
        let mut steps = Steps::default();
        // Watches the losses of the steps that are there, or with `all` of every step.
        let mut look =
            |steps: &mut Steps, all: bool, window: &mut MetricsWindow| -> Result<Option<Fault>> {
                while let Some(losses) = steps.read(all)? {
                    let fault = watch.look(&losses);
                    window.add(losses);
                    if fault.is_some() {
                        return Ok(fault);
                    }
                }
                Ok(None)
            };

        let (mut skips_said, mut nothing_said) = (0, false);
        while state.step() < config.steps {
            match self.control.stop() {
                Some(Stop::AtCheckpoint) => {
                    if let Some(fault) = look(&mut steps, true, &mut window)? {
                        return Ok(Outcome::Lost(fault));
                    }
                    if state.step() > 0 {
                        self.keep(state, false, window.latest())?;
                    }
                    self.register(true)?;
                    return Ok(Outcome::Ended(End::Stopped));
                }
                Some(Stop::Stale) => return Ok(Outcome::Ended(End::Stale)),
                None => {}
            }

            let batch = loader.next_batch()?;
            for error in loader.skipped().first.get(skips_said..).unwrap_or_default() {
                tracing::warn!("step {}: skipped: {error}", state.step() + 1);
                skips_said += 1;
            }
            let learning_rate = steps.make(state, &batch, &mut |_| {})?;
            loader.reuse(batch);
            let step = state.step();

            // Before anything is kept or told, the losses of all steps are read, this one's as well.
            let last = step == config.steps;
            let keep = last || step.is_multiple_of(config.checkpoint.every);
            let validate = self.validation.as_ref().filter(|validation| validation.due(step));
            let preview = self.preview.as_ref().filter(|preview| preview.due(step));
            let told = window.due(step) || keep || validate.is_some() || preview.is_some();
            if let Some(fault) = look(&mut steps, told, &mut window)? {
                return Ok(Outcome::Lost(fault));
            }

            // Metrics.
            if window.due(step) {
                let metrics = window.close(state, learning_rate, &loader);
                self.control.metrics(step, &metrics);
                let message = window.message();
                tracing::info!(step, "step {step}/{}  {message}", config.steps);
                self.control.progress(step, config.steps, &message);
                if let Some(finding) = window.finding().filter(|_| !nothing_said) {
                    tracing::warn!(step, "step {step}/{}  {finding}", config.steps);
                    nothing_said = true;
                }
            }
            let mut validated = Metrics::new();
            if let Some(validation) = validate {
                validated = validation.run(state)?;
                self.control.metrics(step, &validated);
                if let Some((_, loss)) = validated.first() {
                    tracing::info!(
                        step,
                        loss,
                        "step {step}/{}  validation loss {loss:.4}",
                        config.steps
                    );
                }
            }
            if let Some(preview) = preview {
                match preview.draw(state, self.experiment) {
                    Ok(pages) if !self.run.is_local() => {
                        validation::publish(&pages, &self.run)?;
                    }
                    Ok(_) => {}
                    // A network may be too young for pictures; the losses say whether it is lost.
                    Err(error) if validation::is_lost(&error) => {
                        tracing::warn!(step, "step {step}: no preview: {error:#}");
                    }
                    Err(error) => return Err(error),
                }
            }

            // Checkpoint.
            if keep {
                validated.extend(window.latest());
                self.keep(state, last, validated)?;
            }
            self.register(false)?;
        }
        self.register(true)?;
        Ok(Outcome::Ended(End::Finished))
    }

    fn stream(&self, first_batch: u64) -> Stream {
        Stream {
            seed: self.experiment.seed,
            batch_size: self.experiment.train.batch_size,
            first_batch,
            rank: self.ranks.rank,
            world_size: self.ranks.world_size,
        }
    }

    /// Begins to write a checkpoint of the train state's step, with the newest metrics.
    fn keep(&mut self, state: &TrainState, last: bool, metrics: Metrics) -> Result<()> {
        self.register(true)?;
        if self.ranks.rank > 0 {
            return Ok(());
        }
        self.writer.begin(state.snapshot()?, state.metadata()?, last, metrics)
    }

    /// Registers what the writer has completed; with `wait` also what it is still at.
    fn register(&mut self, wait: bool) -> Result<()> {
        let written = if wait { self.writer.wait()? } else { self.writer.poll()? };
        if let Some(written) = written {
            self.control.checkpoint(&written)?;
            self.control.reclaim(&self.experiment.train.checkpoint)?;
            let Written { checkpoint, .. } = written;
            tracing::debug!(step = checkpoint.metadata().step, "a checkpoint is registered");
            self.good = Some(checkpoint);
        }
        Ok(())
    }

    fn good_step(&self) -> u64 {
        self.good.as_ref().map_or(0, |checkpoint| checkpoint.metadata().step)
    }

    /// Takes the train state back to the last good checkpoint, or to step 0, with noise that it has
    /// not seen.
    fn go_back(&mut self, state: &mut TrainState) -> Result<()> {
        let rewinds = state.rewinds() + 1;
        match &self.good {
            Some(checkpoint) => state.restore(checkpoint)?,
            None => state.begin()?,
        }
        state.set_rewinds(rewinds);
        let step = state.step();
        self.control.went_back(step).context("going back could not be recorded")?;
        self.control.metrics(step, &vec![("rewinds".to_owned(), f64::from(rewinds))]);
        Ok(())
    }
}
