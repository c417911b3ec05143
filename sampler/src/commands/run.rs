//! `sampler run`: pictures of one's own through the weights of a checkpoint folder.

pub mod desk;
mod dry;
pub mod mark;
pub mod names;
pub mod order;
mod said;
mod team;
pub mod work;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use contracts::Trained;
use contracts::sampling::{ComputeArgs, MaskReading, Process};
use diffusion::SamplingConfig;
use diffusion::checkpoint::{Checkpoint, LAST};
use pipeline::Task;
use registry::{Blocking, CheckpointName, RunRef};
use storage::{Place, atomic};
use terminal::Usage;

use crate::extend::Extension;
use crate::inputs::{Framing, Input, Masks, inputs};
use crate::network;
use crate::recording::Form;
use desk::Desk;
use mark::{Making, Mark};
use order::{Holes, Order};
use said::Said;
use team::Gpus;
use work::Work;

#[derive(Args)]
#[command(after_help = "\
Examples:
  sampler run --checkpoint palette@best --input photo.jpg --task colorization --samples 4
  sampler run --checkpoint palette@best --input photo.jpg --mask mask.png --task inpainting
  sampler run --checkpoint palette@best --input photos/ --task colorization --gpus all")]
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
    /// White where pixels are to be made; of the size of the input. Also strokes on transparency, or the
    /// picture itself with the hole erased. One picture for all inputs, or a folder of them with the
    /// inputs' names. For inpainting, and for uncropping without --extend [default: where the inputs
    /// are transparent].
    #[arg(long, value_name = "FILE|DIR")]
    mask: Option<String>,
    #[command(flatten)]
    mask_reading: MaskReading,
    /// What is to be undone: colorization, inpainting, uncropping, jpeg or superresolution.
    #[arg(long)]
    task: Task,
    /// Continue the picture to a side until it is FACTOR times as wide or high, by repeated
    /// uncropping: right=2.0. May be repeated; sides are taken in order.
    #[arg(long, value_name = "SIDE=FACTOR", conflicts_with_all = ["mask", "save_process"])]
    extend: Vec<Extension>,
    /// Scale pictures and masks until their shorter side has this many pixels.
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
    /// Skip pictures whose outputs are all there, made from the same picture in the same way.
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Make nothing: say what would be made, and draw the holes into NAME-mask.png.
    #[arg(long, conflicts_with_all = ["skip_existing", "save_process"])]
    dry_run: bool,
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
    /// Share the outputs among the first N GPUs, or all that are to be seen, with a process on each
    /// [default: one process, on the first GPU if there is one].
    #[arg(long, value_name = "N|all")]
    gpus: Option<Gpus>,
    /// Share the outputs among N processes, which share the cores of the CPU; where there are GPUs each
    /// takes one.
    #[arg(long, value_name = "N", conflicts_with = "gpus",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    processes: Option<u16>,
    /// Also write the denoising as NAME-1-process.png.
    #[arg(long, value_enum, value_name = "FORM")]
    save_process: Option<Form>,
    /// Allow a task that the network was not trained for.
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
        let all = inputs(&self.input)?;
        let holes = self.holes(&all)?;
        let masks = holes.open()?;
        self.check_names(&all, &folder)?;
        let (name, place, checkpoint) = self.checkpoint()?;
        if !self.any_task {
            let trained = Trained::of(&checkpoint.metadata().experiment);
            trained.check_task(&name, self.task)?;
        }
        let mark = self.mark(&checkpoint, &sampling, &masks)?;
        let inputs = if self.dry_run { all } else { self.wanted(all, &folder, &mark)? };
        let [height, width] = checkpoint.metadata().image_size;
        let framing = match self.short_side {
            Some(side) => Framing::ShortSide(side),
            None if self.square => Framing::Square(height.min(width)),
            None => Framing::Own,
        };
        let order = Order {
            checkpoint: place,
            digest: checkpoint.digest().to_owned(),
            precision: self.compute.precision(),
            batch: self.compute.batch(),
            task: self.task,
            framing,
            holes,
            extend: self.extend.clone(),
            seed: self.seed,
            sampling,
            save_process: self.save_process,
            folder,
            several: self.input.is_dir(),
            mark,
        };
        let reader = order.reader(masks);
        let said = Said::new([height, width]);
        if self.dry_run {
            return dry::run(&self, &reader, &inputs, &order.folder, said);
        }
        let mut devices = team::devices(self.gpus, self.processes)?;
        devices.truncate((inputs.len() * self.samples as usize).max(1));
        make(&order.folder)?;
        let steps = order.sampling.steps(&checkpoint.metadata().diffusion) as u64;
        let (samples, processes) = (self.samples, devices.len());
        let new_desk = || Desk::new(said, &inputs, samples, steps, processes, self.json);
        let desk = match devices[..] {
            [device] => {
                let network = order.network(device, 1)?;
                let mut desk = new_desk();
                let mut tell = |news| desk.hear(0, news);
                let mut work = Work::new(&order, &reader, &network, &mut tell);
                inputs.iter().try_for_each(|input| work.take(input, 0..samples))?;
                work.go()?;
                desk
            }
            _ => {
                let mut desk = new_desk();
                team::make(&order, &inputs, samples, &devices, &mut desk)?;
                desk
            }
        };
        desk.finish()
    }

    /// The checkpoint, what it was called and where it is.
    fn checkpoint(&self) -> Result<(String, Place, Checkpoint)> {
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
        Ok((name, place, checkpoint))
    }

    fn check(&self) -> Result<(), Usage> {
        if !self.extend.is_empty() && self.task != Task::Uncropping {
            return Err(Usage::new(format!(
                "--extend is for --task uncropping, not {}",
                self.task
            )));
        }
        if !self.task.has_hole() && self.mask.is_some() {
            return Err(Usage::new(format!("--mask: {} has no hole; leave it out", self.task)));
        }
        Ok(())
    }

    /// Where the inputs are to be made anew.
    fn holes(&self, inputs: &[Input]) -> Result<Holes> {
        let Some(place) = &self.mask else {
            if !self.task.has_hole() || !self.extend.is_empty() {
                return Ok(Holes::None);
            }
            // JPEG has no transparency.
            let may_be_erased = |input: &Input| {
                let ending = input.path.extension().unwrap_or_default().to_ascii_lowercase();
                ending == "png" || ending == "webp"
            };
            if inputs.iter().any(may_be_erased) {
                return Ok(Holes::Erased(self.mask_reading.into()));
            }
            let or = if self.task == Task::Uncropping { ", or --extend" } else { "" };
            return Err(Usage::new(format!("--mask is needed for {}{or}", self.task)).into());
        };
        Ok(Holes::Given(place.clone(), self.mask_reading.into()))
    }

    fn folder(&self) -> PathBuf {
        match &self.out {
            Some(out) => out.clone(),
            None if self.input.is_dir() => self.input.join("restored"),
            None => self.input.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }

    /// An error where something that is read would be replaced, or two outputs would have one name.
    fn check_names(&self, inputs: &[Input], folder: &Path) -> Result<(), Usage> {
        let mut read: Vec<PathBuf> = inputs.iter().map(|input| input.path.clone()).collect();
        if let Some(mask) = &self.mask {
            let mask = PathBuf::from(mask);
            let within = std::fs::read_dir(&mask).into_iter().flatten().flatten();
            read.extend(within.map(|entry| entry.path()));
            read.push(mask);
        }
        let outputs = inputs.iter().flat_map(|input| {
            let samples = if self.dry_run { 0 } else { self.samples };
            let pictures = (0..samples).flat_map(move |sample| {
                let process = self.save_process.map(|_| names::process(folder, &input.key, sample));
                [Some(names::output(folder, &input.key, sample)), process]
            });
            let overlay = self.dry_run.then(|| names::overlay(folder, &input.key));
            pictures.flatten().chain(overlay).map(move |path| (input, path))
        });
        names::check(outputs, &read)
    }

    /// What the outputs say of how they were made.
    fn mark(
        &self,
        checkpoint: &Checkpoint,
        sampling: &SamplingConfig,
        masks: &Masks,
    ) -> Result<Mark> {
        Mark::of_all(&Making {
            checkpoint: checkpoint.digest(),
            task: self.task,
            seed: self.seed,
            sampling,
            masks,
            reading: self.mask_reading.into(),
            extend: &self.extend,
            short_side: self.short_side,
            square: self.square,
        })
    }

    /// The inputs whose outputs are not there yet.
    fn wanted(&self, inputs: Vec<Input>, folder: &Path, mark: &Mark) -> Result<Vec<Input>> {
        let mut wanted = Vec::new();
        for input in inputs {
            let outputs = (0..self.samples).map(|n| (n, names::output(folder, &input.key, n)));
            // A device or a FIFO holds no output that could be kept or replaced.
            let holds = |path: &Path| path.is_file() || path.is_dir();
            let there: Vec<_> = outputs.filter(|(_, path)| holds(path)).collect();
            let Some((_, first)) = there.first().filter(|_| !self.overwrite) else {
                wanted.push(input);
                continue;
            };
            if !self.skip_existing {
                let message = format!(
                    "{} is there already: say --overwrite, --skip-existing or another --out",
                    first.display()
                );
                return Err(Usage::new(message).into());
            }
            let (digest, _) = atomic::sha256_file(&input.path)?;
            for (sample, path) in &there {
                if let Some(difference) = mark.of(&input.key, &digest, *sample).difference(path)? {
                    let message = format!(
                        "{} is there and {difference}: say --overwrite or another --out",
                        path.display()
                    );
                    return Err(Usage::new(message).into());
                }
            }
            if there.len() < self.samples as usize {
                wanted.push(input);
            }
        }
        Ok(wanted)
    }
}

/// Makes the folder of the outputs.
fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}
