//! Where the outputs of a sampling job go: shards, a manifest that comes last, pictures for people.
//!
//! `job.json` is written first and once. It says whose outputs these are and with which weights they are
//! made: all attempts at a job and at its shares go on with what it says, and another job does not mix
//! its own in.

use anyhow::{Context, Result, bail};
use image::RgbImage;
use outputs::{ChunkWriter, OutputDataset, OutputRow, OutputWriter};
use pipeline::dataset::MANIFEST;
use pipeline::image as picture;
use pipeline::sheet::Sheet;
use scheduler::{Attempt, Checkpoint, Uuid};
use serde::{Deserialize, Serialize};
use storage::{Place, Store};
use terminal::Usage;

use crate::job::SamplingJob;

/// The file that says whose outputs a place holds.
const ORIGIN: &str = "job.json";
/// The longest one that is read.
const LONGEST: u64 = 16 << 20;
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
    /// Where the checkpoint is.
    pub checkpoint: Place,
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
    store: Store,
    writer: OutputWriter,
    origin: Origin,
}

impl Outputs {
    /// Opens the place of a sample job's outputs, or begins it with the checkpoint that the job names. Of
    /// several workers that begin it one does, and all go on with its checkpoint.
    ///
    /// # Errors
    /// When the place holds something else or cannot be written, or there is no checkpoint.
    pub fn open(attempt: &Attempt, id: Uuid, job: &SamplingJob, chunks: u32) -> Result<Self> {
        let store = Store::open(&job.out)?;
        let writer = OutputWriter::open(&job.out, "samples", chunks)?;
        let origin = match store.read(ORIGIN, LONGEST)? {
            Some(text) => Origin::read(&job.out, &text, id)?,
            None => Origin::find(attempt, id, job)?.begin(&store, id)?,
        };
        Ok(Self { store, writer, origin })
    }

    /// What the outputs are made from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Begins the shard of a chunk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn chunk(&self, chunk: u32) -> Result<ChunkWriter> {
        Ok(self.writer.chunk(chunk)?)
    }

    /// Writes an output into the shard of its chunk and, where asked for, as a PNG file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&self, chunk: &mut ChunkWriter, row: OutputRow) -> Result<()> {
        if self.origin.asked.png {
            let name = format!("png/{}-{}-{}.png", file_name(&row.key), row.task, row.sample);
            self.store.write(&name, row.output.clone())?;
        }
        Ok(chunk.push(row)?)
    }

    /// Writes manifest and contact sheet.
    ///
    /// # Errors
    /// When a shard is missing or something cannot be written.
    pub fn finish(&self) -> Result<()> {
        self.writer.finish(serde_json::to_value(&self.origin)?)?;
        let outputs = OutputDataset::open(self.store.place())?;
        let mut sheet = SheetRows::default();
        for row in outputs.rows() {
            if sheet.is_full() {
                break;
            }
            sheet.add(row?)?;
        }
        let drawn = sheet.draw(&self.origin)?.draw()?;
        Ok(self.store.write("sheet.png", picture::png(&drawn.into())?)?)
    }
}

impl Origin {
    /// What the `job.json` of a place says, where the job `id` may go on with it.
    fn read(place: &Place, text: &[u8], id: Uuid) -> Result<Self> {
        let origin: Self = serde_json::from_slice(text)
            .with_context(|| format!("{ORIGIN} of {place} is damaged"))?;
        if origin.job != id.to_string() {
            bail!(Self::other(place, &origin.job));
        }
        if origin.noise != random::GENERATION {
            bail!(Usage::new(format!(
                "{place} was begun with another noise generator (generation {}, not {}): queue the \
                 job again with another --out",
                origin.noise,
                random::GENERATION
            )));
        }
        Ok(origin)
    }

    /// The job whose outputs a place holds; none where it holds none.
    ///
    /// # Errors
    /// When the place cannot be read, and wrong use where it holds another dataset.
    pub fn job_of(store: &Store) -> Result<Option<String>> {
        /// What is read of it, so that one of another version still says whose it is.
        #[derive(Deserialize)]
        struct Job {
            job: String,
        }
        match store.read(ORIGIN, LONGEST)? {
            Some(text) => Ok(Some(
                serde_json::from_slice::<Job>(&text)
                    .with_context(|| format!("{ORIGIN} of {} is damaged", store.place()))?
                    .job,
            )),
            None => Self::refuse_dataset(store).map(|()| None),
        }
    }

    /// The refusal to write into the outputs of another job.
    pub fn other(place: &Place, job: &str) -> Usage {
        let job = job.get(..8).unwrap_or(job);
        Usage::new(format!("{place} holds the outputs of job {job}: choose another --out"))
    }

    fn refuse_dataset(store: &Store) -> Result<()> {
        if store.size(MANIFEST)?.is_some() {
            let place = store.place();
            bail!(Usage::new(format!("{place} holds another dataset: choose another --out")));
        }
        Ok(())
    }

    /// Writes what the outputs are made from, unless another worker did: then what that one wrote.
    fn begin(self, store: &Store, id: Uuid) -> Result<Self> {
        Self::refuse_dataset(store)?;
        if store.create(ORIGIN, serde_json::to_vec_pretty(&self)?)? {
            return Ok(self);
        }
        let place = store.place();
        let text = store.read(ORIGIN, LONGEST)?;
        let text = text.with_context(|| format!("{ORIGIN} of {place} was removed meanwhile"))?;
        Self::read(place, &text, id)
    }

    fn find(attempt: &Attempt, id: Uuid, job: &SamplingJob) -> Result<Self> {
        let (run, checkpoint, digest) = match (&job.checkpoint, &job.run) {
            (Some(given), _) => (None, given.uri.clone(), given.digest.clone()),
            (None, Some(run)) => {
                let reference = run.parse().map_err(Usage::new)?;
                let (run, Checkpoint { uri, digest, step, .. }) =
                    attempt.checkpoint_of(id, &reference)?;
                (Some((run, step)), Place::stored(&uri)?, digest)
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
            _ => self.checkpoint.to_string(),
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
    fn is_full(&self) -> bool {
        self.rows.len() >= SHEET_ROWS
    }

    fn add(&mut self, row: OutputRow) -> Result<()> {
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
            Origin::read(&"/out".parse().unwrap(), &text, id).map_err(|error| error.to_string())
        };
        assert!(read(&text, id).is_ok());
        assert!(read(&text, Uuid::from_u128(8)).unwrap_err().contains("choose another --out"));
        // As versions wrote it that did not record a generation.
        text.as_object_mut().unwrap().remove("noise");
        assert!(read(&text, id).unwrap_err().contains("another noise generator"));
    }
}
