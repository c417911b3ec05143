//! What the recorded losses of a run say of its course: whether it learned anything, and whether it went on
//! learning. The trainer says it in its log, `scheduler show` beside the run.

use std::fmt;

use uuid::Uuid;

use crate::{Database, Result};

/// A loss of this share of what predicting nothing gives, or more, is still that.
const LEARNED_NOTHING: f64 = 0.95;

/// A loss of more than this share of it is worse than that.
const WORSE_THAN_NOTHING: f64 = 1.05;

/// Stretches that a run is cut into; the first two are its first tenth.
const STRETCHES: usize = 20;

/// Fewest recorded losses that a course is judged by.
const FEWEST: usize = 10;

/// Fewest validations that it is judged by.
const FEWEST_VALIDATIONS: usize = 5;

/// Standard deviations of a stretch's mean by which the best later stretch must be below the best of the first two.
/// Of runs that do not get better 85 % are found so, and of those that get better by five deviations 3 % (simulated).
const CHANCE: f64 = 3.0;

/// The recorded losses of a run, by step.
#[derive(Clone, Debug, Default)]
struct Course {
    series: [Vec<(i64, f64)>; SERIES.len()],
}

/// The series that a course is read from.
const SERIES: [&str; 4] = ["loss", "nothing", "validation/loss", "validation/nothing"];

/// What is wrong with the course of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finding {
    /// The network predicts no better than one whose output is zero.
    Nothing {
        /// Its loss at the end.
        loss: f64,
        /// The loss of predicting nothing for the same images.
        nothing: f64,
    },
    /// The network has learned, its EMA weights have not.
    NothingAveraged {
        /// The loss of the validation.
        loss: f64,
        /// That of the training.
        training: f64,
    },
    /// Nothing that came after the first tenth was better.
    NeverBetter {
        /// What it was judged by.
        by: &'static str,
        /// The best of the first tenth.
        first: f64,
        /// The best of the rest.
        later: f64,
    },
}

impl Database {
    /// What is wrong with the course of a run so far, or with one that is `done`; nothing where all is well, or
    /// its losses do not tell.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finding(&self, run: Uuid, total: i64, done: bool) -> Result<Option<Finding>> {
        let mut course = Course::default();
        for name in SERIES {
            for point in self.metric_series(run, Some(name)).await? {
                course.add(name, point.step, point.value);
            }
        }
        Ok(course.finding(total, done))
    }
}

impl Course {
    /// Adds a value, in the order of steps; one that is not finite is left out.
    fn add(&mut self, name: &str, step: i64, value: f64) {
        if let Some(at) = SERIES.iter().position(|&one| one == name)
            && value.is_finite()
        {
            self.series[at].push((step, value));
        }
    }

    /// What is wrong with a run of `total` steps so far, or with one that is `done`.
    fn finding(&self, total: i64, done: bool) -> Option<Finding> {
        let [loss, nothing, validation, validated_nothing] = &self.series;
        let training = last_tenth(loss, nothing);
        if let Some((loss, nothing)) = training
            && Finding::is_nothing(loss, nothing)
        {
            return Some(Finding::Nothing { loss, nothing });
        }
        if let (Some((training, _)), Some((loss, nothing))) =
            (training, last_tenth(validation, validated_nothing))
            && Finding::is_nothing(loss, nothing)
        {
            return Some(Finding::NothingAveraged { loss, training });
        }
        if !done {
            return None;
        }
        let tenth = total / 10;
        let (early, late): (Vec<_>, Vec<_>) =
            validation.iter().partition(|(step, _)| *step <= tenth);
        let validated = validation.len() >= FEWEST_VALIDATIONS && !early.is_empty();
        match validated {
            // The same images with the same noise each time: the least progress is some.
            true => never_better("validation loss", &early, &late, 0.0),
            false => trained(loss, total),
        }
    }
}

impl Finding {
    /// Whether a loss is what predicting nothing gives for the same images.
    pub fn is_nothing(loss: f64, nothing: f64) -> bool {
        nothing > 0.0 && loss >= LEARNED_NOTHING * nothing
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { loss, nothing } if *loss > WORSE_THAN_NOTHING * nothing => write!(
                f,
                "the loss is worse than what predicting nothing gives ({loss:.3}, nothing {nothing:.3}): a lower \
                 train.learning_rate, a longer train.warmup_steps, or train.clip=1"
            ),
            Self::Nothing { loss, nothing } => write!(
                f,
                "the loss is still what predicting nothing gives ({loss:.3}, nothing {nothing:.3}): more \
                 train.steps, a higher train.learning_rate or a shorter train.warmup_steps"
            ),
            Self::NothingAveraged { loss, training } => write!(
                f,
                "the validation loss is still what predicting nothing gives ({loss:.3}), that of the training \
                 is not ({training:.3}): the EMA weights have hardly left the initial ones; a lower train.ema, or \
                 train.ema_warmup=true"
            ),
            Self::NeverBetter { by, first, later } => write!(
                f,
                "succeeded, but never better than in its first tenth ({by} {first:.4}, later {later:.4} at best): a lower \
                 train.learning_rate, or fewer train.steps"
            ),
        }
    }
}

/// The means of both series over the last tenth of the steps so far, where both were recorded.
fn last_tenth(loss: &[(i64, f64)], nothing: &[(i64, f64)]) -> Option<(f64, f64)> {
    let (last, _) = loss.last()?;
    let from = last - last / 10;
    let both = nothing.iter().filter(|(step, _)| *step >= from).filter_map(|(step, nothing)| {
        let at = loss.binary_search_by_key(step, |(step, _)| *step).ok()?;
        Some((loss[at].1, *nothing))
    });
    let both: Vec<(f64, f64)> = both.collect();
    let count = both.len() as f64;
    let (a, b) = both.iter().fold((0.0, 0.0), |(a, b), (loss, nothing)| (a + loss, b + nothing));
    (!both.is_empty()).then(|| (a / count, b / count))
}

/// Judges by the losses of the training, which are of other images each time.
fn trained(loss: &[(i64, f64)], total: i64) -> Option<Finding> {
    // The first record is of one step.
    let loss: Vec<(i64, f64)> = loss.iter().copied().filter(|(step, _)| *step > 1).collect();
    if loss.len() < FEWEST || total < 1 {
        return None;
    }
    let mut stretches = vec![(0.0, 0u32); STRETCHES];
    for &(step, value) in &loss {
        let at = ((step - 1).max(0) as f64 / total as f64 * STRETCHES as f64) as usize;
        let (sum, count) = &mut stretches[at.min(STRETCHES - 1)];
        (*sum, *count) = (*sum + value, *count + 1);
    }
    let means = |stretches: &[(f64, u32)]| -> Vec<(i64, f64)> {
        let there = stretches.iter().filter(|(_, count)| *count > 0);
        there.map(|(sum, count)| (0, sum / f64::from(*count))).collect()
    };
    let (early, late) = stretches.split_at(STRETCHES / 10);
    let (early, late) = (means(early), means(late));
    let each = loss.len() as f64 / (early.len() + late.len()).max(1) as f64;
    let deviation = deviation(&loss) / each.sqrt();
    let (early, late): (Vec<_>, Vec<_>) = (early.iter().collect(), late.iter().collect());
    never_better("loss", &early, &late, CHANCE * deviation)
}

fn never_better(
    by: &'static str,
    early: &[&(i64, f64)],
    late: &[&(i64, f64)],
    chance: f64,
) -> Option<Finding> {
    let best = |values: &[&(i64, f64)]| values.iter().map(|(_, value)| *value).reduce(f64::min);
    let (first, later) = (best(early)?, best(late)?);
    (later >= first - chance).then_some(Finding::NeverBetter { by, first, later })
}

/// The standard deviation of a value, from what follows each other, so that a trend does not count. By the
/// median, so that neither does the fall at the beginning.
fn deviation(values: &[(i64, f64)]) -> f64 {
    /// Median of the distance of two values of a normal distribution, in standard deviations.
    const MEDIAN: f64 = 0.9539;
    let mut apart: Vec<f64> = values.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs()).collect();
    apart.sort_by(f64::total_cmp);
    apart.get(apart.len() / 2).copied().unwrap_or(0.0) / MEDIAN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number without a pattern, of mean 0 and deviation 1.
    fn noise_of(seed: u64, step: u64) -> f64 {
        let mut bits = (seed << 32 | step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) as f64 / u64::MAX as f64 - 0.5) * 12f64.sqrt()
    }

    /// Losses of each tenth step of a thousand, with noise.
    fn course(loss: impl Fn(f64) -> f64, noise: f64) -> Course {
        seeded(loss, noise, 0)
    }

    fn seeded(loss: impl Fn(f64) -> f64, noise: f64, seed: u64) -> Course {
        let mut course = Course::default();
        for step in (10..=1000i64).step_by(10) {
            let share = step as f64 / 1000.0;
            let drawn = noise_of(seed, step.cast_unsigned());
            course.add("loss", step, loss(share) * (1.0 + noise * drawn));
            course.add("nothing", step, 1.0);
        }
        course
    }

    #[test]
    fn a_loss_of_predicting_nothing_is_said_at_any_time() {
        let learned_nothing = course(|_| 0.99, 0.01);
        for succeeded in [false, true] {
            let finding = learned_nothing.finding(1000, succeeded).unwrap();
            assert!(matches!(finding, Finding::Nothing { nothing: 1.0, .. }), "{finding}");
            assert!(finding.to_string().contains("still what predicting nothing gives (0.9"));
        }
        // It is the end that counts.
        assert_eq!(course(|share| 1.0 - 0.5 * share, 0.01).finding(1000, true), None);
        let relapsed = course(|share| if share > 0.8 { 1.0 } else { 0.3 }, 0.0);
        assert!(matches!(relapsed.finding(1000, true), Some(Finding::Nothing { .. })));
        // A run of before, of which it was not recorded.
        let mut old = Course::default();
        (1..=100).for_each(|step| old.add("loss", step, 2.0 - step as f64 / 100.0));
        assert_eq!(old.finding(100, true), None);
        assert_eq!(Course::default().finding(0, true), None);
    }

    #[test]
    fn averages_that_have_not_learned_are_told_from_a_network_that_has_not() {
        let mut course = course(|share| 1.0 - 0.8 * share, 0.0);
        course.add("validation/loss", 1000, 0.97);
        course.add("validation/nothing", 1000, 1.0);
        let finding = course.finding(1000, false).unwrap();
        assert!(
            finding.to_string().contains("(0.970), that of the training is not (0.2"),
            "{finding}"
        );
    }

    #[test]
    fn a_run_that_only_learned_at_first_is_told_from_one_that_went_on() {
        let never = |loss: &dyn Fn(f64) -> f64, noise| {
            let runs = (0..100).map(|seed| seeded(loss, noise, seed).finding(1000, true));
            let found: Vec<_> = runs.flatten().collect();
            assert!(found.iter().all(|one| matches!(one, Finding::NeverBetter { by: "loss", .. })));
            found.len()
        };
        let fallen = |share: f64| if share < 0.04 { 0.9 } else { 0.3 };
        for noise in [0.0, 0.01, 0.1] {
            let (flat, rises) =
                (never(&fallen, noise), never(&|share| fallen(share) + 0.3 * share, noise));
            let falls = never(&|share| fallen(share) - 0.15 * share, noise);
            assert!(flat >= 75 && rises == 100 && falls == 0, "{noise}: {flat} {rises} {falls}");
        }
        assert_eq!(course(fallen, 0.01).finding(1000, false), None, "not while it runs");
        // Slowly, but with little noise it is certain.
        assert_eq!(never(&|share| fallen(share) - 0.01 * share, 0.002), 0);
        // Too few losses to tell.
        let mut few = Course::default();
        (1..=5).for_each(|step| few.add("loss", step * 200, 0.3));
        assert_eq!(few.finding(1000, true), None);
    }

    #[test]
    fn a_validation_is_believed_rather_than_the_training() {
        let validated = |losses: &[f64]| {
            let mut course = course(|share| 0.5 - 0.4 * share, 0.0);
            for (step, &loss) in (1..).zip(losses) {
                course.add("validation/loss", step * 100, loss);
                course.add("validation/nothing", step * 100, 1.0);
            }
            course.finding(1000, true)
        };
        let overfitted = validated(&[0.3, 0.31, 0.32, 0.35, 0.4]).unwrap();
        assert_eq!(
            overfitted,
            Finding::NeverBetter { by: "validation loss", first: 0.3, later: 0.31 }
        );
        assert!(
            overfitted
                .to_string()
                .starts_with("succeeded, but never better than in its first tenth")
        );
        assert_eq!(validated(&[0.3, 0.31, 0.2999, 0.35, 0.4]), None);
        assert_eq!(validated(&[0.3, 0.31]), None, "too few: the training is judged by");
    }
}
