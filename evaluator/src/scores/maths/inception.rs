//! The Inception Score (Salimans et al. 2016): exp of the mean Kullback-Leibler divergence between a
//! classifier's answer to each image and its mean answer, in each of some splits.

use crate::scores::Estimate;

/// The score of a set of known size, in splits of consecutive images.
#[derive(Clone, Debug)]
pub struct InceptionScore {
    images: u64,
    seen: u64,
    splits: Vec<Split>,
}

#[derive(Clone, Debug)]
struct Split {
    count: u64,
    /// Σ p, one sum a class.
    answers: Vec<f64>,
    /// Σ Σ p log p over images and classes.
    negative_entropy: f64,
}

impl InceptionScore {
    /// For this many images, classes and splits; at least one split, and none without images.
    pub fn new(images: u64, classes: usize, splits: u32) -> Self {
        let splits = u64::from(splits).clamp(1, images.max(1));
        let split = Split { count: 0, answers: vec![0.0; classes], negative_entropy: 0.0 };
        Self { images, seen: 0, splits: vec![split; splits as usize] }
    }

    /// Takes the next image's logits, or with `probabilities` its probabilities. Images past the
    /// number that was announced are left out.
    pub fn add(&mut self, answer: &[f32], probabilities: bool) {
        // The split whose range, as numpy slices it, holds the image.
        let count = self.splits.len() as u64;
        let at = self.seen;
        let Some(number) = (0..count).rev().find(|split| split * self.images / count <= at) else {
            return;
        };
        self.seen += 1;
        if at >= self.images {
            return;
        }
        let split = &mut self.splits[number as usize];
        split.count += 1;
        let logs = match probabilities {
            true => answer.iter().map(|&p| f64::from(p).max(1e-300).ln()).collect(),
            false => log_softmax(answer),
        };
        for (sum, log) in split.answers.iter_mut().zip(logs) {
            let probability = log.exp();
            *sum += probability;
            split.negative_entropy += probability * log;
        }
    }

    /// Mean and standard deviation over the splits; none before an image was seen.
    pub fn estimate(&self) -> Option<Estimate> {
        let scores: Vec<f64> =
            self.splits.iter().filter(|split| split.count > 0).map(Split::score).collect();
        Estimate::over(&scores)
    }
}

impl Split {
    fn score(&self) -> f64 {
        let count = self.count as f64;
        let mean_entropy: f64 = self
            .answers
            .iter()
            .map(|&sum| sum / count)
            .filter(|&mean| mean > 0.0)
            .map(|mean| mean * mean.ln())
            .sum();
        (self.negative_entropy / count - mean_entropy).exp()
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|&logit| f64::from(logit) - f64::from(largest));
    let norm = shifted.clone().map(f64::exp).sum::<f64>().ln();
    shifted.map(|logit| logit - norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_answers_evenly_over_classes_give_their_number() {
        let mut score = InceptionScore::new(40, 8, 5);
        for image in 0..40 {
            let mut logits = [0.0f32; 8];
            logits[image % 8] = 200.0;
            score.add(&logits, false);
        }
        let estimate = score.estimate().unwrap();
        assert!((estimate.mean - 8.0).abs() < 1e-9, "{estimate:?}");
        assert!(estimate.deviation.unwrap() < 1e-9);
    }

    #[test]
    fn one_answer_for_all_gives_one_and_nothing_gives_nothing() {
        let mut score = InceptionScore::new(3, 4, 10);
        assert!(score.estimate().is_none());
        assert_eq!(score.splits.len(), 3);
        for _ in 0..5 {
            score.add(&[0.1, 0.2, 0.3, 0.4], true);
        }
        assert!((score.estimate().unwrap().mean - 1.0).abs() < 1e-6);
    }

    #[test]
    fn splits_are_those_of_slices() {
        // 7 images in 3 splits: 0..2, 2..4, 4..7.
        let mut score = InceptionScore::new(7, 2, 3);
        for _ in 0..7 {
            score.add(&[0.0, 0.0], false);
        }
        let counts: Vec<u64> = score.splits.iter().map(|split| split.count).collect();
        assert_eq!(counts, [2, 2, 3]);
    }
}
