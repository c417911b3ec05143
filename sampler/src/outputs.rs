//! Where the outputs of a sampling job go: shards, a manifest that comes last, pictures for people.
//!
//! `job.json` is written first. It says whose outputs these are and with which weights they are made,
//! so that another job does not mix its own in. All attempts at a job and at its shares write the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image::RgbImage;
use pipeline::image as picture;
use pipeline::output::{OutputDataset, OutputRow, OutputWriter};
use pipeline::sheet::Sheet;
use registry::{Attempt, Checkpoint, Uuid};
use serde::{Deserialize, Serialize};
use terminal::Usage;

use crate::job::SamplingJob;

/// Rows of the contact sheet; more than fit a screen help nobody.
const SHEET_ROWS: usize = 48;

/// What a folder of outputs was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The sampling job.
    pub job: String,
    /// The run whose weights these are, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_name: Option<String>,
    /// Step of its checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// Folder of the checkpoint.
    pub checkpoint: String,
    /// Digest of the checkpoint.
    pub checkpoint_digest: String,
    /// Generation of the random numbers ([`random::GENERATION`]).
    #[serde(default)]
    pub noise: u32,
    /// What was asked for.
    pub asked: SamplingJob,
}

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
        let folder = PathBuf::from(&job.out);
        let path = folder.join("job.json");
        let origin = match fs::read(&path) {
            Ok(text) => Origin::read(&folder, &text, id)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Origin::find(attempt, id, job)?
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let writer = OutputWriter::open(&job.out, "samples", chunks)?;
        pipeline::atomic::write(&path, &serde_json::to_vec_pretty(&origin)?)?;
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
        self.writer.finish(serde_json::to_value(&self.origin)?)?;
        let outputs = OutputDataset::open(&self.origin.asked.out)?;
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

impl Origin {
    /// What a folder's `job.json` says, where the job `id` may go on with it.
    fn read(folder: &Path, text: &[u8], id: Uuid) -> Result<Self> {
        let origin: Self = serde_json::from_slice(text)
            .with_context(|| format!("{} is damaged", folder.join("job.json").display()))?;
        if origin.job != id.to_string() {
            bail!(Usage::new(format!(
                "{} holds the outputs of job {}: choose another --out",
                folder.display(),
                origin.job.get(..8).unwrap_or(&origin.job)
            )));
        }
        if origin.noise != random::GENERATION {
            bail!(Usage::new(format!(
                "{} was begun with another noise generator (generation {}, not {}): queue the job \
                 again with another --out",
                folder.display(),
                origin.noise,
                random::GENERATION
            )));
        }
        Ok(origin)
    }

    fn find(attempt: &Attempt, id: Uuid, job: &SamplingJob) -> Result<Self> {
        let (run, checkpoint, digest) = match (&job.checkpoint, &job.run) {
            (Some(given), _) => (None, given.uri.clone(), given.digest.clone()),
            (None, Some(run)) => {
                let reference = run.parse().map_err(Usage::new)?;
                let (run, Checkpoint { uri, digest, step, .. }) =
                    attempt.checkpoint_of(id, &reference)?;
                (Some((run, step)), uri, digest)
            }
            (None, None) => bail!(Usage::new("the job names neither a run nor a checkpoint")),
        };
        Ok(Self {
            job: id.to_string(),
            run: run.as_ref().map(|(run, _)| run.id.to_string()),
            step: run.as_ref().map(|(_, step)| *step),
            run_name: run.map(|(run, _)| run.name),
            checkpoint,
            checkpoint_digest: digest,
            noise: random::GENERATION,
            asked: job.clone(),
        })
    }

    /// What people call the weights.
    fn title(&self) -> String {
        match (&self.run_name, self.step) {
            (Some(name), Some(step)) => format!("{name} step {step}"),
            _ => self.checkpoint.clone(),
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outputs_of_other_jobs_and_of_other_noise_are_not_gone_on_with() {
        let id = Uuid::from_u128(7);
        let mut text = json!({
            "job": id.to_string(), "checkpoint": "step-1", "checkpoint_digest": "d",
            "noise": random::GENERATION,
            "asked": {
                "dataset": "data", "dataset_digest": "d", "evaluations": [], "count": 1,
                "samples": 1, "seed": 0, "sampling": {}, "chunk": 1, "out": "out", "png": false,
            },
        });
        let read = |text: &serde_json::Value, id| {
            let text = serde_json::to_vec(text).unwrap();
            Origin::read(Path::new("out"), &text, id).map_err(|error| error.to_string())
        };
        assert!(read(&text, id).is_ok());
        assert!(read(&text, Uuid::from_u128(8)).unwrap_err().contains("choose another --out"));
        // As versions wrote it that did not record a generation.
        text.as_object_mut().unwrap().remove("noise");
        assert!(read(&text, id).unwrap_err().contains("another noise generator"));
    }
}
