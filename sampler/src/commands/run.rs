//! `sampler run`: pictures of one's own through the weights of a checkpoint folder.

mod work;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use contracts::Trained;
use contracts::sampling::{ComputeArgs, MaskReading, Process};
use diffusion::checkpoint::{Checkpoint, LAST};
use pipeline::Task;
use pipeline::masks::MaskSet;
use registry::{Blocking, CheckpointName, RunRef};
use storage::Place;
use terminal::Usage;

use super::computing;
use crate::extend::Extension;
use crate::inputs::{Framing, Input, Reader, inputs};
use crate::network::{self, Network};
use crate::recording::Form;
use work::Work;

#[derive(Args)]
pub struct RunArgs {
    /// The weights: a run (RUN, RUN@best, RUN@STEP), the folder or address of a run or of one of its
    /// steps, what `trainer import` made, or a file of `trainer export`.
    #[arg(long, value_name = "CHECKPOINT", required_unless_present = "run")]
    checkpoint: Option<CheckpointName>,
    /// The weights of a run: RUN, RUN@best, RUN@latest or RUN@STEP.
    #[arg(long, value_name = "RUN", conflicts_with = "checkpoint")]
    run: Option<RunRef>,
    /// The degraded picture, or a folder of them. Larger ones than the network's go through it in
    /// overlapping windows that are denoised together.
    #[arg(long, value_name = "FILE|DIR")]
    input: PathBuf,
    /// White where pixels are to be made; of the size of the input. One picture for all inputs, or
    /// a folder of them with the inputs' names. Needed for inpainting, and for uncropping without
    /// --extend.
    #[arg(long, value_name = "FILE|DIR")]
    mask: Option<String>,
    #[command(flatten)]
    mask_reading: MaskReading,
    /// What is to be undone: colorization, inpainting, uncropping, jpeg or superresolution.
    #[arg(long)]
    task: Task,
    /// Continue the picture to a side until it is so many times as wide or high, by repeated
    /// uncropping: right=2.0. May be repeated; sides are taken in order.
    #[arg(long, value_name = "SIDE=FACTOR", conflicts_with_all = ["mask", "save_process"])]
    extend: Vec<Extension>,
    /// Scale pictures and masks until their shorter side has so many pixels.
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    short_side: Option<u32>,
    /// Take the middle square, at the network's size.
    #[arg(long, conflicts_with = "short_side")]
    square: bool,
    /// Where NAME-1.png and so on go [default: beside the picture; of a folder to `restored` in it].
    #[arg(long, value_name = "DIR", value_parser = storage::local_path)]
    out: Option<PathBuf>,
    /// Replace outputs that are there.
    #[arg(long)]
    overwrite: bool,
    /// Pass over pictures whose outputs are all there.
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Outputs for each input.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Also write the denoising as NAME-1-process.png.
    #[arg(long, value_enum, value_name = "FORM")]
    save_process: Option<Form>,
    /// Also for a task that the network was not trained for.
    #[arg(long)]
    any_task: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    pub fn run(self) -> Result<()> {
        let sampling = self.process.config()?;
        self.check()?;
        let folder = self.folder();
        let inputs = self.wanted(inputs(&self.input)?, &folder)?;
        let masks = self.mask.as_ref().map(|place| {
            MaskSet::open(place, self.mask_reading.into())
                .map_err(|error| Usage::new(format!("--mask {place} cannot be used: {error}")))
        });
        let masks = masks.transpose()?;
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;

        let (name, checkpoint) = self.checkpoint()?;
        if !self.any_task {
            let trained = Trained::of(&checkpoint.metadata().experiment);
            trained.check_task(&name, self.task)?;
        }
        let network = Network::of(&checkpoint, computing(self.compute)?)?;
        let framing = match self.short_side {
            Some(side) => Framing::ShortSide(side),
            None if self.square => Framing::Square(network.image_size()),
            None => Framing::Own,
        };
        let reader = Reader { task: self.task, framing, masks };
        let mut work = Work::new(&self, &network, &sampling, folder, inputs.len());
        for input in &inputs {
            let read = reader.read(input).and_then(|degraded| {
                work.check(&degraded)?;
                Ok(degraded)
            });
            match read {
                Ok(degraded) => work.add(input, &degraded)?,
                Err(error) => work.pass_over(input, error)?,
            }
        }
        work.go()?;
        work.finish(inputs.len())
    }

    /// The checkpoint, and what it was called.
    fn checkpoint(&self) -> Result<(String, Checkpoint)> {
        let (name, option, place) = match (&self.run, &self.checkpoint) {
            (Some(run), _) => {
                let db = Blocking::open()?;
                let (_, found) = db.wait(db.checkpoint(run))?;
                (run.to_string(), "--run", Place::stored(&found.uri)?)
            }
            (None, Some(name)) => (name.to_string(), "--checkpoint", name.find(LAST)?),
            (None, None) => return Err(Usage::new("give --checkpoint or --run").into()),
        };
        let checkpoint = network::open(&place).with_context(|| format!("{option} {name}"))?;
        tracing::debug!(place = %place, "the weights are those of step {}", checkpoint.metadata().step);
        Ok((name, checkpoint))
    }

    fn check(&self) -> Result<(), Usage> {
        if !self.extend.is_empty() && self.task != Task::Uncropping {
            return Err(Usage::new(format!(
                "--extend is for --task uncropping, not {}",
                self.task
            )));
        }
        if self.task.has_hole() && self.mask.is_none() && self.extend.is_empty() {
            let or = if self.task == Task::Uncropping { ", or --extend" } else { "" };
            return Err(Usage::new(format!("--mask is needed for {}{or}", self.task)));
        }
        if !self.task.has_hole() && self.mask.is_some() {
            return Err(Usage::new(format!("--mask: {} has no hole; leave it out", self.task)));
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        match &self.out {
            Some(out) => out.clone(),
            None if self.input.is_dir() => self.input.join("restored"),
            None => self.input.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }

    /// The inputs whose outputs are not there yet.
    fn wanted(&self, inputs: Vec<Input>, folder: &Path) -> Result<Vec<Input>> {
        let mut wanted = Vec::new();
        for input in inputs {
            let outputs = (0..self.samples).map(|sample| output(folder, &input.key, sample));
            let there: Vec<PathBuf> = outputs.filter(|path| path.exists()).collect();
            match there.first() {
                Some(_) if self.skip_existing && there.len() == self.samples as usize => continue,
                Some(first) if !self.overwrite && !self.skip_existing => {
                    let message = format!(
                        "{} is there already: say --overwrite, --skip-existing or another --out",
                        first.display()
                    );
                    return Err(Usage::new(message).into());
                }
                _ => wanted.push(input),
            }
        }
        Ok(wanted)
    }
}

/// `photo-1.png` for the first sample of `photo.jpg`.
fn output(folder: &Path, key: &str, sample: u32) -> PathBuf {
    folder.join(format!("{key}-{}.png", sample + 1))
}
