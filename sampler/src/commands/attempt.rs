//! One attempt at a sampling job or at a share of it: the chunks that nobody has; then, by the job
//! itself, manifest and pictures.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use contracts::sampling::GivenMasks;
use contracts::{DeviceChoice, Origin, SamplingJob, Trained};
use diffusion::reverse::Step;
use image::RgbImage;
use outputs::OutputRow;
use pictures::{from_mask, png};
use pipeline::Dataset;
use registry::{Attempt, Chunk, End, JobKind, Stop, Tally, Uuid};
use terminal::Usage;

use crate::network::{self, Computing, Item, Network, SeededSampling};
use crate::outputs::Outputs;
use crate::pairs::{Pair, Pairs};
use crate::serve;

/// `sampler attempt`: the identity comes from the worker by environment.
pub fn run() -> anyhow::Result<ExitCode> {
    Attempt::of_worker()?.make(|attempt| match attempt.job().kind {
        JobKind::Try => serve::work(attempt, false),
        _ => work(attempt),
    })
}

fn work(attempt: &Attempt) -> anyhow::Result<End> {
    let sampling = attempt.sample_job()?;
    let job = SamplingJob::from_payload(&sampling.payload)?;
    let dataset = Dataset::open(&job.dataset)?;
    if dataset.digest() != job.dataset_digest {
        let (queued, now) = (&job.dataset_digest, dataset.digest());
        let written = dataset.written()?.map(terminal::moment);
        let written = written.map(|written| format!(", written {written}")).unwrap_or_default();
        return Err(Usage::new(format!(
            "{} has changed since the job was queued ({}): its manifest was sha256 {queued}, and is \
             sha256 {now}{written}. Put the earlier dataset back, or submit a new job",
            job.dataset,
            terminal::moment(sampling.created_at),
        ))
        .into());
    }
    let masks = job.masks.as_ref().map(GivenMasks::open).transpose()?;
    let images = job.count.min(dataset.len());
    let chunks =
        attempt.create_chunks(sampling.id, images.cast_signed(), job.chunk.cast_signed())?;

    let mut worker = ChunkWorker {
        attempt,
        sampling: sampling.id,
        job: &job,
        pairs: Pairs { job: &job, dataset: &dataset, masks: masks.as_ref() },
        progress: terminal::Progress::new("sampling", Some(images * job.outputs_each()), "outputs"),
        pace: Pace::new(images * job.outputs_each()),
    };
    // A share that finds nothing left to do neither makes a folder nor loads a network.
    let mut begun = None;
    let own = attempt.job().id == sampling.id;
    loop {
        let chunk = match worker.next(own)? {
            Next::Chunk(chunk) => chunk,
            Next::Nothing => break,
            Next::Stop => return Ok(stopped(attempt)),
        };
        let (outputs, network) = match &begun {
            Some(begun) => begun,
            None => {
                let outputs = Outputs::open(attempt, sampling.id, &job, u32::try_from(chunks)?)?;
                let network = load(&job, outputs.origin())?;
                begun.insert((outputs, network))
            }
        };
        if !worker.work_on(&chunk, outputs, network)? {
            return Ok(stopped(attempt));
        }
    }
    worker.progress.finish();
    if own {
        let outputs = match begun {
            Some((outputs, _)) => outputs,
            None => Outputs::open(attempt, sampling.id, &job, u32::try_from(chunks)?)?,
        };
        outputs.finish()?;
        tracing::info!("outputs: {}", job.out);
    }
    Ok(End::Finished)
}

fn load(job: &SamplingJob, origin: &Origin) -> anyhow::Result<Network> {
    let checkpoint = network::open(&origin.checkpoint)?;
    if checkpoint.digest() != origin.checkpoint_digest {
        let message = format!(
            "{} is not the checkpoint that it was when it was registered or the job was queued",
            origin.checkpoint
        );
        return Err(Usage::new(message).into());
    }
    let trained = Trained::of(&checkpoint.metadata().experiment);
    job.check_tasks(&origin.checkpoint.to_string(), &trained)?;
    let device = DeviceChoice::Auto.device()?;
    // Not what this device would choose: all attempts and shares draw in the same numbers.
    let precision = origin.precision.or(job.precision);
    Network::of(&checkpoint, Computing { device, precision, batch: job.batch, sharing: 1 })
}

/// Waiting for what others have taken, this long between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

enum Next {
    Chunk(Chunk),
    /// Everything is done; for a share: everything is taken.
    Nothing,
    Stop,
}

/// Takes one chunk after another of a sampling job and makes its outputs, for one attempt.
struct ChunkWorker<'a> {
    attempt: &'a Attempt,
    /// The sample job: the attempt's own, or the one that it is a share of.
    sampling: Uuid,
    job: &'a SamplingJob,
    pairs: Pairs<'a>,
    progress: terminal::Progress,
    pace: Pace,
}

impl ChunkWorker<'_> {
    /// The next chunk. The sample job's own attempt waits for those that its shares have taken, and
    /// takes them where a share is lost.
    fn next(&mut self, own: bool) -> anyhow::Result<Next> {
        loop {
            if self.attempt.stop_requested().is_some() {
                return Ok(Next::Stop);
            }
            if let Some(chunk) = self.attempt.claim_chunk(self.sampling)? {
                return Ok(Next::Chunk(chunk));
            }
            let tally = self.attempt.tally(self.sampling)?;
            if !own || tally.chunks_left == 0 {
                return Ok(Next::Nothing);
            }
            self.tell(&tally, 0);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Says how far the whole job is: what all have done, and `here` outputs of this one's chunk.
    fn tell(&mut self, tally: &Tally, here: u64) {
        let done = tally.rows_done.cast_unsigned() * self.job.outputs_each() + here;
        self.progress.set(done);
        let mut message = "outputs".to_owned();
        if let Some(left) = self.pace.left(done) {
            message = format!("{message}, about {} left", terminal::duration(left));
        }
        if tally.workers > 1 {
            message = format!("{message}, {} workers", tally.workers);
        }
        let total = self.pace.total.cast_signed();
        self.attempt.progress(done.cast_signed(), total, &message);
    }

    /// Makes the outputs of a chunk and writes its shard; false where it has to stop before that. A
    /// chunk that was begun is begun again by whoever takes it next.
    fn work_on(
        &mut self,
        chunk: &Chunk,
        outputs: &Outputs,
        network: &Network,
    ) -> anyhow::Result<bool> {
        let go_on = || self.attempt.stop_requested().is_none();
        let mut watch = |_: usize, _: &Step| match go_on() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let seeded = SeededSampling { seed: self.job.seed, sampling: &self.job.sampling };
        let rows = chunk.rows.start.cast_unsigned()..chunk.rows.end.cast_unsigned();
        let mut pairs = self.pairs.of(rows, network.image_size());
        let mut shard = outputs.chunk(u32::try_from(chunk.number)?)?;
        let mut done = 0;
        loop {
            let tally = self.attempt.tally(self.sampling)?;
            self.tell(&tally, done);
            let pairs: Vec<Pair> =
                pairs.by_ref().take(network.batch()).collect::<anyhow::Result<_>>()?;
            if pairs.is_empty() {
                break;
            }
            let split = pairs.into_iter().map(|pair| (pair.item, (pair.reference, pair.variant)));
            let (items, beside): (Vec<Item>, Vec<_>) = split.unzip();
            let restored = match network.restore(&items, seeded, &mut watch) {
                Ok(restored) => restored,
                Err(_) if !go_on() => return Ok(false),
                Err(error) => return Err(error),
            };
            for ((item, (reference, variant)), output) in
                items.into_iter().zip(beside).zip(restored)
            {
                let pair = Pair { item, reference, variant };
                outputs.push(&mut shard, row(pair, self.job.seed, &output)?)?;
                done += 1;
            }
        }
        let shard = shard.finish()?;
        let place = self.job.out.join(&shard.file)?.to_string();
        let bytes = shard.bytes.cast_signed();
        self.attempt.finish_chunk(self.sampling, chunk.number, &place, bytes, &shard.sha256)?;
        Ok(true)
    }
}

/// How fast the job goes, all workers together, since this attempt looks.
struct Pace {
    total: u64,
    first: Option<(Instant, u64)>,
}

impl Pace {
    fn new(total: u64) -> Self {
        Self { total, first: None }
    }

    /// The time that the rest will take.
    fn left(&mut self, done: u64) -> Option<Duration> {
        let (since, before) = *self.first.get_or_insert_with(|| (Instant::now(), done));
        let made = done.checked_sub(before).filter(|&made| made > 0)?;
        let left = self.total.checked_sub(done)?;
        Some(since.elapsed().mul_f64(left as f64 / made as f64))
    }
}

fn stopped(attempt: &Attempt) -> End {
    match attempt.stop_requested() {
        Some(Stop::Stale) => End::Stale,
        _ => End::Stopped,
    }
}

fn row(pair: Pair, seed: u64, output: &RgbImage) -> anyhow::Result<OutputRow> {
    let Pair { item, reference, variant } = pair;
    Ok(OutputRow {
        source: png(&item.degraded.source)?,
        mask: png(&from_mask(&item.degraded.mask))?,
        output: png(output)?,
        reference: png(&reference)?,
        key: item.key,
        seed,
        sample: item.sample,
        task: variant,
    })
}
