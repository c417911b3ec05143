//! Hears what becomes of the pictures, from this process or from several, and says it as one: outputs, progress, and
//! what there is to be said of pictures.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use terminal::Progress;

use super::said::{Said, Seen};
use crate::inputs::Input;

/// An output that was written.
#[derive(Serialize, Deserialize)]
pub struct Output {
    pub input: PathBuf,
    pub output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<PathBuf>,
    pub seed: u64,
    pub sample: u32,
    pub width: u32,
    pub height: u32,
}

/// What becomes of a picture.
#[derive(Serialize, Deserialize)]
pub enum News {
    /// It was read.
    Read(Seen),
    /// It cannot be restored.
    PassedOver {
        input: PathBuf,
        why: String,
        outputs: u32,
    },
    /// Network calls for one image that a process has made so far.
    Made(u64),
    /// Network calls that it turned out to need besides.
    More(u64),
    Written(Output),
}

/// Hears the news.
pub struct Desk {
    json: bool,
    said: Said,
    progress: Progress,
    /// Network calls that an output takes, as far as is known before it is read.
    steps: u64,
    /// Of all outputs.
    total: u64,
    /// Made by each process.
    made: Vec<u64>,
    written: Vec<Output>,
    /// The pictures by their files, in the order in which they were given.
    order: HashMap<PathBuf, usize>,
    /// Those of which it was said what they are, and those that were passed over.
    seen: HashSet<PathBuf>,
    failed: HashSet<PathBuf>,
}

impl Desk {
    /// For pictures of which `samples` outputs each are made, with `steps` calls of the network each, by a
    /// number of `processes`.
    pub fn new(
        said: Said,
        inputs: &[Input],
        samples: u32,
        steps: u64,
        processes: usize,
        json: bool,
    ) -> Self {
        let total = inputs.len() as u64 * u64::from(samples) * steps;
        let progress = Progress::new("sampling", Some(total), "steps");
        progress.set(0);
        let order = inputs.iter().enumerate().map(|(at, input)| (input.path.clone(), at)).collect();
        let (written, seen, failed) = Default::default();
        let made = vec![0; processes];
        Self { json, said, progress, steps, total, made, written, order, seen, failed }
    }

    /// What a process has to say, by its number.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn hear(&mut self, process: usize, news: News) -> Result<()> {
        match news {
            // Outputs of one picture may be made by several.
            News::Read(seen) => {
                if self.seen.insert(seen.path().to_owned()) {
                    self.said.picture(&seen);
                }
            }
            News::PassedOver { input, why, outputs } => {
                if !self.failed.contains(&input) {
                    tracing::error!("{}: {why}", input.display());
                    self.failed.insert(input);
                }
                self.total = self.total.saturating_sub(u64::from(outputs) * self.steps);
                self.progress.set_total(self.total);
            }
            News::Made(steps) => {
                if let Some(made) = self.made.get_mut(process) {
                    *made = steps;
                }
                self.progress.set(self.made.iter().sum());
            }
            News::More(steps) => {
                self.total += steps;
                self.progress.set_total(self.total);
            }
            News::Written(output) => {
                if !self.json {
                    terminal::print(&output.output.display().to_string())?;
                }
                self.written.push(output);
            }
        }
        Ok(())
    }

    /// Ends, when everything is done.
    ///
    /// # Errors
    /// When pictures were passed over, or stdout cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.said.finish();
        self.progress.finish();
        if self.json {
            let order = &self.order;
            self.written.sort_by_key(|output| (order.get(&output.input), output.sample));
            terminal::print_json(&self.written)?;
        }
        let (failed, inputs) = (self.failed.len(), self.order.len());
        if failed > 0 {
            bail!("{failed} of {inputs} pictures could not be restored");
        }
        Ok(())
    }
}
