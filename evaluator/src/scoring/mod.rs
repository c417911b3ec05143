//! Scoring: pairs of pictures go through decoding threads, then through the extractors, then into the
//! sums that the scores are made of. The three overlap, so that the extractors set the pace; a bounded
//! number of pictures is in memory.

mod details;
mod gather;
mod result;
mod statistics;
mod stream;
mod work;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use terminal::Progress;

use crate::extractor::{Config, Extractor};
use crate::pictures::{Plan, Sizes};
use gather::Gathering;
use work::Wants;

pub use details::write_details;
pub use gather::Row;
pub use result::{BARS, Depends, Distribution, Matching, Scores, Through, Timing};
pub use statistics::Statistics;

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

/// The scores of a set, task by task.
pub struct Scored {
    /// By task.
    pub tasks: BTreeMap<String, Scores>,
    /// Every output, in order.
    pub rows: Vec<Row>,
    /// How long it took.
    pub timing: Timing,
}

/// Scores all pairs of a plan; `distribution` is what FID and KID compare with, one an extractor that
/// gives them, and the references of the pairs where there is none.
///
/// # Errors
/// For pictures and extractors that do not fit, and what of them is damaged.
pub fn score(
    plan: &Plan,
    extractors: &[Extractor],
    distribution: Vec<Option<Statistics>>,
    options: Options,
) -> Result<Scored> {
    Config::check_roles(extractors.iter().map(Extractor::config))?;
    let total = plan.counts().values().map(|counts| counts.outputs).sum();
    let progress = Progress::new("scoring", Some(total), "outputs");
    let configs: Vec<&Config> = extractors.iter().map(Extractor::config).collect();
    let wants = Wants::new(extractors, &distribution, options.structure);
    let prepare = |pair| work::prepare(pair, options.sizes, &configs, &wants);
    let batch = extractors.iter().map(Extractor::batch).min().unwrap_or(1);
    let mut gathering = Gathering::new(plan.counts(), extractors, distribution, options)?;

    let started = Instant::now();
    let mut looking = Duration::ZERO;
    let gathering = thread::scope(|scope| {
        let (looked, received) = crossbeam_channel::bounded(2);
        let gatherer = scope.spawn(move || {
            for looked in received {
                gathering.add(looked)?;
            }
            anyhow::Ok(gathering)
        });
        let streamed = stream::stream(plan, options.threads, batch, &prepare, &mut |prepared| {
            let begun = Instant::now();
            let seen = work::look(prepared, extractors)?;
            looking += begun.elapsed();
            progress.inc(seen.rows.len() as u64);
            // It hangs up only where it has failed, and says why itself.
            Ok(if looked.send(seen).is_ok() {
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
    let wall = started.elapsed();
    let (tasks, rows) = gathering.finish(options)?;
    let timing = Timing::new(total, looking, wall, started.elapsed() - wall);
    Ok(Scored { tasks, rows, timing })
}
