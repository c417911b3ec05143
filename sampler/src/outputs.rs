//! Where the outputs of a sampling job go: shards, a manifest that comes last, pictures for people.
//!
//! `job.json` is written first. It says whose outputs these are and with which weights they are made,
//! so that a second attempt goes on with the same weights and another job does not mix its own in.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use pipeline::image as picture;
use pipeline::output::{OutputDataset, OutputRow, OutputWriter};
use pipeline::sheet::Sheet;
use scheduler::{Attempt, Checkpoint, Run};
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
    /// The run whose weights these are.
    pub run: String,
    /// Its name.
    pub run_name: String,
    /// Step of the checkpoint.
    pub step: i64,
    /// Folder of the checkpoint.
    pub checkpoint: String,
    /// Digest of the checkpoint.
    pub checkpoint_digest: String,
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
    /// Opens the folder of a job's outputs, or begins it with the checkpoint that the job names now.
    ///
    /// # Errors
    /// When the folder holds something else or cannot be written.
    pub fn open(attempt: &Attempt, job: &SamplingJob, chunks: u32) -> Result<Self> {
        let folder = PathBuf::from(&job.out);
        let id = attempt.job().id.to_string();
        let path = folder.join("job.json");
        let origin = match fs::read(&path) {
            Ok(text) => {
                let origin: Origin = serde_json::from_slice(&text)
                    .with_context(|| format!("{} is damaged", path.display()))?;
                if origin.job != id {
                    bail!(
                        "{} holds the outputs of job {}: choose another --out",
                        folder.display(),
                        origin.job.get(..8).unwrap_or(&origin.job)
                    );
                }
                origin
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (run, checkpoint) =
                    attempt.checkpoint_of(&job.run.parse().map_err(Usage::new)?)?;
                Origin::of(id, job, &run, checkpoint)
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
    fn of(job: String, asked: &SamplingJob, run: &Run, checkpoint: Checkpoint) -> Self {
        Self {
            job,
            run: run.id.to_string(),
            run_name: run.name.clone(),
            step: checkpoint.step,
            checkpoint: checkpoint.uri,
            checkpoint_digest: checkpoint.digest,
            asked: asked.clone(),
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
        sheet.title(format!("{} step {}", origin.run_name, origin.step));
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
