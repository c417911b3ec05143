//! Tries: pictures that people give in the control room, made one after another by one process that keeps the networks
//! loaded. A try goes the way of `sampler run` with the same arguments, and its outputs are the same files.
//!
//! What ends the process in the middle of a try costs that try alone: whoever comes next makes it again, three times
//! at most, and the same bits come out.

mod frames;
mod networks;
mod order;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contracts::payload;
use diffusion::reverse::Step;
use registry::{Attempt, End, NewTryPicture, Stop, Try, TryEnd, TryPart};
use serde::Deserialize;
use storage::limited;

use crate::commands::run::desk::News;
use crate::commands::run::work::Work;
use crate::network::Item;
use frames::Frames;
use networks::Networks;
use order::Prepared;

/// Between two looks for a try.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Between two notes of how far a try is.
const TELL_AGAIN: Duration = Duration::from_millis(400);
/// Longest output that is stored.
const LONGEST: u64 = 128 << 20;

/// What the job says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    /// Seconds without a try after which it ends.
    idle: u32,
}

/// Makes tries until none came for a while, or until it is asked to stop. In the `foreground` a stop is the end of the
/// job: nobody takes up a job that a terminal began.
///
/// # Errors
/// When the attempt is stale or the device is lost. What is wrong with a try is entered there.
pub fn work(attempt: &Attempt, foreground: bool) -> Result<End> {
    let service: Service = payload::read(&attempt.job().payload, "the job", "sampler")?;
    let idle = Duration::from_secs(u64::from(service.idle));
    let mut networks = Networks::default();
    let mut since = Instant::now();
    let mut made = 0;
    loop {
        match attempt.stop_requested() {
            None => {}
            Some(Stop::Stale) => return Ok(End::Stale),
            Some(Stop::Cancel) => return Ok(End::Stopped),
            Some(_) if foreground => return Ok(End::Finished),
            Some(_) => return Ok(End::Stopped),
        }
        if let Some(wanted) = attempt.claim_try()? {
            attempt.progress(made, made + 1, &format!("making {}", wanted.name));
            make(attempt, &wanted, &mut networks)?;
            made += 1;
            attempt.progress(made, made, "waiting for pictures");
            since = Instant::now();
        } else if since.elapsed() >= idle {
            // One that comes now finds no job that runs, and queues another.
            tracing::info!("no picture to try for {} seconds: {made} were made", service.idle);
            return Ok(End::Finished);
        } else {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Why a try is left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("the try was cancelled")]
    Gone,
    #[error("asked to stop")]
    Stop,
}

fn make(attempt: &Attempt, wanted: &Try, networks: &mut Networks) -> Result<()> {
    let folder = attempt.folder().join(wanted.id.simple().to_string());
    let done = std::fs::create_dir_all(&folder)
        .with_context(|| format!("{} cannot be made", folder.display()))
        .and_then(|()| restore(attempt, wanted, networks, &folder));
    let _ = std::fs::remove_dir_all(&folder);
    let end = match done {
        Ok(outputs) => TryEnd::Done(outputs),
        Err(error) => match error.downcast_ref::<Left>() {
            Some(Left::Gone) => return Ok(()),
            Some(Left::Stop) => return Ok(attempt.leave_try(wanted.id)?),
            None if attempt.stop_requested() == Some(Stop::Stale) => return Err(error),
            // Nothing works on this device any more: the next process begins with a new one.
            None if is_lost(&error) => return Err(error),
            None => {
                let reason = terminal::one_line(&error);
                tracing::warn!("{}: {reason}", wanted.name);
                TryEnd::Failed(reason)
            }
        },
    };
    attempt.end_try(wanted.id, &end)?;
    Ok(())
}

fn is_lost(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("CUDA error") && !torch_ext::is_out_of_memory(&text)
}

fn restore(
    attempt: &Attempt,
    wanted: &Try,
    networks: &mut Networks,
    folder: &Path,
) -> Result<Vec<NewTryPicture>> {
    let prepared = Prepared::new(attempt, wanted, folder)?;
    let Prepared { order, reader, input, weights, step } = &prepared;
    let network = networks.of(order)?;
    let samples = u32::try_from(wanted.samples)?;
    let total = network.steps(&order.sampling) * u64::from(samples);
    if !attempt.begin_try(wanted.id, *step, &order.digest, total.cast_signed())? {
        return Err(Left::Gone.into());
    }
    tracing::info!("{}: {} with {weights}, {samples} samples", wanted.name, order.task);
    let picture = reader.read(input)?;
    let given = frames::given(&picture.degraded, order.task)?;
    let mut frames = Frames::new(vec![given]);
    let (made, mut told) = (std::cell::Cell::new(0), Instant::now());
    let mut tell = |news| {
        if let News::Made(steps) = news {
            made.set(steps);
        }
        Ok(())
    };
    let mut see = |items: &[Item], first: usize, step: &Step| {
        if attempt.stop_requested().is_some() {
            return Err(Left::Stop.into());
        }
        frames.see(items, first, step)?;
        if frames.waiting() || told.elapsed() >= TELL_AGAIN {
            told = Instant::now();
            if !attempt.advance_try(wanted.id, made.get().cast_signed(), &frames.take())? {
                return Err(Left::Gone.into());
            }
        }
        Ok(())
    };
    let mut work = Work::new(order, reader, network, &mut tell).seen_by(&mut see);
    work.take(input, 0..samples)?;
    work.go()?;
    drop(work);
    (0..samples).map(|sample| output(&prepared, sample)).collect()
}

/// An output as it was written.
fn output(prepared: &Prepared, sample: u32) -> Result<NewTryPicture> {
    use crate::commands::run::names;
    let path = names::output(&prepared.order.folder, &prepared.input.key, sample);
    let bytes = limited::read(&path, LONGEST).with_context(|| path.display().to_string())?;
    let (width, height) = image::ImageReader::new(std::io::Cursor::new(&bytes))
        .with_guessed_format()?
        .into_dimensions()?;
    Ok(NewTryPicture {
        what: TryPart::Output,
        sample: sample.cast_signed(),
        step: 0,
        width: width.cast_signed(),
        height: height.cast_signed(),
        media: "image/png",
        bytes,
    })
}
