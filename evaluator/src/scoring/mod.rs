//! Scoring: pairs of pictures go through decoding threads, then through the extractors, then into the
//! sums that the scores are made of. The three overlap, so that the extractors set the pace; a bounded
//! number of pictures is in memory.

mod details;
mod gather;
mod reference;
mod result;
mod stream;
mod work;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tch::TchError;
use terminal::Progress;

use crate::extractor::{Config, Extractor};
use crate::pictures::{Pairs, Sizes};
use crate::scores::{Output, Statistics};
use gather::Gathering;
use work::Wants;

pub use details::{check_details, write_details};
pub use reference::statistics_of;
pub use result::{Depends, Distribution, ExtractorUse, Matching, Scores, Timing};

/// What an evaluation depends on beside its pictures.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sizes that pictures are compared at.
    pub sizes: Sizes,
    /// Splits of the Inception Score.
    pub splits: u32,
    /// Images in a subset of KID.
    pub subset: usize,
    /// Also SSIM and MS-SSIM.
    pub structure: bool,
    /// Decoding threads.
    pub threads: usize,
}

/// Hears what is looked at and how much of how much that is; breaks it off.
pub type Watch<'a> = &'a mut dyn FnMut(&str, u64, u64) -> ControlFlow<()>;

/// The scores of a set, task by task.
pub struct Scored {
    /// By task.
    pub tasks: BTreeMap<String, Scores>,
    /// Every output, in order.
    pub outputs: Vec<Output>,
    /// How long it took.
    pub timing: Timing,
}

/// Scores all pairs; `distribution` is what FID and KID compare with, one an extractor that
/// gives them, or else the references of the pairs. `None` where `watch` broke it off.
///
/// # Errors
/// For pictures and extractors that do not fit, and what of them is damaged.
pub fn score(
    pairs: &Pairs,
    extractors: &[Extractor],
    distribution: Vec<Option<Statistics>>,
    options: Options,
    watch: Watch,
) -> Result<Option<Scored>> {
    scored(pairs, extractors, distribution, options, watch).map_err(|error| {
        match error.downcast::<TchError>() {
            Ok(error) => torch_ext::Error::from(error).into(),
            Err(error) => error,
        }
    })
}

fn scored(
    pairs: &Pairs,
    extractors: &[Extractor],
    distribution: Vec<Option<Statistics>>,
    options: Options,
    watch: Watch,
) -> Result<Option<Scored>> {
    Config::check_roles(extractors.iter().map(Extractor::config))?;
    let total = pairs.counts().values().map(|counts| counts.outputs).sum();
    let progress = Progress::new("scoring", Some(total), "outputs");
    let configs: Vec<&Config> = extractors.iter().map(Extractor::config).collect();
    let wants = Wants::new(extractors, &distribution, options.structure);
    let prepare = |pair| work::prepare(pair, options.sizes, &configs, &wants);
    let batch = extractors.iter().map(Extractor::batch).min().unwrap_or(1);
    let mut gathering = Gathering::new(pairs.counts(), extractors, distribution, options)?;

    let started = Instant::now();
    let mut looking = Duration::ZERO;
    let (mut done, mut broken_off) = (0, false);
    let gathering = thread::scope(|scope| {
        let (looked, received) = crossbeam_channel::bounded(2);
        let gatherer = scope.spawn(move || {
            for looked in received {
                gathering.add(looked)?;
            }
            anyhow::Ok(gathering)
        });
        let streamed = stream::stream(pairs, options.threads, batch, &prepare, &mut |prepared| {
            let begun = Instant::now();
            let seen = work::look(prepared, extractors)?;
            looking += begun.elapsed();
            progress.inc(seen.outputs.len() as u64);
            done += seen.outputs.len() as u64;
            broken_off = watch("outputs scored", done, total).is_break();
            // It hangs up only where it has failed, and says why itself.
            Ok(if !broken_off && looked.send(seen).is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        });
        drop(looked);
        let gathered = gatherer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        streamed.map(|()| gathered)
    })?;
    progress.finish();
    if broken_off {
        return Ok(None);
    }
    let wall = started.elapsed();
    let (tasks, outputs) = gathering.finish()?;
    let timing = Timing::new(total, looking, wall, started.elapsed() - wall);
    Ok(Some(Scored { tasks, outputs, timing }))
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use outputs::{OutputRow, OutputWriter};
    use pipeline::Task;

    use super::*;
    use crate::pictures::Set;
    use crate::scores::Score;

    /// The picture of an input's reference (sample 3) or of one of its outputs: of one colour.
    fn colour(input: u8, sample: u8) -> [u8; 3] {
        [20 * input, 10 * sample, input + 50 * (3 - sample)]
    }

    #[test]
    fn several_outputs_of_an_input_have_its_reference_whatever_the_batch() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_str().unwrap();
        let picture = |colour| RgbImage::from_pixel(16, 16, Rgb(colour));
        let png = |image: RgbImage| pictures::png(&image).unwrap();
        let rows: Vec<OutputRow> = (0..5)
            .flat_map(|input| (0..3).map(move |sample| (input, sample)))
            .map(|(input, sample)| OutputRow {
                source: png(picture([0; 3])),
                mask: png(picture([255; 3])),
                output: png(picture(colour(input, sample))),
                reference: png(picture(colour(input, 3))),
                key: format!("input-{input}"),
                seed: 0,
                sample: u32::from(sample),
                task: Task::Colorization.into(),
            })
            .collect();
        let writer = OutputWriter::open(&uri.parse().unwrap(), "samples", 1).unwrap();
        writer.write_chunk(0, &rows).unwrap();
        writer.finish(serde_json::json!({})).unwrap();

        // The network's features are the means of the channels.
        let distance = |input, sample| {
            let (a, b) = (colour(input, sample), colour(input, 3));
            let squares = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(b)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let mut fids = Vec::new();
        for batch in [1, 2, 5, 64] {
            let extractors = [crate::extractor::tests::flags(&format!(
                "scores = [\"fid\", \"pd\"]\ninput = \"uint8\"\nbatch = {batch}\n\
                 [features]\narguments = [true]\nwidth = 3\n"
            ))
            .unwrap()];
            let pairs = Pairs::open(Set::open(uri).unwrap(), None).unwrap();
            let sizes = Sizes::Own;
            let options = Options { sizes, splits: 1, subset: 2, structure: true, threads: 2 };
            let mut watch = |_: &str, _, total| {
                assert_eq!(total, 15);
                ControlFlow::Break(())
            };
            let broken_off = score(&pairs, &extractors, vec![None], options, &mut watch);
            assert!(broken_off.unwrap().is_none());
            let mut watch = |_: &str, _, _| ControlFlow::Continue(());
            let scored = score(&pairs, &extractors, vec![None], options, &mut watch);
            let scored = scored.unwrap().unwrap();
            for output in &scored.outputs {
                let input = output.key["input-".len()..].parse().unwrap();
                let expected = distance(input, output.sample as u8);
                let got = output.own(Score::Pd).unwrap().sum;
                assert!((got - expected).abs() < 1e-3, "{batch}: {output:?}");
            }
            let scores = &scored.tasks["colorization"];
            assert_eq!((scores.outputs, scores.inputs), (15, 5));
            let histogram = scores.histogram(Score::Likeness).unwrap();
            assert_eq!(histogram.iter().sum::<u64>(), 10);
            fids.push(scores.number(Score::Fid).unwrap());
        }
        assert!(fids.iter().all(|fid| (fid - fids[0]).abs() < 1e-6 * fids[0]), "{fids:?}");
    }
}
