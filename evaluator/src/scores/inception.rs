//! The Inception Score (Salimans et al. 2016), over the first output of each input in order, with the
//! deviation over splits.

use anyhow::{Context, Result};

use super::maths::InceptionScore;
use super::{
    About, Basis, Better, Heading, Line, Measure, Score, Section, Setting, Statistics, Tally,
    Value, With,
};
use crate::extractor::Seen;

pub struct Inception;

impl Measure for Inception {
    fn about(&self) -> About {
        About {
            name: "is",
            key: "inception",
            basis: Basis::Extractor {
                section: Section::Logits,
                with: With::Nothing,
                claim: Score::Is,
            },
            line: Line {
                name: "IS",
                of: "first outputs, deviation over splits",
                factor: 1.0,
                digits: 3,
                scales: false,
            },
            column: Some(Heading { text: "IS", better: Better::Higher, factor: 1.0, digits: 2 }),
            details: &[],
        }
    }

    fn tally(&self, setting: &Setting) -> Result<Option<Box<dyn Tally>>> {
        let Setting { inputs, classes, probabilities, splits, .. } = *setting;
        let score = InceptionScore::new(inputs, usize::try_from(classes)?, splits);
        Ok(Some(Box::new(Answers { score, probabilities })))
    }
}

struct Answers {
    score: InceptionScore,
    probabilities: bool,
}

impl Tally for Answers {
    fn add(&mut self, _names: &[&str], outputs: &Seen, _references: Option<&Seen>) -> Result<()> {
        let answers = outputs.logits.as_ref().context("no answers")?;
        let (_, classes) = answers.size2()?;
        let answers: Vec<f32> = Vec::try_from(answers.f_contiguous()?.f_view([-1])?)?;
        for answer in answers.chunks_exact(usize::try_from(classes)?) {
            self.score.add(answer, self.probabilities);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _reference: Option<&Statistics>) -> Result<Option<Value>> {
        Ok(self.score.estimate().map(Value::Estimate))
    }
}
