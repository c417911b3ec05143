//! `evaluator run`: scores a set of outputs.

mod keep;
mod print;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use home::Home;
use serde::Serialize;
use terminal::Usage;

use crate::extractor::Extractor;
use crate::pictures::{Pairs, Set, Sizes};
use crate::scores::maths::kernel::{KEPT, SUBSET};
use crate::scores::{Score, Statistics, With};
use crate::scoring::{
    self, Depends, Distribution, ExtractorUse, Matching, Options, Scores, Timing,
};

#[derive(Args)]
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
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(8..=4096))]
    size: Option<u32>,
    /// Splits of the Inception Score.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    splits: u32,
    /// Images in a subset of KID, at most.
    #[arg(long, default_value_t = SUBSET, value_parser = clap::value_parser!(u32).range(2..=i64::from(KEPT)))]
    kid_subset: u32,
    /// Leave SSIM and MS-SSIM out, which cost as much as decoding.
    #[arg(long)]
    no_structure: bool,
    /// Write every output's own scores to this file (CSV).
    #[arg(long, value_name = "FILE", value_parser = storage::local_path)]
    details: Option<PathBuf>,
    /// Draw the histogram of diversity into this file (PNG).
    #[arg(long, value_name = "FILE", value_parser = storage::local_path)]
    histogram: Option<PathBuf>,
    /// Keep the scores under this name too, by which tables find them.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Only print: do not keep the scores.
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// What was scored, and how.
#[derive(Serialize)]
struct Scored {
    outputs: String,
    reference: Option<String>,
    tasks: BTreeMap<String, Scores>,
    matching: Matching,
    depends: Depends,
    timing: Timing,
}

impl RunArgs {
    pub fn run(self) -> Result<()> {
        let outputs = Set::open(&self.outputs)?;
        let sizes = self.size.map_or(Sizes::Own, Sizes::Square);
        if matches!((&outputs, sizes), (Set::Photographs(_), Sizes::Own)) {
            let message = format!("{} are photographs: say --size, such as 256", self.outputs);
            return Err(Usage::new(message).into());
        }
        let extractors =
            self.extractors.iter().map(|file| Extractor::open(file)).collect::<Result<Vec<_>>>()?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let reference = self.reference.as_deref().map(Set::open).transpose()?;
        let pairs = Pairs::open(outputs, reference)?;
        let matching = Matching::new(&pairs.missing, &pairs.surplus);
        if let Some(note) = matching.note() {
            tracing::info!(note = true, "{note}");
        }
        let (distribution, statistics) = self.distribution(&extractors, &pairs, threads)?;
        let options = Options {
            sizes,
            splits: self.splits,
            subset: self.kid_subset as usize,
            structure: !self.no_structure,
            threads,
        };
        let result = scoring::score(&pairs, &extractors, statistics, options)?;
        if extractors.iter().any(|one| one.config().gives(Score::Ca))
            && result.tasks.values().all(|scores| scores.get(Score::Ca).is_none())
        {
            tracing::info!(
                note = true,
                "the classes of the pictures are not known: CA is left out"
            );
        }
        if let Some(file) = &self.details {
            scoring::write_details(file, &result.outputs)?;
        }
        if let Some(file) = &self.histogram {
            print::histogram(file, &result.tasks)?;
        }
        let scored = Scored {
            outputs: self.outputs.clone(),
            reference: self.reference.clone(),
            tasks: result.tasks,
            matching,
            depends: self.depends(&pairs, &extractors, distribution)?,
            timing: result.timing,
        };
        if !self.dry_run {
            keep::keep(pairs.outputs(), self.label.as_deref(), &scored)?;
        }
        if self.json { terminal::print_json(&scored) } else { print::print(&scored) }
    }

    /// What FID and KID compare with, for each extractor that gives them.
    fn distribution(
        &self,
        extractors: &[Extractor],
        pairs: &Pairs,
        threads: usize,
    ) -> Result<(Option<Distribution>, Vec<Option<Statistics>>)> {
        let Some(uri) = &self.distribution else {
            return Ok((None, extractors.iter().map(|_| None).collect()));
        };
        let sizes = match (self.size, Set::open(uri)?) {
            (Some(size), _) => Sizes::Square(size),
            (None, Set::Photographs(_)) => Sizes::Square(side(pairs)?),
            (None, _) => Sizes::Own,
        };
        let home = Home::from_env()?;
        let mut kept =
            Distribution { uri: uri.clone(), digest: Set::open(uri)?.digest()?, images: 0 };
        let statistics = extractors.iter().map(|extractor| {
            if !extractor.config().compares(With::Distribution) {
                return Ok(None);
            }
            let statistics =
                scoring::statistics_of(Set::open(uri)?, extractor, sizes, threads, &home)?;
            kept.images = statistics.moments.count();
            Ok(Some(statistics))
        });
        let statistics = statistics.collect::<Result<Vec<_>>>()?;
        Ok((Some(kept), statistics))
    }

    fn depends(
        &self,
        pairs: &Pairs,
        extractors: &[Extractor],
        distribution: Option<Distribution>,
    ) -> Result<Depends> {
        let through = extractors.iter().map(|extractor| {
            let config = extractor.config();
            ExtractorUse {
                name: config.name.clone(),
                sha256: config.sha256.clone(),
                rule: config.rule(),
                scores: config.scores.iter().map(ToString::to_string).collect(),
            }
        });
        Ok(Depends {
            outputs: pairs.outputs().digest()?,
            distribution,
            size: self.size,
            splits: self.splits,
            kid_subset: self.kid_subset as usize,
            extractors: through.collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// The side that photographs of a distribution are brought to: that of the outputs, which must be
/// square.
fn side(pairs: &Pairs) -> Result<u32> {
    let mut size = None;
    pairs.each(&mut |pair| {
        size = Some(pair.and_then(|pair| Ok(pair.output.decode(None)?.dimensions())));
        std::ops::ControlFlow::Break(())
    });
    match size.transpose()? {
        Some((width, height)) if width == height => Ok(width),
        _ => Err(Usage::new(
            "the outputs are not square: say --size, which --distribution is brought to as well",
        )
        .into()),
    }
}
