//! The mean distance of feature maps as in LPIPS (Zhang et al. 2018), without its learned weights.

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};
use torch_ext::Error;

use super::{About, Basis, Better, Heading, Line, Measure, Score, Section, With};
use crate::extractor::Seen;

pub struct Lpips;

impl Measure for Lpips {
    fn about(&self) -> About {
        About {
            name: "lpips",
            key: "lpips",
            basis: Basis::Extractor {
                section: Section::Maps,
                with: With::Reference,
                claim: Score::Lpips,
            },
            line: Line {
                name: "LPIPS-like",
                of: "feature maps, unweighted",
                factor: 1.0,
                digits: 4,
                scales: false,
            },
            column: Some(Heading {
                text: "LPIPS-like",
                better: Better::Lower,
                factor: 1.0,
                digits: 3,
            }),
            details: &["lpips"],
        }
    }

    fn look(&self, outputs: &Seen, references: Option<&Seen>) -> Result<Vec<f64>> {
        let references = references.context("references without feature maps")?;
        Ok(Vec::try_from(distance(&outputs.maps, &references.maps)?)?)
    }
}

/// Features of unit length in each place, squared differences, means over places, sums over maps. f64
/// `[B]`.
fn distance(a: &[Tensor], b: &[Tensor]) -> Result<Tensor> {
    ensure!(!a.is_empty() && a.len() == b.len(), "{} and {} feature maps", a.len(), b.len());
    let unit = |map: &Tensor| -> Result<Tensor, Error> {
        let length = map.f_square()?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        Ok(map.f_div(&length.f_sqrt()?.f_add_scalar(1e-10)?)?)
    };
    let one = |a: &Tensor, b: &Tensor| -> Result<Tensor, Error> {
        let apart = unit(a)?.f_sub(&unit(b)?)?.f_square()?;
        let apart = apart.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
        Ok(apart.f_mean_dim([1i64, 2].as_slice(), false, Kind::Double)?)
    };
    let each = a.iter().zip(b).map(|(a, b)| one(a, b)).collect::<Result<Vec<_>, _>>()?;
    let sum = || -> Result<Tensor, Error> {
        let sum =
            Tensor::f_stack(&each, 0)?.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?;
        Ok(sum.f_to_device(Device::Cpu)?)
    };
    Ok(sum()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_maps_are_of_unit_features_over_places_and_maps() {
        let map = |values: [f32; 4]| Tensor::from_slice(&values).view([1, 2, 1, 2]);
        // Two channels in two places: equal up to length in the first, at right angles in the second.
        let (a, b) = (map([3.0, 0.0, 0.0, 5.0]), map([7.0, 2.0, 0.0, 0.0]));
        let one = Vec::<f64>::try_from(distance(&[a.copy()], &[b.copy()]).unwrap()).unwrap();
        assert!((one[0] - 1.0).abs() < 1e-6, "{one:?}");
        let two = distance(&[a.copy(), a.copy()], &[b, a]).unwrap();
        assert!((two.double_value(&[0]) - 1.0).abs() < 1e-6);
        assert!(distance(&[], &[]).is_err());
    }
}
