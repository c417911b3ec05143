//! What is done to one pair: decoding and comparing on a decoding thread, looking through the extractors
//! on the one thread that has them.

use anyhow::{Result, bail};
use image::RgbImage;
use terminal::Usage;

use crate::extractor::{Config, Extractor, Seen};
use crate::pictures::{NO_TASK, Pair, Sizes};
use crate::scores::{Basis, Output, Pixels, Score, Statistics, With};

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
            let compares = |with| extractor.config().compares(with);
            compares(With::Reference) || distribution.is_none() && compares(With::Distribution)
        });
        Self { structure, references: references.collect() }
    }
}

/// A pair that extractors can look at.
pub struct Prepared {
    output: Output,
    /// For each extractor: the output and, once an input, the reference.
    pictures: Vec<(RgbImage, Option<RgbImage>)>,
}

/// Decodes and compares.
///
/// # Errors
/// For damaged pictures and such of different sizes.
pub fn prepare(pair: Pair, sizes: Sizes, configs: &[&Config], wants: &Wants) -> Result<Prepared> {
    let decoded = pair.decode(sizes)?;
    let hole = pair.variant.is_some_and(|variant| variant.task().has_hole());
    let pixels = Pixels::new(&decoded, hole, wants.structure)?;
    let mut output = Output {
        key: pair.key,
        sample: pair.sample,
        task: pair.variant.map_or_else(|| NO_TASK.to_owned(), |variant| variant.to_string()),
        label: pair.label,
        first: decoded.first.is_none(),
        scales: pixels.scales(),
        ..Output::default()
    };
    for score in Score::ALL {
        output.set(score, score.measure().compare(&pixels));
    }
    let pictures = configs
        .iter()
        .zip(&wants.references)
        .map(|(config, &wanted)| {
            let reference = match (wanted && output.first, pixels.reference) {
                (false, _) => None,
                (true, Some(reference)) => Some(config.prepare(reference)?),
                (true, None) => bail!(without_references(config)),
            };
            Ok((config.prepare(pixels.output)?, reference))
        })
        .collect::<Result<_>>()?;
    Ok(Prepared { output, pictures })
}

fn without_references(config: &Config) -> Usage {
    let compares = |score: &Score| matches!(score.about().basis, Basis::Extractor { with, .. } if with != With::Nothing);
    let names: Vec<&str> = Score::claims().filter(compares).map(Score::name).collect();
    Usage::new(format!(
        "{} compares with references, and no references were given: say --reference or --distribution, or \
         leave {} out of its `scores`",
        config.name,
        names.join(", ")
    ))
}

/// A batch that was looked at.
pub struct Looked {
    pub outputs: Vec<Output>,
    /// For each extractor: of the outputs, and of the references of the first outputs among them.
    pub seen: Vec<(Seen, Option<Seen>)>,
}

/// Looks at a batch through every extractor.
///
/// # Errors
/// Where an extractor refuses it.
pub fn look(batch: Vec<Prepared>, extractors: &[Extractor]) -> Result<Looked> {
    let mut outputs = Vec::with_capacity(batch.len());
    let mut pictures: Vec<Vec<RgbImage>> = extractors.iter().map(|_| Vec::new()).collect();
    let mut references = pictures.clone();
    for prepared in batch {
        outputs.push(prepared.output);
        for (number, (picture, reference)) in prepared.pictures.into_iter().enumerate() {
            pictures[number].push(picture);
            references[number].extend(reference);
        }
    }
    let seen = extractors
        .iter()
        .zip(pictures.iter().zip(&references))
        .map(|(extractor, (pictures, references))| {
            let seen = extractor.look(pictures)?;
            let references = (!references.is_empty()).then(|| extractor.look(references));
            Ok((seen, references.transpose()?))
        })
        .collect::<Result<_>>()?;
    Ok(Looked { outputs, seen })
}
