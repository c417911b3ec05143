//! Sampling jobs: what their payload says, and how a dataset, weights and tasks become one.

mod arguments;
pub mod destination;
mod job;
mod selection;

pub use arguments::{ComputeArgs, MaskReading, Process, SamplingArguments};
pub use job::{GivenCheckpoint, GivenMasks, SamplingJob};

use pipeline::degrade::Evaluation;
use pipeline::ingest::Event;
use storage::Place;

use crate::{Error, Result, Trained};

/// What is sampled with which weights.
pub struct Wanted<'a> {
    /// The weights.
    pub weights: Weights,
    /// A dataset, or a folder of pictures, which becomes a dataset beside the outputs.
    pub dataset: &'a Place,
    /// Tasks with their degradations.
    pub tasks: &'a [Evaluation],
    /// Outputs for each input.
    pub samples: u32,
    /// Where the outputs go.
    pub out: Place,
}

/// The weights of a sampling job.
pub struct Weights {
    /// Whose they are: a run and which of its checkpoints, or a checkpoint by its place.
    pub of: WeightsOf,
    /// What messages call them.
    pub name: String,
    /// How they were trained.
    pub trained: Trained,
}

/// Whose weights they are.
pub enum WeightsOf {
    /// Those of a run, `RUN@best`, `RUN@latest` or `RUN@STEP`. The run is named by its id, so that a
    /// newer run of the same name does not take its place.
    Run(String),
    /// Those of a checkpoint.
    Checkpoint(GivenCheckpoint),
}

impl SamplingArguments {
    /// The job that samples what is wanted in this way. Makes a dataset beside the outputs where a part
    /// of one or a folder of pictures is sampled; `tell` hears how far that is.
    ///
    /// # Errors
    /// When the dataset, the masks or the tasks cannot be used, and when that dataset cannot be made.
    pub fn job(&self, wanted: Wanted, tell: &dyn Fn(Event)) -> Result<SamplingJob> {
        let sampling = self.process.config()?;
        let masks = self.given_masks(wanted.tasks)?;
        if !self.any_task {
            let Weights { name, trained, .. } = &wanted.weights;
            wanted.tasks.iter().try_for_each(|task| trained.check_task(name, task.task()))?;
        }
        let dataset = selection::select(
            wanted.dataset,
            self.list.as_deref(),
            self.rows.as_deref(),
            &wanted.out,
            tell,
        )?;
        if dataset.is_empty() || self.count == Some(0) {
            return Err(Error::Refused(format!(
                "--dataset {}: no image to sample",
                wanted.dataset
            )));
        }
        let count = self.count.unwrap_or(u64::MAX).min(dataset.len());
        let (run, checkpoint) = match wanted.weights.of {
            WeightsOf::Run(run) => (Some(run), None),
            WeightsOf::Checkpoint(checkpoint) => (None, Some(checkpoint)),
        };
        Ok(SamplingJob {
            run,
            checkpoint,
            dataset: dataset.store().place().clone(),
            dataset_digest: dataset.digest().to_owned(),
            evaluations: wanted.tasks.to_vec(),
            masks,
            count,
            samples: wanted.samples,
            seed: self.seed,
            sampling,
            batch: self.numbers.batch(),
            precision: self.numbers.precision(),
            any_task: self.any_task,
            chunk: u64::from(self.chunk.unwrap_or_else(|| fair_chunk(count, self.workers))),
            out: wanted.out,
            png: self.png,
        })
    }

    /// Refuses a part of a dataset that [`Self::job`] would refuse, and makes nothing.
    ///
    /// # Errors
    /// When dataset, list or rows cannot be used, or the dataset lacks an image of the list.
    pub fn check_selection(&self, dataset: &Place) -> Result<()> {
        selection::check(dataset, self.list.as_deref(), self.rows.as_deref())
    }

    /// How many workers may take part beside the one that has the job.
    pub fn shares(&self, job: &SamplingJob) -> u32 {
        let workers = job.chunks().min(u64::from(self.workers));
        u32::try_from(workers).unwrap_or(self.workers).saturating_sub(1)
    }
}

/// Images in a chunk, so that each worker gets some.
fn fair_chunk(images: u64, workers: u32) -> u32 {
    const MOST: u64 = 256;
    const EACH: u64 = 4;
    let fair = match workers {
        1 => MOST,
        workers => images.div_ceil(EACH * u64::from(workers)),
    };
    fair.clamp(1, MOST) as u32
}

#[cfg(test)]
mod tests {
    use super::fair_chunk;

    #[test]
    fn every_worker_gets_chunks() {
        assert_eq!(fair_chunk(10_000, 1), 256);
        assert_eq!(fair_chunk(100, 5), 5);
        assert_eq!(fair_chunk(0, 3), 1);
    }
}
