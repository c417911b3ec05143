//! Where the outputs of a sampling job go: shards, a manifest that comes last, pictures for people.
//!
//! `job.json` is written first and once. It says whose outputs these are and with which weights they are
//! made: all attempts at a job and at its shares go on with what it says, and another job does not mix
//! its own in.

use std::path::Path;

use anyhow::{Context, Result, bail};
use contracts::files::ORIGIN;
use contracts::sampling::destination::{LONGEST_ORIGIN, refuse_dataset};
use contracts::{DeviceChoice, Origin, SamplingJob, Trained};
use image::RgbImage;
use outputs::{ChunkWriter, OutputDataset, OutputRow, OutputWriter};
use pictures::Sheet;
use pipeline::image as picture;
use pipeline::names::file_name;
use registry::{Attempt, Checkpoint, Uuid};
use storage::{Place, Store};
use terminal::Usage;

use crate::network;

/// Rows of the contact sheet, on several pages.
const SHEET_ROWS: usize = 48;
/// A job's place is chosen by whoever submits it, and written by the user of the worker.
const REMEDY: &str = " (the user of the worker must be able to write there, and the worker must have it below an \
                      --output-root: submit again with another --out, or give the user the folder)";
/// Outputs of an input that the contact sheet shows.
const SHEET_SAMPLES: usize = 8;

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
        // Before a network is loaded, let alone a chunk computed.
        if let Err(error) = store.probe() {
            let remedy = if error.is_usage() { REMEDY } else { "" };
            let what = format!("outputs cannot be written to {}{remedy}", job.out);
            return Err(anyhow::Error::new(error).context(what));
        }
        let writer = OutputWriter::open(&job.out, "samples", chunks)?;
        let origin = match store.read(ORIGIN, LONGEST_ORIGIN)? {
            Some(text) => read(&job.out, &text, id)?,
            None => begin(find(attempt, id, job)?, &store, id)?,
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
            let (variant, key) = (row.task.file_name(), file_name(&row.key));
            let name = format!("png/{variant}/{}/{key}.png", row.sample);
            self.store.write(&name, row.output.clone())?;
        }
        Ok(chunk.push(row)?)
    }

    /// Writes manifest and contact sheet.
    ///
    /// # Errors
    /// When a shard is missing or something cannot be written.
    pub fn finish(&self) -> Result<()> {
        self.writer.finish(self.origin.to_json().map_err(Usage::of)?)?;
        let outputs = OutputDataset::open(self.store.place())?;
        let mut sheet = SheetRows::default();
        for row in outputs.rows() {
            if sheet.is_full() {
                break;
            }
            sheet.add(row?)?;
        }
        for (number, page) in sheet.draw(&self.origin)?.png_pages()?.into_iter().enumerate() {
            let name = page_name(number);
            self.store.write(&name, page)?;
        }
        Ok(())
    }
}

/// The file of a page of the contact sheet, from 0.
fn page_name(number: usize) -> String {
    pictures::page(Path::new("sheet.png"), number).display().to_string()
}

/// What the `job.json` of a place says, where the job `id` may go on with it.
fn read(place: &Place, text: &[u8], id: Uuid) -> Result<Origin> {
    let origin = Origin::read(text, place).map_err(Usage::of)?;
    origin.check(&id.to_string()).map_err(Usage::of)?;
    Ok(origin)
}

/// Writes what the outputs are made from, unless another worker did: then what that one wrote.
fn begin(origin: Origin, store: &Store, id: Uuid) -> Result<Origin> {
    refuse_dataset(store)?;
    let json = origin.to_json().map_err(Usage::of)?;
    if store.create(ORIGIN, serde_json::to_vec_pretty(&json)?)? {
        return Ok(origin);
    }
    let place = store.place();
    let text = store.read(ORIGIN, LONGEST_ORIGIN)?;
    let text = text.with_context(|| format!("{ORIGIN} of {place} was removed meanwhile"))?;
    read(place, &text, id)
}

/// What the outputs of a job are made from, decided by the first attempt at it: the checkpoint that the
/// job names now, and the numbers that the network is computed in on this device.
fn find(attempt: &Attempt, id: Uuid, job: &SamplingJob) -> Result<Origin> {
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
    let precision = match job.precision {
        Some(precision) => precision,
        None => {
            let opened = network::open(&checkpoint)?;
            let trained = Trained::of(&opened.metadata().experiment);
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
        stream: pipeline::GENERATION,
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
    fn is_full(&self) -> bool {
        self.rows.len() >= SHEET_ROWS
    }

    fn add(&mut self, row: OutputRow) -> Result<()> {
        let output = picture::decode(&row.output)?;
        match &mut self.last {
            Some((first, outputs))
                if row.sample > 0 && (&first.key, first.task) == (&row.key, row.task) =>
            {
                if outputs.len() < SHEET_SAMPLES {
                    outputs.push(output);
                }
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
            self.rows.push((format!("{}\n{}", row.task, row.key), pictures));
        }
        Ok(())
    }

    fn draw(mut self, origin: &Origin) -> Result<Sheet> {
        self.close()?;
        let all = origin.asked.samples as usize;
        let outputs = all.min(SHEET_SAMPLES);
        let mut headings = vec!["input".to_owned()];
        headings.extend((1..=outputs).map(|sample| match outputs {
            1 => "output".to_owned(),
            _ => format!("output {sample}"),
        }));
        headings.push("reference".to_owned());
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let mut sheet = Sheet::new(&headings);
        sheet.title(match all > outputs {
            true => format!("{}, {outputs} of {all} outputs of each input", origin.title()),
            false => origin.title(),
        });
        for (label, pictures) in self.rows {
            sheet.row(label, pictures);
        }
        Ok(sheet)
    }
}
