//! The errors of single outputs: computed once for each set of outputs, behind the page; from them best and worst.

use std::sync::Arc;

use outputs::OutputDataset;

use super::tables::is_of_task;
use crate::work::{Long, Progress};
use crate::{Answer, Refusal, Room};

/// Inputs whose errors are kept: 16 bytes each.
const MOST: usize = 4_000_000;
/// The highest PSNR, that of equal pictures, as the evaluator counts it.
pub const MOST_PSNR: f64 = 100.0;
/// Bins of a histogram over PSNR, from 0 to 50 dB; the last takes all above.
pub const BINS: usize = 50;

/// An input with the errors of its outputs.
#[derive(Clone, Copy, Debug)]
pub struct Ranked {
    /// The row of its first output.
    pub first: u64,
    /// Its outputs, which follow each other.
    pub outputs: u32,
    /// Mean PSNR of its outputs over whole pictures.
    pub psnr: f32,
    /// Mean absolute error of its outputs over the pixels that were to be made, in levels of 0 to 255.
    pub error: f32,
}

/// The inputs of a task.
pub struct Ranks {
    /// From the highest PSNR to the lowest.
    pub inputs: Vec<Ranked>,
    /// Outputs by PSNR.
    pub histogram: Vec<u64>,
    /// Outputs.
    pub outputs: u64,
    /// There were more inputs than are kept.
    pub cut: bool,
}

/// The errors of a task's outputs; computed by the first who asks.
///
/// # Errors
/// Where the outputs cannot be read.
pub async fn of(room: &Room, dataset: &Arc<OutputDataset>, task: &str) -> Answer<Long<Ranks>> {
    let key = format!("results.ranks.{}.{task}", dataset.digest());
    let (dataset, task) = (Arc::clone(dataset), task.to_owned());
    room.work.long(&key, move |progress| rank(&dataset, &task, progress)).await
}

fn rank(dataset: &OutputDataset, task: &str, progress: &Progress) -> Answer<Ranks> {
    let mut ranks = Ranks { inputs: Vec::new(), histogram: vec![0; BINS], outputs: 0, cut: false };
    let mut open: Option<(String, Ranked)> = None;
    let close = |open: Option<(String, Ranked)>, inputs: &mut Vec<Ranked>| {
        if let Some((_, mut one)) = open {
            one.psnr /= one.outputs as f32;
            one.error /= one.outputs as f32;
            inputs.push(one);
        }
    };
    for (number, row) in (0_u64..).zip(dataset.rows()) {
        progress.at(number, dataset.len());
        let row = row.map_err(|error| Refusal::conflict(error.to_string()))?;
        if !is_of_task(Some(&row.task.to_string()), task)
            && !is_of_task(Some(task), &row.task.to_string())
        {
            continue;
        }
        if ranks.inputs.len() >= MOST {
            ranks.cut = true;
            break;
        }
        let [psnr, error] = errors(&row).map_err(|why| {
            Refusal::conflict(format!("row {number} of {}: {why}", dataset.place()))
        })?;
        ranks.outputs += 1;
        let bin = (psnr.max(0.0) as usize).min(BINS - 1);
        ranks.histogram[bin] += 1;
        let next = row.key;
        match &mut open {
            Some((key, one)) if *key == next && one.first + u64::from(one.outputs) == number => {
                one.outputs += 1;
                one.psnr += psnr as f32;
                one.error += error as f32;
            }
            _ => {
                close(open.take(), &mut ranks.inputs);
                let (psnr, error) = (psnr as f32, error as f32);
                open = Some((next, Ranked { first: number, outputs: 1, psnr, error }));
            }
        }
    }
    close(open, &mut ranks.inputs);
    ranks.inputs.sort_by(|a, b| b.psnr.total_cmp(&a.psnr).then(a.first.cmp(&b.first)));
    Ok(ranks)
}

/// PSNR over the whole picture, and mean absolute error over the pixels that were to be made.
pub fn errors(row: &outputs::OutputRow) -> Result<[f64; 2], String> {
    let decode = |bytes: &[u8], what: &str| {
        pipeline::image::decode(bytes).map_err(|error| format!("{what}: {error}"))
    };
    let output = decode(&row.output, "output")?;
    let reference = decode(&row.reference, "reference")?;
    let mask = decode(&row.mask, "mask")?;
    if output.dimensions() != reference.dimensions() || output.dimensions() != mask.dimensions() {
        return Err("output, reference and mask are of different sizes".into());
    }
    let (mut squares, mut apart, mut made) = (0_u64, 0_u64, 0_u64);
    let pixels = output.as_raw().as_chunks::<3>().0.iter();
    let pixels =
        pixels.zip(reference.as_raw().as_chunks::<3>().0).zip(mask.as_raw().as_chunks::<3>().0);
    for ((output, reference), mask) in pixels {
        for (a, b) in output.iter().zip(reference) {
            let difference = u64::from(a.abs_diff(*b));
            squares += difference * difference;
            if mask[0] >= 128 {
                apart += difference;
                made += 1;
            }
        }
    }
    let mean = squares as f64 / output.as_raw().len().max(1) as f64;
    let psnr = if mean == 0.0 { MOST_PSNR } else { 10.0 * (255.0 * 255.0 / mean).log10() };
    Ok([psnr.min(MOST_PSNR), apart as f64 / made.max(1) as f64])
}
