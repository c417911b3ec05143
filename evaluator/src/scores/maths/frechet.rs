//! The Fréchet distance of two Gaussians (Heusel et al. 2017):
//! |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½).
//!
//! The trace of the root is taken from symmetric eigenvalues alone: with Σ₁ = FᵀF, the eigenvalues of
//! Σ₁Σ₂ are those of F Σ₂ Fᵀ, which is symmetric and without negative ones. So nothing becomes complex,
//! fewer images than features are no special case, and the fewer they are, the smaller is F.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};
use torch_ext::Error;

use super::Moments;

/// One side of the distance with a factor of its covariance, for several distances to it.
pub struct Reference {
    mean: Tensor,
    covariance_trace: f64,
    /// F, `[R,D]`, of as many rows as the covariance has eigenvalues that are not 0.
    factor: Tensor,
}

impl Reference {
    /// Takes the covariance apart.
    ///
    /// # Errors
    /// With fewer than two images; where the eigenvalues do not converge.
    pub fn new(moments: &Moments) -> Result<Self> {
        ensure!(moments.count() >= 2, "a Fréchet distance needs at least two images a side");
        Ok(Self::factored(moments)?)
    }

    fn factored(moments: &Moments) -> Result<Self, Error> {
        let covariance = moments.covariance()?;
        let (values, vectors) = covariance.f_linalg_eigh("L")?;
        let kept = cut(&values)?.f_nonzero()?.f_view([-1])?;
        let roots = values.f_index_select(0, &kept)?.f_sqrt()?.f_unsqueeze(1)?;
        Ok(Self {
            mean: moments.mean().shallow_clone(),
            covariance_trace: covariance.f_trace()?.f_double_value(&[])?,
            factor: vectors.f_index_select(1, &kept)?.f_tr()?.f_mul(&roots)?,
        })
    }

    /// The distance, at least 0.
    ///
    /// # Errors
    /// With fewer than two images, for features of another width, and where the eigenvalues do not
    /// converge.
    pub fn distance(&self, moments: &Moments) -> Result<f64> {
        ensure!(moments.count() >= 2, "a Fréchet distance needs at least two images a side");
        ensure!(
            moments.mean().size() == self.mean.size(),
            "features of {} numbers against {}",
            moments.width(),
            self.mean.size()[0]
        );
        Ok(self.apart(moments)?)
    }

    fn apart(&self, moments: &Moments) -> Result<f64, Error> {
        let covariance = moments.covariance()?;
        let product = self.factor.f_matmul(&covariance)?.f_matmul(&self.factor.f_tr()?)?;
        let root_trace = match product.size()[0] {
            0 => 0.0,
            _ => total(&cut(&product.f_linalg_eigvalsh("L")?)?.f_sqrt()?)?,
        };
        let means = total(&self.mean.f_sub(moments.mean())?.f_square()?)?;
        let traces = self.covariance_trace + covariance.f_trace()?.f_double_value(&[])?;
        Ok((means + traces - 2.0 * root_trace).max(0.0))
    }
}

fn total(values: &Tensor) -> Result<f64, Error> {
    Ok(values.f_sum(Kind::Double)?.f_double_value(&[])?)
}

/// Eigenvalues without what is only rounding: a root would turn 1e-16 of the largest into 1e-8.
fn cut(values: &Tensor) -> Result<Tensor, Error> {
    let width = values.size()[0] as f64;
    let least = values.f_max()?.f_double_value(&[])?.max(0.0) * width * f64::EPSILON;
    Ok(values.f_where_scalarother(&values.f_gt(least)?, 0.0)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Device;

    use super::*;

    fn distance(a: &Moments, b: &Moments) -> Result<f64> {
        Reference::new(a)?.distance(b)
    }

    fn moments(features: &Tensor) -> Moments {
        Moments::of(features).unwrap()
    }

    fn normal(rows: i64, width: i64, seed: u64) -> Tensor {
        let mut rng = random::Rng::new(seed);
        let values: Vec<f64> = (0..rows * width).map(|_| rng.normal()).collect();
        Tensor::from_slice(&values).view([rows, width])
    }

    #[test]
    fn gaussians_of_known_moments_have_the_closed_form() {
        // Commuting covariances: Σ (√a − √b)² over the eigenvalues, plus the means.
        let (a, b) = ([4.0, 9.0, 0.25], [1.0, 16.0, 0.25]);
        let known = |mean: [f64; 3], variances: [f64; 3]| {
            let scatter = Tensor::from_slice(&variances).diag(0) * 99.0;
            Moments::from_parts(100, Tensor::from_slice(&mean), scatter).unwrap()
        };
        let got = distance(&known([1.0, 2.0, 3.0], a), &known([1.0, 0.0, 3.0], b)).unwrap();
        assert!((got - (4.0 + 1.0 + 1.0)).abs() < 1e-12, "{got}");
    }

    #[test]
    fn too_few_images_are_refused() {
        let one = moments(&normal(1, 4, 1));
        let many = moments(&normal(10, 4, 2));
        assert!(distance(&one, &many).is_err());
        assert!(distance(&many, &one).is_err());
        assert!(distance(&many, &moments(&normal(10, 5, 3))).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_set_is_at_no_distance_of_itself(rows in 2i64..60, width in 1i64..40, seed: u64) {
            let own = moments(&normal(rows, width, seed));
            let scale = own.covariance().unwrap().trace().double_value(&[]);
            let apart = distance(&own, &own).unwrap();
            prop_assert!(apart <= 1e-7 * scale.max(1e-300), "{apart} of {scale}");
        }

        #[test]
        fn neither_parts_nor_order_matter(
            rows in 4i64..80,
            width in 1i64..24,
            parts in 1i64..7,
            seed: u64,
        ) {
            let features = normal(rows, width, seed) * 3.0 + 40.0;
            let whole = moments(&features);
            let order = Tensor::from_slice(&(0..rows).rev().collect::<Vec<_>>());
            let shuffled = features.index_select(0, &order);
            let cut: Vec<Moments> =
                shuffled.chunk(parts, 0).iter().map(moments).collect();
            let merged = Moments::sum(width, &cut).unwrap();
            prop_assert_eq!(merged.count(), whole.count());
            let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
            prop_assert!(apart(merged.mean(), whole.mean()) < 1e-12 * 40.0);
            let scale = whole.scatter().abs().max().double_value(&[]);
            prop_assert!(apart(merged.scatter(), whole.scatter()) < 1e-11 * scale.max(1.0));
            let rest = merged.without(&cut[0]).unwrap();
            let mut again = Moments::sum(width, [&rest]).unwrap();
            again.merge(&cut[0]).unwrap();
            prop_assert!(apart(again.scatter(), whole.scatter()) < 1e-11 * scale.max(1.0));
            let other = moments(&normal(50, width, seed ^ 1));
            let (a, b) = (distance(&other, &whole).unwrap(), distance(&other, &merged).unwrap());
            prop_assert!((a - b).abs() < 1e-7 * a.max(1.0), "{a} {b}");
        }

        #[test]
        fn both_directions_agree(rows in 2i64..40, width in 1i64..40, seed: u64) {
            let a = moments(&normal(rows, width, seed));
            let b = moments(&(normal(rows + 3, width, !seed) * 2.0 + 1.0));
            let (there, back) = (distance(&a, &b).unwrap(), distance(&b, &a).unwrap());
            prop_assert!((there - back).abs() < 1e-6 * there.max(1.0), "{there} {back}");
        }
    }

    #[test]
    fn moments_of_nothing_take_part_in_nothing() {
        let mut some = moments(&normal(5, 3, 4));
        some.merge(&Moments::new(3, Device::Cpu).unwrap()).unwrap();
        assert_eq!(some.count(), 5);
        assert_eq!(Moments::sum(3, []).unwrap().count(), 0);
        assert_eq!(some.without(&some).unwrap().count(), 0);
        assert!(Moments::new(3, Device::Cpu).unwrap().without(&some).is_err());
    }
}
