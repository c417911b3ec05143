//! What `evaluator run` and a scoring job do: an [`EvaluationRequest`] becomes scores, which are kept and printed.

mod keep;
mod print;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Result;
use contracts::{EvaluationRequest, Origin};
use home::Home;
use serde::Serialize;
use terminal::Usage;

use crate::extractor::Extractor;
use crate::pictures::{Pairs, Set, Sizes};
use crate::scores::{Score, Statistics, With};
use crate::scoring::{
    self, Depends, Distribution, ExtractorUse, Matching, Options, Scores, Timing, Watch,
};

pub use keep::{demand, keep};
pub use print::{histogram, print};

/// What was scored, and how.
#[derive(Serialize)]
pub struct Scored {
    pub outputs: String,
    pub reference: Option<String>,
    pub tasks: BTreeMap<String, Scores>,
    pub matching: Matching,
    pub depends: Depends,
    pub timing: Timing,
    /// Where the outputs are from, if a sampling job made them.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// Scores what is asked for, and writes the outputs' own scores where it says so; none where `watch`, which
/// hears how far it is, broke it off. `ready` hears where the outputs are from before anything is scored.
///
/// # Errors
/// Where a set or an extractor cannot be used; those of `ready`.
pub fn evaluate(
    request: &EvaluationRequest,
    ready: impl FnOnce(Option<&Origin>) -> Result<()>,
    watch: Watch,
) -> Result<Option<Scored>> {
    request.check().map_err(Usage::of)?;
    let outputs = Set::at(&request.outputs)?;
    let sizes = request.size.map_or(Sizes::Own, Sizes::Square);
    if matches!((&outputs, sizes), (Set::Photographs(_), Sizes::Own)) {
        let message = format!("{} are photographs: say --size, such as 256", request.outputs);
        return Err(Usage::new(message).into());
    }
    let extractors = request.extractors.iter().map(|file| Extractor::open_tried(file));
    let extractors = extractors.collect::<Result<Vec<_>>>()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let reference = request.reference.as_ref().map(Set::at).transpose()?;
    let pairs = Pairs::open(outputs, reference)?;
    check_scores(&pairs, &extractors, request)?;
    let origin = keep::origin(pairs.outputs(), &request.outputs.to_string())?;
    ready(origin.as_ref())?;
    if let Some(file) = &request.details {
        scoring::check_details(file)?;
    }
    let matching = Matching::new(&pairs.missing, &pairs.surplus);
    if let Some(note) = matching.note() {
        tracing::info!(note = true, "{note}");
    }
    let against = distribution(request, &extractors, &pairs, threads, watch)?;
    let Some((distribution, statistics)) = against else { return Ok(None) };
    let options = Options {
        sizes,
        splits: request.splits,
        subset: request.kid_subset as usize,
        structure: request.structure,
        threads,
    };
    let Some(result) = scoring::score(&pairs, &extractors, statistics, options, watch)? else {
        return Ok(None);
    };
    if result.tasks.values().all(Scores::is_empty) {
        return Err(Usage::new(format!(
            "{}: none of the scores could be computed",
            request.outputs
        ))
        .into());
    }
    if extractors.iter().any(|one| one.config().gives(Score::Ca))
        && result.tasks.values().all(|scores| scores.get(Score::Ca).is_none())
    {
        tracing::info!(note = true, "the classes of the pictures are not known: CA is left out");
    }
    if let Some(file) = &request.details {
        scoring::write_details(file, &result.outputs)?;
    }
    Ok(Some(Scored {
        origin,
        outputs: request.outputs.to_string(),
        reference: request.reference.as_ref().map(ToString::to_string),
        tasks: result.tasks,
        matching,
        depends: depends(request, &pairs, &extractors, distribution)?,
        timing: result.timing,
    }))
}

/// Refuses what would give a table of nothing.
fn check_scores(
    pairs: &Pairs,
    extractors: &[Extractor],
    request: &EvaluationRequest,
) -> Result<()> {
    if !extractors.is_empty() || pairs.has_references() {
        return Ok(());
    }
    let against = match request.distribution {
        Some(_) => ", and --distribution is compared with through an extractor",
        None => "",
    };
    Err(Usage::new(format!(
        "{}: nothing to score: there is no reference beside it{against}. Say --reference for scores of pictures \
         (PSNR, SSIM), --extractor for FID, KID, IS and accuracy, or both",
        request.outputs
    ))
    .into())
}

/// What FID and KID compare with, and its statistics for each extractor that gives them.
type Against = (Option<Distribution>, Vec<Option<Statistics>>);

fn distribution(
    request: &EvaluationRequest,
    extractors: &[Extractor],
    pairs: &Pairs,
    threads: usize,
    watch: Watch,
) -> Result<Option<Against>> {
    let Some(set) = &request.distribution else {
        return Ok(Some((None, extractors.iter().map(|_| None).collect())));
    };
    let sizes = match (request.size, Set::at(set)?) {
        (Some(size), _) => Sizes::Square(size),
        (None, Set::Photographs(_)) => Sizes::Square(side(pairs)?),
        (None, _) => Sizes::Own,
    };
    let home = Home::from_env()?;
    let mut kept =
        Distribution { uri: set.to_string(), digest: Set::at(set)?.digest()?, images: 0 };
    let mut all = Vec::with_capacity(extractors.len());
    for extractor in extractors {
        if !extractor.config().compares(With::Distribution) {
            all.push(None);
            continue;
        }
        let statistics =
            scoring::statistics_of(Set::at(set)?, extractor, sizes, threads, &home, watch)?;
        let Some(statistics) = statistics else { return Ok(None) };
        kept.images = statistics.moments.count();
        all.push(Some(statistics));
    }
    Ok(Some((Some(kept), all)))
}

fn depends(
    request: &EvaluationRequest,
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
        size: request.size,
        splits: request.splits,
        kid_subset: request.kid_subset as usize,
        extractors: through.collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The side that photographs of a distribution are brought to: that of the outputs, which must be
/// square.
fn side(pairs: &Pairs) -> Result<u32> {
    let mut size = None;
    pairs.each(&mut |pair| {
        size = Some(pair.and_then(|pair| Ok(pair.output.decode(None)?.dimensions())));
        ControlFlow::Break(())
    });
    match size.transpose()? {
        Some((width, height)) if width == height => Ok(width),
        _ => Err(Usage::new(
            "the outputs are not square: say --size, which --distribution is brought to as well",
        )
        .into()),
    }
}
