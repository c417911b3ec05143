//! `evaluator run`: errors of an output dataset against its own references.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use image::{GrayImage, RgbImage};
use pipeline::Task;
use pipeline::image as picture;
use pipeline::output::{OutputDataset, OutputRow};
use scheduler::NewEvaluation;
use serde::{Deserialize, Serialize};

use super::number;
use crate::scores::Sums;

#[derive(Args)]
pub struct Run {
    /// Output dataset of a sampling job.
    #[arg(long, value_name = "URI")]
    outputs: String,
    /// Only print: do not keep the scores with the run.
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Scores of one task, over the pixels that were to be generated.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Scores {
    /// Outputs that were compared.
    pub outputs: u64,
    /// Mean absolute error in levels of 0..255.
    pub mean_absolute_error: Option<f64>,
    /// Peak signal-to-noise ratio over all values, in dB.
    pub psnr: Option<f64>,
    /// Mean absolute error of the input itself; none where the input has a hole.
    pub input_mean_absolute_error: Option<f64>,
    /// Mean absolute difference between the first and every other output of an input, in levels; none
    /// where each input has one output.
    #[serde(default)]
    pub diversity: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    outputs: String,
    tasks: BTreeMap<Task, Scores>,
}

#[derive(Default)]
struct Gathered {
    count: u64,
    output: Sums,
    input: Sums,
    /// The first output of the input that is being looked at, by its key.
    first: Option<(String, RgbImage)>,
    others: Sums,
}

impl Run {
    pub fn run(self) -> anyhow::Result<()> {
        let dataset = OutputDataset::open(&self.outputs)?;
        let progress = terminal::Progress::new("scoring", Some(dataset.len()), "outputs");
        let mut gathered: BTreeMap<Task, Gathered> = BTreeMap::new();
        for row in dataset.rows() {
            let row = row?;
            let gathered = gathered.entry(row.task).or_default();
            gathered
                .add(&row)
                .with_context(|| format!("{}: {} sample {}", self.outputs, row.key, row.sample))?;
            progress.inc(1);
        }
        progress.finish();
        let tasks = gathered.into_iter().map(|(task, sums)| (task, scores(task, &sums))).collect();
        let report = Report { outputs: self.outputs.clone(), tasks };
        if !self.dry_run {
            keep(&dataset, &report)?;
        }
        if self.json { terminal::print_json(&report) } else { report.print() }
    }
}

impl Gathered {
    fn add(&mut self, row: &OutputRow) -> anyhow::Result<()> {
        let decode = |name, bytes| picture::decode(bytes).with_context(|| format!("column {name}"));
        let source = decode("source", &row.source)?;
        let output = decode("output", &row.output)?;
        let reference = decode("reference", &row.reference)?;
        let mask = decode("mask", &row.mask)?;
        let mask = GrayImage::from_fn(mask.width(), mask.height(), |x, y| {
            [mask.get_pixel(x, y).0[0]].into()
        });
        let compare = |a: &RgbImage, b: &RgbImage| {
            Sums::of(a, b, &mask).context("the pictures do not have one size")
        };
        self.count += 1;
        self.output.add(compare(&output, &reference)?);
        self.input.add(compare(&source, &reference)?);
        // Outputs of one input follow each other, the first one first.
        match &self.first {
            Some((key, first)) if *key == row.key && row.sample > 0 => {
                self.others.add(compare(&output, first)?);
            }
            _ => self.first = Some((row.key.clone(), output)),
        }
        Ok(())
    }
}

fn scores(task: Task, gathered: &Gathered) -> Scores {
    Scores {
        outputs: gathered.count,
        mean_absolute_error: gathered.output.mean_absolute_error(),
        psnr: gathered.output.psnr(),
        input_mean_absolute_error: gathered
            .input
            .mean_absolute_error()
            .filter(|_| !task.has_hole()),
        diversity: gathered.others.mean_absolute_error(),
    }
}

/// Which run the outputs are from, as the sampler says in their manifest.
#[derive(Deserialize)]
struct Origin {
    run: String,
    step: i64,
}

fn keep(dataset: &OutputDataset, report: &Report) -> anyhow::Result<()> {
    let Ok(origin) = serde_json::from_value::<Origin>(dataset.manifest().options.clone()) else {
        eprintln!("the outputs do not say which run they are from: the scores are not kept");
        return Ok(());
    };
    let outputs = std::path::absolute(&report.outputs)?.to_string_lossy().into_owned();
    let db = scheduler::Blocking::open()?;
    let run = db.wait(db.find_run(&origin.run))?;
    for (task, scores) in &report.tasks {
        db.wait(db.record_evaluation(&NewEvaluation {
            run_id: Some(run.id),
            step: Some(origin.step),
            label: format!("{task}@{}", origin.step),
            task: Some(task.to_string()),
            outputs_uri: outputs.clone(),
            reference_uri: Some(outputs.clone()),
            scores: serde_json::to_value(scores)?,
        }))?;
    }
    Ok(())
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut table = terminal::Table::new(&[
            "task",
            "outputs",
            "error",
            "error of the input",
            "PSNR (dB)",
            "diversity",
        ]);
        for (task, scores) in &self.tasks {
            table.row([
                task.to_string(),
                scores.outputs.to_string(),
                number(scores.mean_absolute_error, 2),
                number(scores.input_mean_absolute_error, 2),
                number(scores.psnr, 2),
                number(scores.diversity, 2),
            ]);
        }
        terminal::print(&format!("{} (mean absolute error, levels of 0 to 255)", self.outputs))?;
        table.print()
    }
}
