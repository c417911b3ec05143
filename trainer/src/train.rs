//! The training loop: Algorithm 1 of the paper with Adam, warm-up and a moving average of the
//! weights.
//!
//! Step s uses global batch s and random numbers keyed by (seed, s, position), so the state at a
//! step is a function of the configuration alone: a run that goes on from a checkpoint ends with the
//! bits of one that was never interrupted, on the same device with the same number of threads.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use diffusion::checkpoint::{Checkpoint, Facts, Part, Snapshot};
use diffusion::{DeviceBatch, Objective, UNet, weights};
use pipeline::{Batch, Loader, Stream};
use tch::{Device, Tensor, nn};
use torch_ext::{Adam, AdamOptions};

use crate::control::{Control, Stop};
use crate::experiment::Experiment;
use crate::report::Report;
use crate::writer::Writer;

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are done.
    Finished,
    /// Asked to stop; the state is kept.
    Stopped,
    /// Someone else has the run.
    Stale,
}

/// Trains until the last step or until `control` says stop.
///
/// # Errors
/// When data, network or disk fail, or the loss is no number any more.
pub fn train(
    experiment: &Experiment,
    place: PathBuf,
    resume: Option<&Checkpoint>,
    device: Device,
    control: &dyn Control,
) -> Result<End> {
    let config = &experiment.train;
    if config.threads > 0 {
        tch::set_num_threads(i32::try_from(config.threads)?);
    }

    // Network, optimizer, moving average.
    let variables = nn::VarStore::new(device);
    let network = UNet::new(&variables.root(), &experiment.model, experiment.side())?;
    weights::initialise(&variables, experiment.seed)?;
    let objective = Objective::new(&experiment.diffusion)?;
    if let Some(checkpoint) = resume {
        weights::assign(&variables, &checkpoint.read(Part::Model)?)?;
    }
    let (beta1, beta2) = config.betas;
    let options = AdamOptions { beta1, beta2, ..AdamOptions::default() };
    let mut adam = Adam::new(weights::named(&variables), options)?;
    let names: Vec<String> = weights::named(&variables).into_iter().map(|(name, _)| name).collect();
    let mut state = State { ema: weights::copy(&variables)?, variables, names, step: 0 };
    if let Some(checkpoint) = resume {
        adam.restore(checkpoint.read(Part::Optimizer)?)?;
        state.restore_ema(checkpoint.read(Part::Ema)?)?;
        state.step = checkpoint.facts().step;
    }

    // Data, checkpoints, report.
    let stream = Stream {
        seed: experiment.seed,
        batch_size: config.batch_size,
        first_batch: state.step,
        rank: 0,
        world_size: 1,
    };
    let mut loader = Loader::start(&experiment.data, stream)?;
    let mut writer = Writer::new(place)?;
    let mut report = Report::new(state.step, config);
    if state.step == 0 && config.checkpoint.initial {
        writer.begin(state.snapshot(&adam)?, facts(experiment, 0)?, false, Vec::new())?;
    }

    let mut skips_said = 0;
    while state.step < config.steps {
        if let Some(stop) = control.stop() {
            if stop == Stop::AtCheckpoint {
                register(&mut writer, control, true)?;
                if state.step > 0 {
                    let facts = facts(experiment, state.step)?;
                    writer.begin(state.snapshot(&adam)?, facts, false, report.latest())?;
                }
                register(&mut writer, control, true)?;
                return Ok(End::Stopped);
            }
            return Ok(End::Stale);
        }

        // Gradients of one global batch, in parts where it does not fit at once.
        let batch = loader.next_batch()?;
        for error in loader.skipped().first.get(skips_said..).unwrap_or_default() {
            eprintln!("step {}: skipped: {error}", state.step + 1);
            skips_said += 1;
        }
        for part in parts(&batch, config.micro_batch) {
            let share = part.len() as f64 / batch.size as f64;
            let images = device_batch(&batch, part.clone(), device)?;
            let positions = &batch.positions[part.clone()];
            // The stream of noise is the run's; a position occurs once in it.
            let losses = objective.loss(&network, &images, experiment.seed, positions)?;
            (losses.loss * share).backward();
            report.part(&losses.per_image, &batch.tasks[part]);
        }
        loader.reuse(batch);

        // Optimizer and moving average.
        if config.clip > 0.0 {
            report.gradient(torch_ext::clip_gradients(adam.parameters(), config.clip)?);
        } else if report.due(state.step + 1) {
            report.gradient(torch_ext::gradient_norm(adam.parameters())?);
        }
        let rate = config.rate(state.step + 1);
        adam.step(rate)?;
        adam.drop_gradients()?;
        state.step += 1;
        state.average(&adam, config.ema)?;

        // Report.
        if report.due(state.step) {
            let skipped = loader.skipped().count;
            let numbers = report.close(state.step, rate, loader.waited(), skipped);
            if let Some(keys) = report.lost() {
                bail!(
                    "step {}: the loss is no number any more (tasks {keys}); try a lower train.learning_rate or train.clip = 1",
                    state.step
                );
            }
            control.metrics(state.step, &numbers);
            let message = report.message();
            eprintln!("step {}/{}  {message}", state.step, config.steps);
            control.progress(state.step, config.steps, &message);
        }

        // Checkpoint.
        let last = state.step == config.steps;
        if last || state.step.is_multiple_of(config.checkpoint.every) {
            register(&mut writer, control, true)?;
            let facts = facts(experiment, state.step)?;
            writer.begin(state.snapshot(&adam)?, facts, last, report.latest())?;
        }
        register(&mut writer, control, false)?;
    }
    register(&mut writer, control, true)?;
    Ok(End::Finished)
}

/// What a step changes, besides the optimizer.
struct State {
    variables: nn::VarStore,
    names: Vec<String>,
    ema: Vec<(String, Tensor)>,
    step: u64,
}

impl State {
    /// ema ← decay·ema + (1 − decay)·weights.
    fn average(&self, adam: &Adam, decay: f64) -> Result<()> {
        let ema: Vec<Tensor> = self.ema.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        Ok(torch_ext::lerp(&ema, adam.parameters(), 1.0 - decay)?)
    }

    fn restore_ema(&mut self, kept: Vec<(String, Tensor)>) -> Result<()> {
        let names: Vec<&String> = kept.iter().map(|(name, _)| name).collect();
        if names.iter().copied().ne(self.names.iter()) {
            bail!("the moving average of the checkpoint has other tensors than the network");
        }
        for ((_, tensor), (_, kept)) in self.ema.iter_mut().zip(&kept) {
            tensor.f_copy_(kept).context("the moving average of the checkpoint does not fit")?;
        }
        Ok(())
    }

    /// A copy on the CPU that training no longer touches.
    fn snapshot(&self, adam: &Adam) -> Result<Snapshot> {
        Ok(Snapshot {
            model: apart(&weights::named(&self.variables))?,
            ema: apart(&self.ema)?,
            optimizer: apart(&adam.state())?,
        })
    }
}

fn apart(tensors: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
    tensors
        .iter()
        .map(|(name, tensor)| {
            let copy = tensor.detach().f_to_device_(Device::Cpu, tensor.kind(), false, true)?;
            Ok((name.clone(), copy))
        })
        .collect()
}

fn facts(experiment: &Experiment, step: u64) -> Result<Facts> {
    Ok(Facts {
        step,
        seed: experiment.seed,
        image_size: experiment.side(),
        model: experiment.model.clone(),
        diffusion: experiment.diffusion.clone(),
        experiment: serde_json::to_value(experiment)?,
    })
}

/// Registers what the writer has completed; with `wait` also what it is still at.
fn register(writer: &mut Writer, control: &dyn Control, wait: bool) -> Result<()> {
    let written = if wait { writer.wait()? } else { writer.poll()? };
    if let Some(written) = written {
        control.checkpoint(&written.checkpoint, written.last, &written.metrics)?;
    }
    Ok(())
}

/// Ranges of at most `size` images that make up the batch.
fn parts(batch: &Batch, size: usize) -> Vec<std::ops::Range<usize>> {
    let size = if size == 0 { batch.size } else { size };
    (0..batch.size).step_by(size).map(|at| at..(at + size).min(batch.size)).collect()
}

fn device_batch(
    batch: &Batch,
    part: std::ops::Range<usize>,
    device: Device,
) -> Result<DeviceBatch> {
    let pixels = batch.height * batch.width;
    let of = |channels: usize| part.start * channels * pixels..part.end * channels * pixels;
    let hole: Vec<bool> = batch.tasks[part.clone()].iter().map(|task| task.has_hole()).collect();
    Ok(DeviceBatch::from_u8(
        batch.height,
        batch.width,
        &batch.target[of(3)],
        &batch.source[of(3)],
        &batch.mask[of(1)],
        &hole,
        device,
    )?)
}
