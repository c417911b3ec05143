//! Peak signal-to-noise ratio in dB with peak 255, over all generated pixels of all outputs; at most [`MOST`],
//! which is what it is where everything is equal.

use super::psnr::MOST;
use super::{About, Basis, Line, Measure, Own, Owns, Pixels, Value};

pub struct GeneratedPsnr;

impl Measure for GeneratedPsnr {
    fn about(&self) -> About {
        About {
            name: "generated-psnr",
            key: "psnr",
            basis: Basis::Generated,
            line: Line {
                name: "PSNR",
                of: "generated pixels, dB",
                factor: 1.0,
                digits: 2,
                scales: false,
            },
            column: None,
            details: &[],
        }
    }

    fn compare(&self, pixels: &Pixels) -> Option<Own> {
        pixels.error.map(|sums| sums.squared())
    }

    fn total(&self, owns: &Owns) -> Option<Value> {
        let Own { sum, values } = owns.pooled();
        let psnr = || 10.0 * (255.0 * 255.0 * values / sum).log10();
        (values > 0.0).then(|| Value::Number(psnr().min(MOST)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Output, Score};
    use super::*;

    #[test]
    fn all_outputs_are_one_picture() {
        let output = |own| {
            let mut output = Output { first: true, ..Output::default() };
            output.set(Score::GeneratedPsnr, Some(own));
            output
        };
        let of = |outputs: &[Output]| {
            Score::GeneratedPsnr
                .measure()
                .total(&Owns::of(Score::GeneratedPsnr, &outputs.iter().collect::<Vec<_>>()))
        };
        let (bad, equal) = (Own { sum: 200.0, values: 6.0 }, Own { sum: 0.0, values: 12.0 });
        let psnr = 10.0 * (255.0_f64 * 255.0 * 18.0 / 200.0).log10();
        let Some(Value::Number(got)) = of(&[output(bad), output(equal)]) else { panic!() };
        assert!((got - psnr).abs() < 1e-12, "{got}");
        assert_eq!((of(&[output(equal)]), of(&[])), (Some(Value::Number(MOST)), None));
    }
}
