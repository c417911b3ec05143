//! One output on its way: its pixels, its own values, and the own values of a task.

use anyhow::{Context, Result};
use image::{GrayImage, RgbImage};

use super::maths::Sums;
use super::maths::structure::{Structure, structure};
use super::{Interval, Score};
use crate::pictures::Decoded;

/// The pictures of an output, with the comparisons that several scores share.
pub struct Pixels<'a> {
    /// What the network made.
    pub output: &'a RgbImage,
    /// The photograph.
    pub reference: Option<&'a RgbImage>,
    /// The input has a masked region, so that its own error says nothing.
    pub hole: bool,
    /// Output and reference over the generated pixels.
    pub error: Option<Sums>,
    /// What was given and reference over the generated pixels.
    pub input_error: Option<Sums>,
    /// Output and first output of the input over the generated pixels.
    pub apart: Option<Sums>,
    /// Output and reference.
    pub structure: Option<Structure>,
    /// Output and first output of the input.
    pub likeness: Option<Structure>,
}

impl<'a> Pixels<'a> {
    /// Compares; SSIM and MS-SSIM, which cost as much as decoding, only with `structures`.
    ///
    /// # Errors
    /// For pictures of different sizes.
    pub fn new(decoded: &'a Decoded, hole: bool, structures: bool) -> Result<Self> {
        let Decoded { output, reference, first, given } = decoded;
        let (reference, first) = (reference.as_ref(), first.as_ref());
        let mut pixels = Self {
            output,
            reference,
            hole,
            error: None,
            input_error: None,
            apart: None,
            structure: None,
            likeness: None,
        };
        if let (Some(reference), Some((source, mask))) = (reference, given) {
            let mask = GrayImage::from_fn(mask.width(), mask.height(), |x, y| {
                [mask.get_pixel(x, y).0[0]].into()
            });
            let sums = |a, b| Sums::of(a, b, &mask).context("the pictures do not have one size");
            pixels.error = Some(sums(output, reference)?);
            pixels.input_error = Some(sums(source, reference)?);
            pixels.apart = first.map(|first| sums(output, first)).transpose()?;
        }
        if structures {
            pixels.structure = reference.and_then(|reference| structure(output, reference));
            pixels.likeness = first.and_then(|first| structure(output, first));
        }
        Ok(pixels)
    }

    /// Scales of MS-SSIM that the pictures are large enough for.
    pub fn scales(&self) -> Option<usize> {
        self.structure.or(self.likeness).map(|structure| structure.scales)
    }
}

/// What one output has of a score: a sum over some values, such as pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// The sum.
    pub sum: f64,
    /// Of how many values.
    pub values: f64,
}

impl Own {
    /// One value.
    pub fn of(value: f64) -> Self {
        Self { sum: value, values: 1.0 }
    }

    /// The mean of its values; none of nothing.
    pub fn value(self) -> Option<f64> {
        (self.values > 0.0).then(|| self.sum / self.values)
    }
}

/// An output with its own values.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Key of its input.
    pub key: String,
    /// Its number among the outputs of the input.
    pub sample: u32,
    /// Its task with its degradation, as `jpeg:5`.
    pub task: String,
    /// Class of the input, where that is known.
    pub label: Option<i64>,
    /// It is the first output of its input.
    pub first: bool,
    /// Scales of MS-SSIM that it is large enough for.
    pub scales: Option<usize>,
    /// By score, in the order of [`Score::ALL`].
    pub owns: [Option<Own>; Score::ALL.len()],
}

impl Output {
    /// What it has of a score.
    pub fn own(&self, score: Score) -> Option<Own> {
        self.owns[score as usize]
    }

    /// Sets what it has of a score.
    pub fn set(&mut self, score: Score, own: Option<Own>) {
        self.owns[score as usize] = own;
    }
}

/// What the outputs of a task add to a score, input by input.
pub struct Owns(Vec<(bool, Option<Own>)>);

impl Owns {
    /// Of these outputs, in order: those of one input follow each other.
    pub fn of(score: Score, outputs: &[&Output]) -> Self {
        let counted = |output: &Output| score.measure().counted(output.own(score)?, output);
        Self(outputs.iter().map(|output| (output.first, counted(output))).collect())
    }

    /// All values of all outputs together.
    pub fn pooled(&self) -> Own {
        let each = self.0.iter().filter_map(|(_, own)| *own);
        each.fold(Own::default(), |all, own| Own {
            sum: all.sum + own.sum,
            values: all.values + own.values,
        })
    }

    /// Each output's value.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.0.iter().filter_map(|(_, own)| own.and_then(Own::value))
    }

    /// The mean over inputs of the mean over their outputs, with an interval over inputs.
    pub fn over_inputs(&self) -> Option<Interval> {
        Interval::of_mean(&self.means())
    }

    /// The means over the outputs of each input.
    pub fn means(&self) -> Vec<f64> {
        let mut means = Vec::new();
        let mut of_input = Vec::new();
        for (first, own) in &self.0 {
            if *first {
                means.extend(statistics::mean(&std::mem::take(&mut of_input)));
            }
            of_input.extend(own.and_then(Own::value));
        }
        means.extend(statistics::mean(&of_input));
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(first: bool, value: Option<f64>) -> Output {
        let mut output = Output { first, ..Output::default() };
        output.set(Score::Ssim, value.map(Own::of));
        output
    }

    #[test]
    fn an_input_counts_once_however_many_outputs_it_has() {
        let outputs = [
            output(true, Some(0.0)),
            output(false, Some(1.0)),
            output(false, None),
            output(true, Some(0.9)),
            output(true, None),
        ];
        let owns = Owns::of(Score::Ssim, &outputs.iter().collect::<Vec<_>>());
        assert!((owns.over_inputs().unwrap().value - 0.7).abs() < 1e-12);
        assert_eq!(owns.pooled(), Own { sum: 1.9, values: 3.0 });
        assert_eq!(owns.values().count(), 3);
        assert!(Owns::of(Score::MsSsim, &[]).over_inputs().is_none());
    }
}
