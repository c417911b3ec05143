//! A try as an order of `sampler run`: files in a folder, weights, and how they are used.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use contracts::Trained;
use diffusion::SamplingConfig;
use diffusion::checkpoint::{Checkpoint, LAST};
use diffusion::reverse::{Method, Spacing};
use pipeline::Task;
use pipeline::masks::MaskOptions;
use registry::{Attempt, CheckpointName, Named, Try, TryPart};
use storage::{Place, atomic};

use crate::commands::run::mark::{Making, Mark};
use crate::commands::run::order::{Holes, Order};
use crate::inputs::{Framing, Input, Masks, Reader};
use crate::network;

/// Grey from which a pixel of a mask belongs to the hole.
const THRESHOLD: u8 = 128;

/// All that is needed to make a try.
pub struct Prepared {
    /// What is made.
    pub order: Order,
    /// How its picture is read.
    pub reader: Reader,
    /// Its picture.
    pub input: Input,
    /// What its weights are called.
    pub weights: String,
    /// The step of the run that they are of.
    pub step: Option<i64>,
}

impl Prepared {
    /// Writes the files of a try into a folder, and finds its weights.
    ///
    /// # Errors
    /// When something of what was asked for is not there, or does not go together.
    pub fn new(attempt: &Attempt, wanted: &Try, folder: &Path) -> Result<Self> {
        let task: Task = wanted.task.parse()?;
        let sampling = sampling(wanted)?;
        let reading = MaskOptions { threshold: THRESHOLD, invert: wanted.mask_invert };
        let (place, step) = weights(attempt, wanted)?;
        let checkpoint =
            network::open(&place).with_context(|| format!("weights {}", wanted.weights))?;
        if !wanted.any_task {
            Trained::of(&checkpoint.metadata().experiment).check_task(&wanted.weights, task)?;
        }
        let (input, mask) = files(attempt, wanted, folder)?;
        let holes = match (task.has_hole(), mask) {
            (false, _) => Holes::None,
            (true, Some(mask)) => Holes::Given(mask, reading),
            (true, None) => Holes::Erased(reading),
        };
        let masks = holes.open()?;
        let [height, width] = checkpoint.metadata().image_size;
        let side = wanted.short_side.and_then(|side| u32::try_from(side).ok());
        let framing = match (&*wanted.framing, side) {
            ("square", _) => Framing::Square(height.min(width)),
            ("short-side", Some(side)) => Framing::ShortSide(side),
            _ => Framing::Own,
        };
        let seed = wanted.seed.cast_unsigned();
        let mark = mark(&checkpoint, task, seed, &sampling, (&masks, reading), framing)?;
        let order = Order {
            checkpoint: place,
            digest: checkpoint.digest().to_owned(),
            precision: None,
            batch: None,
            task,
            framing,
            holes,
            extend: Vec::new(),
            seed,
            sampling,
            save_process: None,
            folder: folder.to_owned(),
            several: false,
            mark,
        };
        let weights = match step {
            Some(step) => format!("{} (step {step})", wanted.weights),
            None => wanted.weights.clone(),
        };
        Ok(Self { reader: order.reader(masks), order, input, weights, step })
    }
}

fn mark(
    checkpoint: &Checkpoint,
    task: Task,
    seed: u64,
    sampling: &SamplingConfig,
    (masks, reading): (&Masks, MaskOptions),
    framing: Framing,
) -> Result<Mark> {
    let (short_side, square) = match framing {
        Framing::Own => (None, false),
        Framing::ShortSide(side) => (Some(side), false),
        Framing::Square(_) => (None, true),
    };
    let (checkpoint, extend) = (checkpoint.digest(), &[][..]);
    Mark::of_all(&Making {
        checkpoint,
        task,
        seed,
        sampling,
        masks,
        reading,
        extend,
        short_side,
        square,
    })
}

fn sampling(wanted: &Try) -> Result<SamplingConfig> {
    let method = Method::from_str(&wanted.process, false);
    let spacing = Spacing::from_str(&wanted.spacing, false);
    let config = SamplingConfig {
        method: method.map_err(|_| anyhow::anyhow!("no process `{}`", wanted.process))?,
        steps: wanted.steps.map(u32::try_from).transpose()?,
        spacing: spacing.map_err(|_| anyhow::anyhow!("no spacing `{}`", wanted.spacing))?,
        eta: wanted.eta,
        ..SamplingConfig::default()
    };
    config.validate().map_err(contracts::ConfigError::from)?;
    Ok(config)
}

/// Where the weights are, and the step of the run that they are of.
fn weights(attempt: &Attempt, wanted: &Try) -> Result<(Place, Option<i64>)> {
    let name: CheckpointName = wanted.weights.parse().map_err(anyhow::Error::msg)?;
    // A run is meant where one was found when the try was made, whatever lies in this process's folder.
    let named = match wanted.run_id {
        Some(id) => {
            let typed: registry::RunRef = wanted.weights.parse().map_err(anyhow::Error::msg)?;
            Named::Run(registry::RunRef { run: id.to_string(), at: typed.at })
        }
        None => name.named(LAST)?,
    };
    match named {
        Named::Place(place) => Ok((place, None)),
        Named::Run(reference) => {
            let (_, checkpoint) = attempt.checkpoint_now(&reference)?;
            Ok((Place::stored(&checkpoint.uri)?, Some(checkpoint.step)))
        }
    }
}

/// The picture and the mask as files.
fn files(attempt: &Attempt, wanted: &Try, folder: &Path) -> Result<(Input, Option<String>)> {
    let key = &wanted.name;
    if Path::new(key).file_name().is_none_or(|name| name != key.as_str()) {
        bail!("`{key}` is no name of a file");
    }
    let (mut input, mut mask) = (None, None);
    for (file, bytes) in attempt.try_files(wanted.id)? {
        let ending = match &*file.media {
            "image/jpeg" => "jpg",
            "image/webp" => "webp",
            _ => "png",
        };
        // In folders of their own, so that neither of them and no output has the name of another.
        let under = folder.join(if file.what == TryPart::Mask { "mask" } else { "input" });
        std::fs::create_dir_all(&under)?;
        let path = under.join(format!("{key}.{ending}"));
        atomic::write(&path, &bytes)?;
        match file.what {
            TryPart::Mask => mask = Some(path.display().to_string()),
            _ => input = Some(Input { path, key: key.clone() }),
        }
    }
    Ok((input.context("the picture is gone")?, mask))
}

#[cfg(test)]
mod tests {
    use registry::TRY_PROCESSES;

    use super::*;

    #[test]
    fn a_try_may_name_every_process() {
        let mut offered = TRY_PROCESSES;
        let mut known = Method::ALL.map(|method| method.to_string());
        offered.sort_unstable();
        known.sort_unstable();
        assert_eq!(offered.as_slice(), known.as_slice());
        assert_eq!(TRY_PROCESSES[0], Method::Dpmpp2m.to_string(), "what `sampler run` takes");
    }
}
