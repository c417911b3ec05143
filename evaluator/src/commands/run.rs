//! `evaluator run`: scores a set of outputs.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::RangedI64ValueParser;
use contracts::evaluation::{PictureSet, SIZES, SPLITS, SUBSETS};
use contracts::{EvaluationRequest, Origin};
use terminal::Usage;

use super::evaluate::{demand, evaluate, histogram, keep, print};
use crate::scores::maths::kernel::SUBSET;

#[derive(Args)]
#[command(after_help = "\
Examples:
  evaluator run --outputs outputs/palette --extractor inception.toml
  evaluator run --outputs restored --reference photographs --details scores.csv")]
pub struct RunArgs {
    /// What to score: the output dataset of a sampling job (URI#reference or URI#source for another of
    /// its columns), a folder of pictures, or a dataset of photographs.
    #[arg(long, value_name = "URI")]
    outputs: String,
    /// What they are compared with, matched by key: photographs or a folder. An output dataset has its
    /// own references.
    #[arg(long, value_name = "URI")]
    reference: Option<String>,
    /// What FID and KID compare with [default: the references].
    #[arg(long, value_name = "URI")]
    distribution: Option<String>,
    /// Configuration of an extractor; may be repeated, each for other scores.
    #[arg(long = "extractor", value_name = "FILE")]
    extractors: Vec<PathBuf>,
    /// Bring all pictures to a square of this side, by the rule of sampling jobs [default: that of the
    /// outputs].
    #[arg(long, value_name = "PX", value_parser = within(SIZES))]
    size: Option<u32>,
    /// Splits of the Inception Score.
    #[arg(long, default_value_t = 10, value_parser = within(SPLITS))]
    splits: u32,
    /// Most images in a subset of KID.
    #[arg(long, default_value_t = SUBSET, value_parser = within(SUBSETS))]
    kid_subset: u32,
    /// Leave SSIM and MS-SSIM out, which cost as much as decoding.
    #[arg(long)]
    no_structure: bool,
    /// Write every output's own scores to this file (CSV; a text that begins with = + - or @ gets a `'` before it,
    /// so that no spreadsheet takes it for a formula).
    #[arg(long, value_name = "FILE", value_parser = storage::named::file)]
    details: Option<PathBuf>,
    /// Draw the histogram of diversity into this file (PNG).
    #[arg(
        long,
        value_name = "FILE",
        value_parser = storage::named::file,
        conflicts_with = "no_structure"
    )]
    histogram: Option<PathBuf>,
    /// Keep the scores under this name too, by which tables find them.
    #[arg(long, value_name = "TEXT", value_parser = storage::names::title)]
    label: Option<String>,
    /// Only print: do not keep the scores.
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

fn within(allowed: RangeInclusive<u32>) -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(*allowed.start())..=i64::from(*allowed.end()))
}

impl RunArgs {
    pub fn run(self) -> Result<()> {
        let request = self.request()?;
        let files = [&self.details, &self.histogram];
        if files.into_iter().flatten().any(|file| storage::named::is_stdout(file)) {
            terminal::leave_stdout();
        }
        if let Some(file) = &self.histogram {
            storage::named::probe(file)?;
        }
        let label = request.label.as_deref();
        let ready = |origin: Option<&Origin>| match self.dry_run {
            true => Ok(()),
            false => demand(origin, label),
        };
        let Some(scored) = evaluate(&request, ready, &mut |_, _, _| ControlFlow::Continue(()))?
        else {
            return Ok(());
        };
        if let Some(file) = &self.histogram {
            histogram(file, &scored.tasks)?;
        }
        if !self.dry_run {
            keep(&scored, label, None)?;
        }
        if self.json { terminal::print_json(&scored) } else { print(&scored) }
    }

    /// What is asked for, with absolute paths.
    fn request(&self) -> Result<EvaluationRequest> {
        let absolute =
            |file: &PathBuf| std::path::absolute(file).with_context(|| file.display().to_string());
        Ok(EvaluationRequest {
            outputs: set(&self.outputs)?,
            reference: self.reference.as_deref().map(set).transpose()?,
            distribution: self.distribution.as_deref().map(set).transpose()?,
            extractors: self.extractors.iter().map(absolute).collect::<Result<_>>()?,
            size: self.size,
            splits: self.splits,
            kid_subset: self.kid_subset,
            structure: !self.no_structure,
            details: self.details.as_ref().map(absolute).transpose()?,
            label: self.label.clone(),
        })
    }
}

fn set(text: &str) -> Result<PictureSet> {
    text.parse().map_err(|error| Usage::new(format!("{text} cannot be used: {error}")).into())
}
