//! Fool rates: of the answers to pairs with outputs of a system, how many took the output for the
//! photograph. 50 % is what guessing gives.
//!
//! Answers of one person depend on each other, so the 95 % interval is over raters: Student's t for a ratio of
//! sums, each rater one value. It needs [`statistics::FEWEST`] raters, not all of one rate. Wilson's interval
//! takes all answers for independent; it stands beside because it also holds where all answers are equal.

use std::collections::BTreeMap;

use registry::{StudyAnswer, Uuid};
use serde::Serialize;

/// A rate with its intervals, over some part of a study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// The system.
    pub system: String,
    /// The set, 1 or 2; none for both together.
    pub set: Option<i16>,
    /// For how many seconds each pair was shown; none for all times together.
    pub seconds: Option<f64>,
    /// Raters that answered.
    pub raters: usize,
    /// Their answers.
    pub answers: u64,
    /// The answers that took the output for the photograph.
    pub fooled: u64,
    /// `fooled` over `answers`.
    pub fool_rate: f64,
    /// 95 % interval over raters; none of fewer than three, and where all have one rate.
    pub interval: Option<[f64; 2]>,
    /// 95 % interval after Wilson.
    pub wilson: [f64; 2],
}

/// The rates of each system, in the order of `systems`: of each set and time, of each time over both
/// sets where there are several times, and of everything. What nobody has answered is left out.
pub fn rates(systems: &[String], answers: &[StudyAnswer]) -> Vec<Rate> {
    let mut rates = Vec::new();
    for system in systems {
        let own: Vec<&StudyAnswer> =
            answers.iter().filter(|answer| answer.system == *system).collect();
        let mut cells: Vec<(i16, f64)> =
            own.iter().map(|answer| (answer.set, answer.seconds)).collect();
        cells.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        cells.dedup();
        let mut times: Vec<f64> = cells.iter().map(|(_, seconds)| *seconds).collect();
        times.sort_by(f64::total_cmp);
        times.dedup();
        let mut parts: Vec<(Option<i16>, Option<f64>)> =
            cells.iter().map(|(set, seconds)| (Some(*set), Some(*seconds))).collect();
        if times.len() > 1 {
            parts.extend(times.iter().map(|seconds| (None, Some(*seconds))));
        }
        parts.push((None, None));
        rates.extend(
            parts.into_iter().filter_map(|(set, seconds)| rate(system, set, seconds, &own)),
        );
    }
    rates
}

fn rate(
    system: &str,
    set: Option<i16>,
    seconds: Option<f64>,
    answers: &[&StudyAnswer],
) -> Option<Rate> {
    let mut raters: BTreeMap<Uuid, [u64; 2]> = BTreeMap::new();
    for answer in answers {
        if set.is_none_or(|set| answer.set == set)
            && seconds.is_none_or(|seconds| answer.seconds == seconds)
        {
            let [count, fooled] = raters.entry(answer.rater).or_default();
            *count += 1;
            *fooled += u64::from(answer.fooled);
        }
    }
    let counts: Vec<[u64; 2]> = raters.into_values().collect();
    let [answers, fooled] = sum(counts.iter());
    Some(Rate {
        system: system.to_owned(),
        set,
        seconds,
        raters: counts.len(),
        answers,
        fooled,
        fool_rate: fooled as f64 / answers as f64,
        interval: interval(&counts),
        wilson: statistics::wilson(answers, fooled)?,
    })
}

/// The interval over raters, each `[answers, fooled]`.
fn interval(raters: &[[u64; 2]]) -> Option<[f64; 2]> {
    let [low, high] = statistics::around_ratio(raters)?;
    Some([low.max(0.0), high.min(1.0)])
}

/// All answers, and those of them that took the output for the photograph.
fn sum<'a>(raters: impl Iterator<Item = &'a [u64; 2]>) -> [u64; 2] {
    raters.fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
}

#[cfg(test)]
mod tests {
    use registry::{RaterInput, Side};

    use super::*;

    fn answer(rater: u128, set: i16, seconds: f64, fooled: bool) -> StudyAnswer {
        StudyAnswer {
            rater: Uuid::from_u128(rater),
            set,
            seconds,
            trial: 1,
            key: "a".into(),
            system: "Palette".into(),
            reference_side: Side::Left,
            chosen: if fooled { Side::Right } else { Side::Left },
            fooled,
            shown: 1,
            shown_ms: 1000.0 * seconds,
            response_ms: 500.0,
            interrupted: false,
            input: RaterInput::Key,
            answered_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_system_has_a_rate_for_each_cell_each_time_and_everything() {
        let answers = [
            answer(1, 1, 3.0, true),
            answer(1, 1, 3.0, false),
            answer(2, 1, 3.0, true),
            answer(3, 2, 3.0, false),
            answer(4, 2, 5.0, false),
        ];
        let rates = rates(&["Palette".into(), "Nobody".into()], &answers);
        let told: Vec<_> = rates
            .iter()
            .map(|rate| (rate.set, rate.seconds, rate.raters, rate.answers, rate.fooled))
            .collect();
        assert_eq!(
            told,
            [
                (Some(1), Some(3.0), 2, 3, 2),
                (Some(2), Some(3.0), 1, 1, 0),
                (Some(2), Some(5.0), 1, 1, 0),
                (None, Some(3.0), 3, 4, 2),
                (None, Some(5.0), 1, 1, 0),
                (None, None, 4, 5, 2),
            ]
        );
        assert_eq!(rates[3].fool_rate, 0.5);
        assert!(rates[0].interval.is_none() && rates[3].interval.is_some());
    }

    #[test]
    fn raters_that_agree_among_themselves_widen_the_interval() {
        // Forty raters with ten answers each and a rate of a half: either all answer by chance, or
        // each gives the same answer all the time.
        let mixed = vec![[10, 5]; 40];
        let stubborn: Vec<_> = (0..40).map(|rater| [10, 10 * (rater % 2)]).collect();
        assert_eq!(interval(&mixed), None, "it would have no width");
        let [low, high] = interval(&stubborn).unwrap();
        // 1.96 · √(¼ / 40) = 0.155, as for forty answers and not for four hundred.
        assert!((0.32..0.38).contains(&low) && (0.62..0.68).contains(&high), "{low} {high}");
        assert_eq!(interval(&stubborn[..2]), None);
    }
}
