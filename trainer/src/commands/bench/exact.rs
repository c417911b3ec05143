//! Does a run that goes on from a checkpoint end with the bits of one left alone? Here, on this device,
//! in this precision; without a database.

use anyhow::{Context, Result};
use diffusion::checkpoint::{Checkpoint, Named, Snapshot};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::feed::Feed;
use crate::ranks::Ranks;
use crate::step::{Steps, Word};
use crate::train_state::TrainState;
use crate::watch::StepLosses;
use contracts::Experiment;

/// Tensors that are printed where they differ.
const NAMED: usize = 10;

/// What was compared.
#[derive(Serialize)]
pub struct Exactness {
    /// Whether all bits are the same, and the weights moved at all.
    pub exact: bool,
    batch: usize,
    steps: u64,
    checkpoint_step: u64,
    device: String,
    precision: String,
    /// Tensors of weights, moments and averages.
    tensors: usize,
    /// Tensors of the weights that the steps after the checkpoint changed.
    trained: usize,
    different: Vec<Different>,
    /// The first step after the checkpoint whose losses or gradient norm differ.
    first_different_step: Option<u64>,
    /// Mean loss of the last step.
    loss: f64,
}

#[derive(Serialize)]
struct Different {
    part: String,
    name: String,
    largest_difference: f64,
}

/// Trains `steps` steps with a checkpoint in the middle, restores that into a fresh train state and
/// compares the ends.
///
/// # Errors
/// When memory or disk run out.
pub fn compare(
    experiment: &Experiment,
    device: Device,
    steps: u64,
    loader: bool,
) -> Result<Exactness> {
    let folder = tempfile::tempdir().context("a folder for the checkpoint could not be made")?;
    let middle = steps / 2;
    let mut state = TrainState::new(experiment, device, Ranks::ALONE)?;
    train(&mut state, experiment, middle, loader)?;
    let between = snapshot(&state)?;
    let checkpoint = Checkpoint::write(folder.path(), &between, state.metadata()?)?;
    let Snapshot { model: between, .. } = between;
    let losses = train(&mut state, experiment, steps, loader)?;
    let whole = snapshot(&state)?;
    // Room for the other: a large network does not fit twice.
    drop(state);

    let mut state = TrainState::new(experiment, device, Ranks::ALONE)?;
    state.restore(&checkpoint, None)?;
    let again = train(&mut state, experiment, steps, loader)?;
    let resumed = snapshot(&state)?;

    let mut different = Vec::new();
    let mut tensors = 0;
    for ((part, one), (_, other)) in parts(&whole).into_iter().zip(parts(&resumed)) {
        tensors += one.len();
        different.extend(differences(&part, one, other)?);
    }
    let trained = differences("", &between, &whole.model)?.len();
    let first = losses.iter().zip(&again).find(|(one, other)| !same(one, other));
    let first_different_step = first.map(|(losses, _)| losses.step);
    Ok(Exactness {
        exact: different.is_empty() && first_different_step.is_none() && trained > 0,
        batch: experiment.train.batch_size,
        steps,
        checkpoint_step: middle,
        device: super::name(device),
        precision: super::precision(experiment),
        tensors,
        trained,
        different,
        first_different_step,
        loss: losses.last().map_or(f64::NAN, StepLosses::mean),
    })
}

fn snapshot(state: &TrainState) -> Result<Snapshot> {
    state.snapshot()?.context("one process has its whole state")
}

/// Trains up to `steps` steps, as a run does. Returns the losses of the steps.
fn train(
    state: &mut TrainState,
    experiment: &Experiment,
    steps: u64,
    loader: bool,
) -> Result<Vec<StepLosses>> {
    let mut feed = Feed::new(experiment, loader, state.step(), Ranks::ALONE)?;
    let mut made = Steps::new(false);
    let mut losses = Vec::new();
    while state.step() < steps {
        let batch = feed.take(state.step(), experiment)?;
        made.make(state, &batch, Word::default(), &mut |_| {})?;
        feed.give(batch);
        while let Some(step_losses) = made.read(state.step() == steps)? {
            losses.push(step_losses);
        }
    }
    Ok(losses)
}

fn same(one: &StepLosses, other: &StepLosses) -> bool {
    let bits = |losses: &StepLosses| -> Vec<u64> {
        let of_images = losses.images.iter().map(|image| image.loss);
        of_images.chain([losses.norm]).map(f64::to_bits).collect()
    };
    bits(one) == bits(other)
}

fn parts(snapshot: &Snapshot) -> Vec<(String, &Named)> {
    let mut parts = vec![("weights".to_owned(), &snapshot.model)];
    parts.extend(snapshot.optimizer.iter().map(|moments| ("moments".to_owned(), moments)));
    let averages = snapshot.averages.iter().zip(1..);
    parts.extend(averages.map(|(average, number)| (format!("average {number}"), average)));
    parts
}

/// The tensors that are not the same bits. Both lists are of one network.
fn differences(part: &str, one: &Named, other: &Named) -> Result<Vec<Different>> {
    let bits = |tensor: &Tensor| tensor.f_contiguous()?.f_view_dtype(Kind::Int);
    let mut different = Vec::new();
    for ((name, one), (_, other)) in one.iter().zip(other) {
        if !bits(one)?.f_equal(&bits(other)?)? {
            let most = one.f_sub(other)?.f_abs()?.f_max()?;
            different.push(Different {
                part: part.to_owned(),
                name: name.clone(),
                largest_difference: f64::try_from(&most)?,
            });
        }
    }
    Ok(different)
}

impl Exactness {
    /// Prints it in a few lines.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn print(&self) -> Result<()> {
        let Self { steps, checkpoint_step, tensors, device, precision, .. } = self;
        let ways = format!("{device}, {precision}, batch {}", self.batch);
        if self.exact {
            return terminal::print(&format!(
                "exact: {steps} steps and {checkpoint_step} + {} with a checkpoint between end with \
                 the same bits in all {tensors} tensors ({ways})",
                steps - checkpoint_step
            ));
        }
        if self.trained == 0 {
            terminal::print("NOT shown: the steps after the checkpoint changed no weight")?;
        }
        if let Some(step) = self.first_different_step {
            terminal::print(&format!("step {step} is the first whose loss or gradient differs"))?;
        }
        let count = self.different.len();
        terminal::print(&format!("{count} of {tensors} tensors differ ({ways})"))?;
        for Different { part, name, largest_difference } in self.different.iter().take(NAMED) {
            terminal::print(&format!("{part}  {name}  {largest_difference:.1e}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_other_bit_is_a_difference_and_a_nan_is_none() {
        let named = |values: [f32; 3]| vec![("a".to_owned(), Tensor::from_slice(&values))];
        let first = named([1.0, 0.0, f32::NAN]);
        assert!(differences("weights", &first, &named([1.0, 0.0, f32::NAN])).unwrap().is_empty());
        for other in [[1.0, -0.0, f32::NAN], [1.0_f32.next_up(), 0.0, f32::NAN]] {
            let found = differences("weights", &first, &named(other)).unwrap();
            assert_eq!((found.len(), found[0].name.as_str()), (1, "a"));
        }
    }
}
