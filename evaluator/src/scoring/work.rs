//! What is done to one pair: decoding and comparing on a decoding thread, looking through the extractors
//! on the one thread that has them.

use anyhow::{Context, Result, bail};
use image::{GrayImage, RgbImage};

use super::Statistics;
use crate::extractor::{Config, Extractor, Score, Seen};
use crate::pictures::{Pair, Sizes};
use crate::scores::Sums;
use crate::scores::structure::{self, Structure};

/// What of a pair is needed.
pub struct Wants {
    /// SSIM and MS-SSIM.
    structure: bool,
    /// Which extractors look at the references too.
    references: Vec<bool>,
}

impl Wants {
    /// For these extractors, of which some have a distribution to compare with.
    pub fn new(
        extractors: &[Extractor],
        distribution: &[Option<Statistics>],
        structure: bool,
    ) -> Self {
        let references = extractors.iter().zip(distribution).map(|(extractor, distribution)| {
            let gives = |score| extractor.gives(score);
            gives(Score::Pd)
                || gives(Score::Lpips)
                || distribution.is_none() && (gives(Score::Fid) || gives(Score::Kid))
        });
        Self { structure, references: references.collect() }
    }
}

/// A pair without its pictures.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    pub key: String,
    pub sample: u32,
    pub task: String,
    pub label: Option<i64>,
    /// It is the first output of its input.
    pub first: bool,
    /// Over the generated pixels: of the output, and of what was given.
    pub errors: Option<[Sums; 2]>,
    /// Over the generated pixels: against the first output of the input.
    pub apart: Option<Sums>,
    pub psnr: Option<f64>,
    pub structure: Option<Structure>,
    /// Likeness to the first output of the input.
    pub diversity: Option<Structure>,
}

/// A pair that extractors can look at.
pub struct Prepared {
    compared: Compared,
    /// For each extractor: the output and, once an input, the reference.
    pictures: Vec<(RgbImage, Option<RgbImage>)>,
}

/// Decodes and compares.
///
/// # Errors
/// For damaged pictures and such of different sizes.
pub fn prepare(pair: Pair, sizes: Sizes, configs: &[&Config], wants: &Wants) -> Result<Prepared> {
    let decoded = pair.decode(sizes)?;
    let (output, reference) = (&decoded.output, &decoded.reference);
    let mut compared = Compared {
        key: pair.key,
        sample: pair.sample,
        task: pair
            .task
            .map_or_else(|| crate::pictures::NO_TASK.to_owned(), |task| task.to_string()),
        label: pair.label,
        first: decoded.first.is_none(),
        ..Compared::default()
    };
    if let (Some(reference), Some((source, mask))) = (reference, &decoded.given) {
        let mask = GrayImage::from_fn(mask.width(), mask.height(), |x, y| {
            [mask.get_pixel(x, y).0[0]].into()
        });
        let compare = |a, b| Sums::of(a, b, &mask).context("the pictures do not have one size");
        compared.errors = Some([compare(output, reference)?, compare(source, reference)?]);
        compared.apart = decoded.first.as_ref().map(|first| compare(output, first)).transpose()?;
    }
    compared.psnr = reference.as_ref().and_then(|one| structure::psnr(output, one));
    if wants.structure {
        let like = |one: &RgbImage| structure::structure(output, one);
        compared.structure = reference.as_ref().and_then(like);
        compared.diversity = decoded.first.as_ref().and_then(like);
    }
    let pictures = configs
        .iter()
        .zip(&wants.references)
        .map(|(config, &wanted)| {
            let reference = match (wanted && compared.first, reference) {
                (false, _) => None,
                (true, Some(reference)) => Some(config.prepare(reference)?),
                (true, None) => bail!(terminal::Usage::new(format!(
                    "{} compares with references, and there are none: say --reference or --distribution, or \
                     leave fid, kid, pd and lpips out of its `scores`",
                    config.name
                ))),
            };
            Ok((config.prepare(output)?, reference))
        })
        .collect::<Result<_>>()?;
    Ok(Prepared { compared, pictures })
}

/// A batch that was looked at.
pub struct Looked {
    pub rows: Vec<Compared>,
    /// For each extractor: the outputs, and the references of the first outputs among the rows.
    pub seen: Vec<(Seen, Option<Seen>)>,
}

/// Looks at a batch through every extractor.
///
/// # Errors
/// Where an extractor refuses it.
pub fn look(batch: Vec<Prepared>, extractors: &[Extractor]) -> Result<Looked> {
    let mut rows = Vec::with_capacity(batch.len());
    let mut outputs: Vec<Vec<RgbImage>> = extractors.iter().map(|_| Vec::new()).collect();
    let mut references = outputs.clone();
    for prepared in batch {
        rows.push(prepared.compared);
        for (number, (output, reference)) in prepared.pictures.into_iter().enumerate() {
            outputs[number].push(output);
            references[number].extend(reference);
        }
    }
    let seen = extractors
        .iter()
        .zip(outputs.iter().zip(&references))
        .map(|(extractor, (outputs, references))| {
            let seen = extractor.look(outputs)?;
            let references = (!references.is_empty()).then(|| extractor.look(references));
            Ok((seen, references.transpose()?))
        })
        .collect::<Result<_>>()?;
    Ok(Looked { rows, seen })
}
