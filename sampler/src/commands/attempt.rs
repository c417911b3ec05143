//! One attempt at a sampling job: the chunks that are not done yet, then manifest and pictures.

use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context, bail};
use image::RgbImage;
use pipeline::image::{self as picture, Window};
use pipeline::masks::MaskSet;
use pipeline::output::OutputRow;
use pipeline::{Dataset, Degraded, sheet};
use scheduler::{Attempt, Ending, RunFacts, Stop};
use terminal::Usage;

use crate::job::SamplingJob;
use crate::network::{Item, Network};
use crate::outputs::Outputs;

/// How an attempt ended without an error.
enum End {
    Done,
    Stopped,
    Stale,
}

/// `sampler attempt`: the identity comes from the worker by environment.
pub fn run() -> anyhow::Result<ExitCode> {
    let attempt = Attempt::from_env()?
        .context("PALETTE_ATTEMPT is not set: this command is for workers (`scheduler worker`)")?;
    let end = work(&attempt);
    let (ending, status) = match &end {
        Ok(End::Done) => (Ending::Succeeded, ExitCode::SUCCESS),
        Ok(End::Stopped) => (Ending::Stopped, ExitCode::from(scheduler::STOPPED)),
        Ok(End::Stale) => bail!("another attempt has this job by now"),
        Err(error) => (Ending::Failed(format!("{error:#}")), ExitCode::FAILURE),
    };
    attempt.finish(ending)?;
    end.map(|_| status)
}

fn work(attempt: &Attempt) -> anyhow::Result<End> {
    let job: SamplingJob = serde_json::from_value(attempt.job().payload.clone())
        .map_err(|error| Usage::new(format!("payload of the sampling job: {error}")))?;
    let dataset = Dataset::open(&job.dataset)?;
    if dataset.digest() != job.dataset_digest {
        let message = format!("{} has changed since the job was queued", job.dataset);
        return Err(Usage::new(message).into());
    }
    let given = job.masks.as_ref();
    let masks = given.map(|given| MaskSet::open(&given.place, given.options)).transpose()?;
    let images = job.count.min(dataset.len());
    let chunks = attempt.create_chunks(images.cast_signed(), job.chunk.cast_signed())?;
    let outputs = Outputs::open(attempt, &job, u32::try_from(chunks)?)?;

    if let Some(reason) = torch_ext::idle_gpu() {
        eprintln!("warning: the GPU of this machine is not used: {reason}");
    }
    let device = torch_ext::device();
    let origin = outputs.origin();
    let network = Network::load(&origin.checkpoint, device)?;
    if network.checkpoint().digest() != origin.checkpoint_digest {
        bail!("{} is not the checkpoint that was registered", origin.checkpoint);
    }
    attempt.run_facts(RunFacts {
        device: format!("{device:?}"),
        libtorch: torch_ext::version().to_owned(),
        git_revision: None,
    })?;

    let each = job.evaluations.len() as u64 * u64::from(job.samples);
    let progress = terminal::Progress::new("sampling", Some(images * each), "outputs");
    let go_on = || attempt.stop_requested().is_none();
    while let Some(chunk) = attempt.claim_chunk()? {
        let rows = chunk.rows.start.cast_unsigned()..chunk.rows.end.cast_unsigned();
        let before = rows.start * each;
        let mut pending = pending(&job, &dataset, masks.as_ref(), rows, network.image_size());
        let mut done = Vec::new();
        loop {
            let batch: Vec<Pending> = pending.by_ref().take(job.batch).collect::<Result<_, _>>()?;
            if batch.is_empty() {
                break;
            }
            let (items, references): (Vec<Item>, Vec<RgbImage>) = batch.into_iter().unzip();
            let restored = match network.restore(&items, job.seed, &job.sampling, &go_on) {
                Ok(restored) => restored,
                Err(_) if !go_on() => return Ok(stopped(attempt)),
                Err(error) => return Err(error),
            };
            for ((item, reference), output) in items.into_iter().zip(references).zip(restored) {
                done.push(row(item, job.seed, output, reference)?);
            }
            let count = before + done.len() as u64;
            progress.set(count);
            attempt.progress(count.cast_signed(), (images * each).cast_signed(), "outputs");
        }
        let shard = outputs.write(u32::try_from(chunk.number)?, &done)?;
        let path = format!("{}/{}", job.out, shard.file);
        attempt.finish_chunk(chunk.number, &path, shard.bytes.cast_signed(), &shard.sha256)?;
        if !go_on() {
            return Ok(stopped(attempt));
        }
    }
    progress.finish();
    outputs.finish()?;
    eprintln!("outputs: {}", job.out);
    Ok(End::Done)
}

/// A chunk that was begun is begun again by the next attempt; what is done is kept.
fn stopped(attempt: &Attempt) -> End {
    match attempt.stop_requested() {
        Some(Stop::Stale) => End::Stale,
        _ => End::Stopped,
    }
}

/// What is to be restored, and the photograph that it is compared with.
type Pending = (Item, RgbImage);

/// Row of the number-th of `count` images that are spread evenly over `len` rows.
fn spread(number: u64, count: u64, len: u64) -> u64 {
    let row = u128::from(number) * u128::from(len) / u128::from(count.max(1));
    u64::try_from(row).unwrap_or(u64::MAX)
}

/// Every evaluation and sample of the images with these numbers, made when asked for.
fn pending<'a>(
    job: &'a SamplingJob,
    dataset: &'a Dataset,
    masks: Option<&'a MaskSet>,
    numbers: Range<u64>,
    size: u32,
) -> Box<dyn Iterator<Item = anyhow::Result<Pending>> + 'a> {
    Box::new(numbers.flat_map(move |number| {
        degraded(job, dataset, masks, spread(number, job.count, dataset.len()), size)
            .map_or_else(|error| vec![Err(error)], |items| items.into_iter().map(Ok).collect())
    }))
}

fn degraded(
    job: &SamplingJob,
    dataset: &Dataset,
    masks: Option<&MaskSet>,
    row: u64,
    size: u32,
) -> anyhow::Result<Vec<Pending>> {
    let record = dataset.record(row)?;
    let decoded = picture::decode(&record.bytes).map_err(|error| dataset.damaged(row, &error))?;
    let reference = picture::fit(&decoded, size, Window::CENTER)?;
    let mut items = Vec::new();
    for evaluation in &job.evaluations {
        let degraded = match masks {
            Some(masks) if evaluation.task().has_hole() => {
                Degraded::hole(&reference, masks.mask(row, &record.key, size, size)?)
            }
            _ => evaluation.apply(&reference, job.seed, &record.key)?,
        };
        for sample in 0..job.samples {
            let item = Item {
                task: evaluation.task(),
                degraded: degraded.clone(),
                key: record.key.clone(),
                sample,
            };
            items.push((item, reference.clone()));
        }
    }
    Ok(items)
}

fn row(item: Item, seed: u64, output: RgbImage, reference: RgbImage) -> anyhow::Result<OutputRow> {
    Ok(OutputRow {
        source: picture::png(&item.degraded.source.into())?,
        mask: picture::png(&sheet::mask_picture(&item.degraded.mask).into())?,
        output: picture::png(&output.into())?,
        reference: picture::png(&reference.into())?,
        key: item.key,
        seed,
        sample: item.sample,
        task: item.task,
    })
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn images_are_spread_over_the_dataset_and_all_are_all() {
        let rows = |count, len| (0..count).map(|n| spread(n, count, len)).collect::<Vec<_>>();
        assert_eq!(rows(4, 100), [0, 25, 50, 75]);
        assert_eq!(rows(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(spread(u64::MAX - 1, u64::MAX, u64::MAX), u64::MAX - 1);
    }
}
