//! The sums that scores are made of. They grow with the number of outputs only by a few numbers each,
//! which intervals and details are made of.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tch::Device;

use super::Options;
use super::result::Scores;
use super::work::Looked;
use crate::extractor::{Config, Extractor, Seen};
use crate::pictures::Counts;
use crate::scores::{Output, Own, Score, Setting, Statistics, Tally, With};

/// Everything that is gathered on the way.
pub struct Gathering {
    extractors: Vec<Through>,
    /// By task.
    tallies: BTreeMap<String, Vec<Counted>>,
    outputs: Vec<Output>,
}

/// What is taken through an extractor.
struct Through {
    scores: Vec<Score>,
    /// Some score compares each output with its reference.
    pairs: bool,
    /// The references are compared with, not a distribution.
    references: bool,
    distribution: Option<Statistics>,
    /// What was seen of the last reference: outputs of one input share it.
    last: Option<Seen>,
}

/// The set of a task through an extractor.
struct Counted {
    extractor: usize,
    score: Score,
    tally: Box<dyn Tally>,
}

impl Gathering {
    /// For these numbers of outputs.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn new(
        counts: &BTreeMap<String, Counts>,
        extractors: &[Extractor],
        distribution: Vec<Option<Statistics>>,
        options: Options,
    ) -> Result<Self> {
        let of_task = |counts: &Counts| -> Result<Vec<Counted>> {
            let mut tallies = Vec::new();
            for (number, extractor) in extractors.iter().enumerate() {
                let setting = setting(extractor.config(), extractor.device(), counts, options);
                for score in extractor.config().given() {
                    if let Some(tally) = score.measure().tally(&setting)? {
                        tallies.push(Counted { extractor: number, score, tally });
                    }
                }
            }
            Ok(tallies)
        };
        let tallies = counts.iter().map(|(task, counts)| Ok((task.clone(), of_task(counts)?)));
        let through =
            extractors.iter().zip(distribution).map(|(extractor, distribution)| Through {
                scores: extractor.config().given().collect(),
                pairs: extractor.config().compares(With::Reference),
                references: distribution.is_none(),
                distribution,
                last: None,
            });
        Ok(Self {
            tallies: tallies.collect::<Result<_>>()?,
            extractors: through.collect(),
            outputs: Vec::new(),
        })
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn add(&mut self, looked: Looked) -> Result<()> {
        let Looked { mut outputs, seen } = looked;
        for (number, (of_outputs, references)) in seen.into_iter().enumerate() {
            let through = &mut self.extractors[number];
            through.compare(&mut outputs, &of_outputs, references.as_ref())?;
            let references = references.filter(|_| through.references);
            for (task, tallies) in &mut self.tallies {
                let mut own = tallies.iter_mut().filter(|one| one.extractor == number).peekable();
                let firsts = Firsts::of(&outputs, task);
                if own.peek().is_none() || firsts.places.is_empty() {
                    continue;
                }
                let of_firsts = of_outputs.pick(&firsts.places)?;
                let references =
                    references.as_ref().map(|seen| seen.pick(&firsts.references)).transpose()?;
                for counted in own {
                    counted.tally.add(&firsts.names, &of_firsts, references.as_ref())?;
                }
            }
        }
        self.outputs.append(&mut outputs);
        Ok(())
    }

    /// The scores of every task, and every output with its own values.
    ///
    /// # Errors
    /// Where eigenvalues do not converge.
    pub fn finish(self) -> Result<(BTreeMap<String, Scores>, Vec<Output>)> {
        let Self { extractors, tallies, outputs } = self;
        let mut tasks = BTreeMap::new();
        for (task, tallies) in tallies {
            let own: Vec<&Output> = outputs.iter().filter(|one| one.task == task).collect();
            let mut scores = Scores::of(&own);
            for Counted { extractor, score, tally } in tallies {
                let distribution = extractors[extractor].distribution.as_ref();
                scores.set(score, tally.finish(distribution)?);
            }
            tasks.insert(task, scores);
        }
        Ok((tasks, outputs))
    }
}

fn setting(config: &Config, device: Device, counts: &Counts, options: Options) -> Setting {
    let logits = config.logits.as_ref();
    Setting {
        inputs: counts.inputs,
        features: config.features.as_ref().map_or(0, |features| features.width),
        classes: logits.map_or(0, |logits| logits.width),
        probabilities: logits.is_some_and(|logits| logits.probabilities),
        device,
        splits: options.splits,
        subset: options.subset,
    }
}

impl Through {
    /// What the extractor sees of each output alone.
    fn compare(
        &mut self,
        outputs: &mut [Output],
        seen: &Seen,
        references: Option<&Seen>,
    ) -> Result<()> {
        let references = if self.pairs { self.aligned(outputs, references)? } else { None };
        for &score in &self.scores {
            let owns = score.measure().look(seen, references.as_ref())?;
            for (output, own) in outputs.iter_mut().zip(owns) {
                output.set(score, Some(Own::of(own)));
            }
        }
        Ok(())
    }

    /// Row by row what was seen of the reference of its input, whose first output may have come with an
    /// earlier batch.
    fn aligned(&mut self, outputs: &[Output], references: Option<&Seen>) -> Result<Option<Seen>> {
        let carried = self.last.take();
        let mut next = usize::from(carried.is_some());
        let mut places = Vec::with_capacity(outputs.len());
        for output in outputs {
            next += usize::from(output.first);
            places.push(next.checked_sub(1).context("an output before the first of its input")?);
        }
        let own;
        let all = match (carried.as_ref(), references) {
            (Some(carried), Some(references)) => {
                own = carried.join(references)?;
                &own
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(None),
        };
        self.last = next.checked_sub(1).map(|last| all.pick(&[last])).transpose()?;
        all.pick(&places).map(Some)
    }
}

/// The first outputs of a task within a batch.
struct Firsts<'a> {
    names: Vec<&'a str>,
    places: Vec<usize>,
    /// Places of their references: a batch has those of its first outputs, in their order.
    references: Vec<usize>,
}

impl<'a> Firsts<'a> {
    fn of(outputs: &'a [Output], task: &str) -> Self {
        let firsts = outputs.iter().enumerate().filter(|(_, output)| output.first).enumerate();
        let own: Vec<_> = firsts.filter(|(_, (_, output))| output.task == task).collect();
        Self {
            names: own.iter().map(|(_, (_, output))| output.key.as_str()).collect(),
            places: own.iter().map(|(_, (place, _))| *place).collect(),
            references: own.iter().map(|(reference, _)| *reference).collect(),
        }
    }
}
