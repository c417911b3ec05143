//! The sums that scores are made of. They grow with the number of outputs only by a few numbers each,
//! which intervals and details are made of.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::result::{BARS, Diversity, Scores};
use super::statistics::{self, Features};
use super::work::{Compared, Looked};
use super::{Options, Statistics};
use crate::extractor::{Extractor, Score, Seen, map_distance};
use crate::pictures::Counts;
use crate::scores::{InceptionScore, Interval, Moments, Sums, frechet, interval, kernel};

/// Groups of the jackknife.
const GROUPS: usize = 10;

/// One output with its own scores.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The pair.
    pub compared: Compared,
    /// The class that the classifier found.
    pub found: Option<i64>,
    /// L2 distance of features to the reference.
    pub perceptual: Option<f64>,
    /// Distance of feature maps to the reference.
    pub lpips: Option<f64>,
}

/// Everything that is gathered on the way.
pub struct Gathering {
    extractors: Vec<Looker>,
    distribution: Vec<Option<Statistics>>,
    tasks: BTreeMap<String, Task>,
    rows: Vec<Row>,
}

/// What is done with what an extractor sees.
struct Looker {
    scores: Vec<Score>,
    probabilities: bool,
    /// Features and maps of the last reference: outputs of one input share it.
    last: Option<(Option<Tensor>, Vec<Tensor>)>,
}

/// What is gathered for a task.
#[derive(Default)]
struct Task {
    errors: [Sums; 2],
    apart: Sums,
    /// For each extractor.
    through: Vec<Through>,
}

struct Through {
    /// Of the first outputs, in groups, where the extractor gives FID or KID.
    outputs: Option<Features>,
    references: Option<Features>,
    inception: Option<InceptionScore>,
}

impl Gathering {
    /// For these numbers of outputs.
    ///
    /// # Errors
    /// Never, as long as configurations are checked.
    pub fn new(
        counts: &BTreeMap<String, Counts>,
        extractors: &[Extractor],
        distribution: Vec<Option<Statistics>>,
        options: Options,
    ) -> Result<Self> {
        let task = |counts: &Counts| -> Result<Task> {
            let through = extractors.iter().zip(&distribution).map(|(extractor, distribution)| {
                let config = extractor.config();
                let gives = |score| extractor.gives(score);
                let features = |groups| -> Result<Option<Features>> {
                    if !gives(Score::Fid) && !gives(Score::Kid) {
                        return Ok(None);
                    }
                    let width = config.features.as_ref().context("no features")?.width;
                    Ok(Some(Features::new(width, groups, extractor.device())))
                };
                let inception = match (gives(Score::Is), &config.logits) {
                    (true, Some(logits)) => Some(InceptionScore::new(
                        counts.inputs,
                        usize::try_from(logits.width)?,
                        options.splits,
                    )),
                    _ => None,
                };
                let references = if distribution.is_none() { features(1)? } else { None };
                Ok(Through { outputs: features(GROUPS)?, references, inception })
            });
            Ok(Task { through: through.collect::<Result<_>>()?, ..Task::default() })
        };
        let tasks = counts.iter().map(|(name, counts)| Ok((name.clone(), task(counts)?)));
        let lookers = extractors.iter().map(|extractor| Looker {
            scores: extractor.config().scores.clone(),
            probabilities: extractor.config().logits.as_ref().is_some_and(|one| one.probabilities),
            last: None,
        });
        let tasks = tasks.collect::<Result<_>>()?;
        Ok(Self { extractors: lookers.collect(), distribution, tasks, rows: Vec::new() })
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn add(&mut self, looked: Looked) -> Result<()> {
        let begin = self.rows.len();
        self.rows
            .extend(looked.rows.into_iter().map(|compared| Row { compared, ..Row::default() }));
        let rows = &mut self.rows[begin..];
        for row in &*rows {
            let task = self.tasks.get_mut(&row.compared.task).context("a task without a count")?;
            if let Some([output, input]) = row.compared.errors {
                task.errors[0].add(output);
                task.errors[1].add(input);
            }
            task.apart.add(row.compared.apart.unwrap_or_default());
        }
        for (number, (outputs, references)) in looked.seen.into_iter().enumerate() {
            let looker = &mut self.extractors[number];
            looker.compare(rows, &outputs, references.as_ref())?;
            for (name, task) in &mut self.tasks {
                let firsts: Vec<usize> = rows
                    .iter()
                    .enumerate()
                    .filter(|(_, row)| row.compared.first && row.compared.task == *name)
                    .map(|(at, _)| at)
                    .collect();
                task.through[number].add(rows, &firsts, &outputs, references.as_ref(), looker)?;
            }
        }
        Ok(())
    }

    /// The scores of every task, and every output's own.
    ///
    /// # Errors
    /// With too few images, and where eigenvalues do not converge.
    pub fn finish(mut self, options: Options) -> Result<(BTreeMap<String, Scores>, Vec<Row>)> {
        let tasks = std::mem::take(&mut self.tasks);
        let scored = tasks
            .into_iter()
            .map(|(name, task)| {
                let scores = self.scores(&name, task, options)?;
                Ok((name, scores))
            })
            .collect::<Result<_>>()?;
        Ok((scored, self.rows))
    }

    fn scores(&self, name: &str, task: Task, options: Options) -> Result<Scores> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.compared.task == name).collect();
        let hole = name.parse::<pipeline::Task>().is_ok_and(pipeline::Task::has_hole);
        let [output, input] = task.errors;
        let own = |value: &dyn Fn(&Row) -> Option<f64>| by_input(&rows, value);
        let mut scores = Scores {
            outputs: rows.len() as u64,
            inputs: rows.iter().filter(|row| row.compared.first).count() as u64,
            mean_absolute_error: output.mean_absolute_error(),
            psnr: output.psnr(),
            input_mean_absolute_error: input.mean_absolute_error().filter(|_| !hole),
            diversity: task.apart.mean_absolute_error(),
            picture_psnr: own(&|row| row.compared.psnr.filter(|psnr| psnr.is_finite())),
            ssim: own(&|row| Some(row.compared.structure?.ssim)),
            ms_ssim: own(&|row| Some(row.compared.structure?.ms_ssim)),
            perceptual: own(&|row| row.perceptual),
            perceptual_squared: own(&|row| Some(row.perceptual?.powi(2))),
            lpips: own(&|row| row.lpips),
            accuracy: own(&|row| Some(f64::from(u8::from(row.found? == row.compared.label?)))),
            diversity_ms_ssim: diversity(&rows),
            scales: rows
                .iter()
                .find_map(|row| row.compared.structure.or(row.compared.diversity))
                .map(|structure| structure.scales),
            ..Scores::default()
        };
        for ((through, looker), distribution) in
            task.through.into_iter().zip(&self.extractors).zip(&self.distribution)
        {
            if let Some(inception) = &through.inception {
                scores.inception = inception.estimate();
            }
            let Some(outputs) = through.outputs else { continue };
            let references = match (distribution, through.references) {
                (Some(distribution), _) => distribution,
                (None, Some(references)) => &references.finish(),
                (None, None) => continue,
            };
            let (groups, sketch) = outputs.finish_groups();
            // A distance of a single picture says nothing.
            if scores.inputs < 2 || references.images() < 2 {
                continue;
            }
            if looker.scores.contains(&Score::Fid) {
                scores.fid = Some(frechet_distance(references, &groups)?);
            }
            if looker.scores.contains(&Score::Kid) {
                let (outputs, references) = (sketch.tensor(), references.sketch().tensor());
                scores.kid = Some(kernel::distance(&outputs, &references, options.subset, 0)?);
            }
        }
        Ok(scores)
    }
}

impl Looker {
    /// What the extractor says of each output alone.
    fn compare(
        &mut self,
        rows: &mut [Row],
        outputs: &Seen,
        references: Option<&Seen>,
    ) -> Result<()> {
        if let (true, Some(logits)) = (self.scores.contains(&Score::Ca), &outputs.logits) {
            let found: Vec<i64> = Vec::try_from(logits.argmax(-1, false))?;
            for (row, found) in rows.iter_mut().zip(found) {
                row.found = Some(found);
            }
        }
        let (pd, lpips) = (self.scores.contains(&Score::Pd), self.scores.contains(&Score::Lpips));
        if !pd && !lpips {
            return Ok(());
        }
        // Row after row the reference of its input: the carried one first, then this batch's.
        let mut at = i64::from(self.last.is_some()) - 1;
        let places: Vec<i64> = rows
            .iter()
            .map(|row| {
                at += i64::from(row.compared.first);
                at
            })
            .collect();
        let places = Tensor::from_slice(&places);
        let join = |carried: Option<&Tensor>, own: Option<&Tensor>| {
            let parts: Vec<&Tensor> = carried.into_iter().chain(own).collect();
            (!parts.is_empty()).then(|| Tensor::cat(&parts, 0))
        };
        let carried = self.last.take();
        let pick = |all: &Tensor| all.index_select(0, &places.to_device(all.device()));
        let mut last = (None, Vec::new());
        let features = join(
            carried.as_ref().and_then(|(features, _)| features.as_ref()),
            references.and_then(|seen| seen.features.as_ref()),
        );
        if let (true, Some(references), Some(outputs)) = (pd, features, &outputs.features) {
            let apart = (outputs - pick(&references)).to_kind(Kind::Double);
            let distances = apart.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            let distances: Vec<f64> = Vec::try_from(distances.sqrt().to_device(Device::Cpu))?;
            for (row, distance) in rows.iter_mut().zip(distances) {
                row.perceptual = Some(distance);
            }
            last.0 = Some(references.slice(0, -1, None, 1).copy());
        }
        if lpips {
            let maps = (0..outputs.maps.len()).map(|number| {
                let carried = carried.as_ref().and_then(|(_, maps)| maps.get(number));
                join(carried, references.and_then(|seen| seen.maps.get(number)))
                    .context("references without feature maps")
            });
            let maps = maps.collect::<Result<Vec<_>>>()?;
            let of_rows: Vec<Tensor> = maps.iter().map(pick).collect();
            let distances: Vec<f64> = Vec::try_from(map_distance(&outputs.maps, &of_rows)?)?;
            for (row, distance) in rows.iter_mut().zip(distances) {
                row.lpips = Some(distance);
            }
            last.1 = maps.iter().map(|map| map.slice(0, -1, None, 1).copy()).collect();
        }
        self.last = Some(last);
        Ok(())
    }
}

impl Through {
    fn add(
        &mut self,
        rows: &[Row],
        firsts: &[usize],
        outputs: &Seen,
        references: Option<&Seen>,
        looker: &Looker,
    ) -> Result<()> {
        if firsts.is_empty() {
            return Ok(());
        }
        if let (Some(inception), Some(logits)) = (&mut self.inception, &outputs.logits) {
            let width = usize::try_from(logits.size()[1])?;
            let answers: Vec<f32> = Vec::try_from(logits.contiguous().view([-1]))?;
            for &at in firsts {
                inception.add(&answers[at * width..(at + 1) * width], looker.probabilities);
            }
        }
        let names: Vec<&str> = firsts.iter().map(|&at| rows[at].compared.key.as_str()).collect();
        if let (Some(sums), Some(features)) = (&mut self.outputs, &outputs.features) {
            sums.add(&names, &statistics::pick(features, firsts))?;
        }
        if let (Some(sums), Some(references)) = (&mut self.references, references)
            && let Some(features) = &references.features
        {
            // The references of a batch are those of its first outputs, in their order.
            let own: HashMap<usize, usize> = rows
                .iter()
                .enumerate()
                .filter(|(_, row)| row.compared.first)
                .enumerate()
                .map(|(number, (at, _))| (at, number))
                .collect();
            let places: Vec<usize> = firsts.iter().filter_map(|at| own.get(at).copied()).collect();
            sums.add(&names, &statistics::pick(features, &places))?;
        }
        Ok(())
    }
}

/// FID with its interval.
fn frechet_distance(references: &Statistics, groups: &[Moments]) -> Result<Interval> {
    let reference = frechet::Reference::new(references.moments())?;
    let all = Moments::sum(references.moments().width(), groups);
    let value = reference.distance(&all)?;
    let without = groups
        .iter()
        .filter(|group| group.count() > 0 && all.count() - group.count() >= 2)
        .map(|group| reference.distance(&all.without(group)?))
        .collect::<Result<Vec<f64>>>()?;
    let whole = Interval { value, low: value, high: value };
    Ok(interval::jackknife(value, &without).unwrap_or(whole))
}

/// The mean over inputs of the mean over their outputs, with a bootstrap over inputs.
fn by_input(rows: &[&Row], value: &dyn Fn(&Row) -> Option<f64>) -> Option<Interval> {
    let mut means: Vec<f64> = Vec::new();
    let mut of_input: Vec<f64> = Vec::new();
    let mut close = |of_input: &mut Vec<f64>| {
        if !of_input.is_empty() {
            means.push(of_input.iter().sum::<f64>() / of_input.len() as f64);
            of_input.clear();
        }
    };
    for row in rows {
        if row.compared.first {
            close(&mut of_input);
        }
        of_input.extend(value(row));
    }
    close(&mut of_input);
    interval::bootstrap(&means)
}

fn diversity(rows: &[&Row]) -> Option<Diversity> {
    let value = |row: &Row| Some(row.compared.diversity?.ms_ssim);
    let mean = by_input(rows, &value)?;
    let mut histogram = vec![0; BARS];
    for value in rows.iter().filter_map(|row| value(row)) {
        histogram[Diversity::bar(value)] += 1;
    }
    Some(Diversity { mean, histogram })
}

/// The group of an image, by its name.
pub fn group(name: &str) -> usize {
    (random::key(&[random::text_key(name), 0x67726f7570]) % GROUPS as u64) as usize
}
