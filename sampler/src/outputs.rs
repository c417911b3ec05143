//! Where the outputs of a sampling job go: shards, a manifest that comes last, pictures for people.
//!
//! `job.json` is written first. It says whose outputs these are and with which weights they are made,
//! so that another job does not mix its own in. All attempts at a job and at its shares write the same.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use contracts::files::ORIGIN;
use contracts::{DeviceChoice, Origin, SamplingJob, Trained};
use image::RgbImage;
use pipeline::image as picture;
use pipeline::output::{OutputDataset, OutputRow, OutputWriter};
use pipeline::sheet::Sheet;
use registry::{Attempt, Checkpoint, Uuid};
use terminal::Usage;

use crate::network;

/// Rows of the contact sheet; more than fit a screen help nobody.
const SHEET_ROWS: usize = 48;

/// The outputs of one job.
pub struct Outputs {
    folder: PathBuf,
    writer: OutputWriter,
    origin: Origin,
}

impl Outputs {
    /// Opens the folder of a sample job's outputs, or begins it with the checkpoint that the job names.
    ///
    /// # Errors
    /// When the folder holds something else or cannot be written, or there is no checkpoint.
    pub fn open(attempt: &Attempt, id: Uuid, job: &SamplingJob, chunks: u32) -> Result<Self> {
        let folder = PathBuf::from(job.out.to_string());
        let path = folder.join(ORIGIN);
        let read = || match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        };
        let checked = |text: Vec<u8>| -> Result<Origin> {
            let origin = Origin::read(&text, &job.out).map_err(Usage::of)?;
            origin.check(&id.to_string()).map_err(Usage::of)?;
            Ok(origin)
        };
        let begun = read()?.map(checked).transpose()?;
        let writer = OutputWriter::open(&job.out.to_string(), "samples", chunks)?;
        let origin = match begun {
            Some(origin) => origin,
            None => {
                let origin = begin(attempt, id, job)?.to_json().map_err(Usage::of)?;
                // Attempts at shares may be here at once; what the first one wrote is what holds.
                pipeline::atomic::create(&path, &serde_json::to_vec_pretty(&origin)?)?;
                checked(read()?.context("what was just written is gone")?)?
            }
        };
        Ok(Self { folder, writer, origin })
    }

    /// What the outputs are made from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Writes the shard of a chunk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, chunk: u32, rows: &[OutputRow]) -> Result<pipeline::dataset::ShardEntry> {
        Ok(self.writer.write_chunk(chunk, rows)?)
    }

    /// Writes manifest, contact sheet and, where asked for, the outputs as PNG files.
    ///
    /// # Errors
    /// When a shard is missing or something cannot be written.
    pub fn finish(&self) -> Result<()> {
        self.writer.finish(self.origin.to_json().map_err(Usage::of)?)?;
        let outputs = OutputDataset::open(&self.origin.asked.out.to_string())?;
        let mut sheet = SheetRows::default();
        for row in outputs.rows() {
            let row = row?;
            if self.origin.asked.png {
                let name = format!("{}-{}-{}.png", file_name(&row.key), row.task, row.sample);
                let folder = self.folder.join("png");
                fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
                pipeline::atomic::write(&folder.join(name), &row.output)?;
            }
            sheet.add(row)?;
        }
        sheet.draw(&self.origin)?.write_png(self.folder.join("sheet.png"))?;
        Ok(())
    }
}

/// What the outputs of a job are made from, decided by the first attempt at it: the checkpoint that the
/// job names now, and the numbers that the network is computed in on this device.
fn begin(attempt: &Attempt, id: Uuid, job: &SamplingJob) -> Result<Origin> {
    let (run, checkpoint, digest) = match (&job.checkpoint, &job.run) {
        (Some(given), _) => (None, given.uri.clone(), given.digest.clone()),
        (None, Some(run)) => {
            let reference = run.parse().map_err(Usage::new)?;
            let (run, Checkpoint { uri, digest, step, .. }) =
                attempt.checkpoint_of(id, &reference)?;
            (Some((run, step)), uri.parse()?, digest)
        }
        (None, None) => bail!(Usage::new("the job names neither a run nor a checkpoint")),
    };
    let precision = match job.precision {
        Some(precision) => precision,
        None => {
            let opened = network::open(&checkpoint.to_string())?;
            let trained = Trained::of(&opened.facts().experiment);
            trained.sampling_precision(DeviceChoice::Auto.device()?)
        }
    };
    Ok(Origin {
        job: id.to_string(),
        run: run.as_ref().map(|(run, _)| run.id.to_string()),
        step: run.as_ref().map(|(_, step)| *step),
        run_name: run.map(|(run, _)| run.name),
        checkpoint,
        checkpoint_digest: digest,
        noise: random::GENERATION,
        precision: Some(precision),
        asked: job.clone(),
    })
}

/// Source, outputs and reference of each input side by side; samples of an input follow each other.
#[derive(Default)]
struct SheetRows {
    rows: Vec<(String, Vec<RgbImage>)>,
    last: Option<(OutputRow, Vec<RgbImage>)>,
}

impl SheetRows {
    fn add(&mut self, row: OutputRow) -> Result<()> {
        if self.rows.len() >= SHEET_ROWS {
            return Ok(());
        }
        let output = picture::decode(&row.output)?;
        match &mut self.last {
            Some((first, outputs)) if row.sample > 0 && first.key == row.key => {
                outputs.push(output)
            }
            _ => {
                self.close()?;
                self.last = Some((row, vec![output]));
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some((row, outputs)) = self.last.take() {
            let mut pictures = vec![picture::decode(&row.source)?];
            pictures.extend(outputs);
            pictures.push(picture::decode(&row.reference)?);
            self.rows.push((row.task.to_string(), pictures));
        }
        Ok(())
    }

    fn draw(mut self, origin: &Origin) -> Result<Sheet> {
        self.close()?;
        let outputs = origin.asked.samples as usize;
        let mut headings = vec!["input".to_owned()];
        headings.extend((1..=outputs).map(|sample| match outputs {
            1 => "output".to_owned(),
            _ => format!("output {sample}"),
        }));
        headings.push("reference".to_owned());
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let mut sheet = Sheet::new(&headings);
        sheet.title(origin.title());
        for (label, pictures) in self.rows {
            sheet.row(label, pictures);
        }
        Ok(sheet)
    }
}

/// A key as a file name: what could lead elsewhere or trouble a shell becomes a dash.
fn file_name(key: &str) -> String {
    let stem = key.rsplit_once('.').map_or(key, |(stem, _)| stem);
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    stem.chars().map(plain).take(150).collect()
}
