//! Classification accuracy (CA of the paper): the share of outputs whose class a classifier finds.

use anyhow::{Context, Result};

use super::{
    About, Basis, Better, Heading, Interval, Line, Measure, Output, Own, Owns, Score, Section,
    Value, With,
};
use crate::extractor::Seen;

pub struct Accuracy;

impl Measure for Accuracy {
    fn about(&self) -> About {
        About {
            name: "ca",
            key: "accuracy",
            basis: Basis::Extractor {
                section: Section::Logits,
                with: With::Nothing,
                claim: Score::Ca,
            },
            line: Line { name: "CA (%)", of: "top-1", factor: 100.0, digits: 2, scales: false },
            column: Some(Heading {
                text: "CA %",
                better: Better::Higher,
                factor: 100.0,
                digits: 1,
            }),
            details: &["label", "found"],
        }
    }

    /// The class that the classifier finds.
    fn look(&self, outputs: &Seen, _references: Option<&Seen>) -> Result<Vec<f64>> {
        let answers = outputs.logits.as_ref().context("no answers")?;
        let classes: Vec<i64> = Vec::try_from(answers.f_argmax(-1, false)?)?;
        Ok(classes.into_iter().map(|class| class as f64).collect())
    }

    fn counted(&self, own: Own, output: &Output) -> Option<Own> {
        let right = own.sum as i64 == output.label?;
        Some(Own::of(f64::from(u8::from(right))))
    }

    /// Shares of one output an input have Wilson's interval, which says something where all or none are right.
    fn total(&self, owns: &Owns) -> Option<Value> {
        let means = owns.means();
        let value = statistics::mean(&means)?;
        let whole = means.iter().all(|&mean| mean == 0.0 || mean == 1.0);
        let right = means.iter().filter(|&&mean| mean == 1.0).count() as u64;
        let wilson = || statistics::wilson(means.len() as u64, right);
        let ends = if whole { wilson() } else { statistics::around_mean(&means) };
        let within = |[low, high]: [f64; 2]| [low.max(0.0), high.min(1.0)];
        Some(Value::Interval(Interval::new(value, ends.map(within))))
    }

    fn cells(&self, output: &Output, own: Option<Own>) -> Vec<String> {
        let class = |class: Option<i64>| class.map_or(String::new(), |class| class.to_string());
        vec![class(output.label), class(own.map(|own| own.sum as i64))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_no_known_class_do_not_count() {
        let of = |label| {
            let output = Output { label, ..Output::default() };
            (Accuracy.counted(Own::of(7.0), &output), Accuracy.cells(&output, Some(Own::of(7.0))))
        };
        let cells = |label: &str| vec![label.to_owned(), "7".to_owned()];
        assert_eq!(of(Some(7)), (Some(Own::of(1.0)), cells("7")));
        assert_eq!(of(Some(8)), (Some(Own::of(0.0)), cells("8")));
        assert_eq!(of(None), (None, cells("")));
    }

    #[test]
    fn all_right_is_not_certain() {
        let outputs = |right: &[bool]| -> Vec<Output> {
            let output = |&right: &bool| {
                let mut output = Output { label: Some(1), first: true, ..Output::default() };
                output.set(Score::Ca, Some(Own::of(f64::from(u8::from(right)))));
                output
            };
            right.iter().map(output).collect()
        };
        let of = |right: &[bool]| {
            let outputs = outputs(right);
            let owns = Owns::of(Score::Ca, &outputs.iter().collect::<Vec<_>>());
            Accuracy.total(&owns).and_then(|value| value.interval()).unwrap()
        };
        let all = of(&[true; 10]);
        assert_eq!(all.value, 1.0);
        // R: binom.confint(10, 10, method = "wilson").
        assert!((all.low.unwrap() - 0.7225).abs() < 1e-4 && all.high == Some(1.0), "{all:?}");
        assert_eq!(of(&[true, false]).value, 0.5);
    }
}
