//! The Kernel Inception Distance (Bińkowski et al. 2018): the unbiased estimate of the squared maximum
//! mean discrepancy under the kernel (x·y/D + 1)³, over random subsets.
//!
//! It needs features themselves, not their moments. A [`Sketch`] keeps a bounded number of them: those
//! with the smallest keys, so that the choice depends neither on order nor on how a set was cut.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};
use torch_ext::Error;

use crate::scores::Estimate;

/// Features that a sketch keeps at most.
pub const KEPT: u32 = 10_000;
const _: () = assert!(*contracts::evaluation::SUBSETS.end() == KEPT);
/// Subsets, as in the reference implementations.
const SUBSETS: usize = 100;
/// Images in a subset where nothing else is asked for; fewer where a set has fewer.
pub const SUBSET: u32 = 1000;

/// A random choice of a set's features, at most [`KEPT`].
#[derive(Clone, Debug, Default)]
pub struct Sketch(BTreeMap<(u64, u64), Vec<f32>>);

impl Sketch {
    /// Takes a feature; `name` and `number` tell it from all others of the set.
    pub fn add(&mut self, name: &str, number: u64, feature: &[f32]) {
        let key = (random::key(&[random::text_key(name), number]), number);
        let larger = || self.0.last_key_value().is_some_and(|(&last, _)| key > last);
        if self.0.len() >= KEPT as usize && larger() {
            return;
        }
        self.0.insert(key, feature.to_vec());
        if self.0.len() > KEPT as usize {
            self.0.pop_last();
        }
    }

    /// Takes the features of these images in, `[N,D]`.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn add_all(&mut self, names: &[&str], features: &Tensor) -> Result<(), Error> {
        let (_, width) = features.size2()?;
        for (name, feature) in names.iter().zip(numbers(features)?.chunks_exact(width as usize)) {
            self.add(name, 0, feature);
        }
        Ok(())
    }

    /// Of features `[N,D]` that were chosen before.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn of(features: &Tensor) -> Result<Self, Error> {
        let (_, width) = features.size2()?;
        let numbers = numbers(features)?;
        let keyed = numbers.chunks_exact(width.max(1) as usize).enumerate();
        Ok(Self(keyed.map(|(at, feature)| ((at as u64, 0), feature.to_vec())).collect()))
    }

    /// Number of features.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The features, f32 `[N,D]`, in the order of their keys.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn tensor(&self) -> Result<Tensor, Error> {
        let width = self.0.values().next().map_or(0, Vec::len);
        let all: Vec<f32> = self.0.values().flatten().copied().collect();
        Ok(Tensor::f_from_slice(&all)?.f_view([self.0.len() as i64, width as i64])?)
    }
}

/// The numbers of features `[N,D]`, row by row.
fn numbers(features: &Tensor) -> Result<Vec<f32>, Error> {
    let features = features.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    Ok(Vec::try_from(features.f_contiguous()?.f_view([-1])?)?)
}

/// Mean and standard deviation over [`SUBSETS`] subsets of `size` features of `a` and `b`, f32 `[N,D]`; over the
/// whole sets, without a deviation, where they have no more.
///
/// # Errors
/// With fewer than two features a side or in a subset, and for features of another width.
pub fn distance(a: &Tensor, b: &Tensor, size: usize, seed: u64) -> Result<Estimate> {
    let (rows_a, rows_b) = (a.size()[0] as u64, b.size()[0] as u64);
    ensure!(rows_a >= 2 && rows_b >= 2, "KID needs at least two images a side");
    ensure!(
        a.size()[1] == b.size()[1],
        "features of {} numbers against {}",
        a.size()[1],
        b.size()[1]
    );
    let size = (size as u64).min(rows_a).min(rows_b);
    ensure!(size >= 2, "KID needs subsets of at least two images");
    Ok(over_subsets(a, b, size, seed)?)
}

fn over_subsets(a: &Tensor, b: &Tensor, size: u64, seed: u64) -> Result<Estimate, Error> {
    let (rows_a, rows_b) = (a.size()[0] as u64, b.size()[0] as u64);
    let (a, b) = (a.f_to_kind(Kind::Double)?, b.f_to_kind(Kind::Double)?);
    // The whole sets are the only subsets of their size.
    let subsets = if size == rows_a && size == rows_b { 1 } else { SUBSETS };
    let subset = |of: &Tensor, rows, number: usize, side| {
        let mut rng = random::Rng::new(random::key(&[seed, number as u64, side]));
        of.f_index_select(0, &Tensor::f_from_slice(&choose(rows, size, &mut rng))?)
    };
    let estimates = (0..subsets)
        .map(|number| discrepancy(&subset(&a, rows_a, number, 0)?, &subset(&b, rows_b, number, 1)?))
        .collect::<Result<Vec<f64>, Error>>()?;
    Ok(Estimate::over(&estimates).unwrap_or(Estimate { mean: f64::NAN, deviation: None }))
}

fn discrepancy(a: &Tensor, b: &Tensor) -> Result<f64, Error> {
    let (rows, width) = (a.size()[0] as f64, a.size()[1] as f64);
    let kernel = |x: &Tensor, y: &Tensor| {
        let products = x.f_matmul(&y.f_tr()?)?.f_div_scalar(width)?;
        products.f_add_scalar(1.0)?.f_pow_tensor_scalar(3)
    };
    let total = |k: &Tensor| k.f_sum(Kind::Double);
    let within = |x: &Tensor| -> Result<f64, Error> {
        let k = kernel(x, x)?;
        let others = total(&k)?.f_sub(&k.f_trace()?)?.f_double_value(&[])?;
        Ok(others / (rows * (rows - 1.0)))
    };
    let across = total(&kernel(a, b)?)?.f_double_value(&[])?;
    Ok(within(a)? + within(b)? - 2.0 * across / (rows * rows))
}

/// `size` different numbers of 0..rows, every choice as likely (Floyd).
fn choose(rows: u64, size: u64, rng: &mut random::Rng) -> Vec<i64> {
    let mut chosen = std::collections::BTreeSet::new();
    for top in rows - size..rows {
        let number = rng.below(top + 1);
        if !chosen.insert(number) {
            chosen.insert(top);
        }
    }
    chosen.into_iter().map(u64::cast_signed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(rows: i64, width: i64, shift: f64, seed: u64) -> Tensor {
        let mut rng = random::Rng::new(seed);
        let values: Vec<f32> = (0..rows * width).map(|_| (rng.normal() + shift) as f32).collect();
        Tensor::from_slice(&values).view([rows, width])
    }

    #[test]
    fn a_small_case_is_that_of_the_definition() {
        let a = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0]).view([2, 2]);
        let b = Tensor::from_slice(&[1.0f32, 1.0, 2.0, 0.0]).view([2, 2]);
        // k = (x·y/2 + 1)³: within a 1, within b (1+1)³ = 8; across 1.5³, 2³, 1.5³, 1.
        let across = (1.5f64.powi(3) * 2.0 + 8.0 + 1.0) / 4.0;
        let got = distance(&a, &b, 2, 0).unwrap();
        assert!((got.mean - (1.0 + 8.0 - 2.0 * across)).abs() < 1e-12, "{got:?}");
    }

    #[test]
    fn equal_distributions_are_near_nothing_and_others_are_not() {
        let (a, b) = (normal(400, 16, 0.0, 1), normal(400, 16, 0.0, 2));
        let near = distance(&a, &b, 100, 3).unwrap();
        let deviation = near.deviation.unwrap();
        assert!(near.mean.abs() < 3.0 * deviation, "{near:?}");
        let far = distance(&a, &normal(400, 16, 1.0, 4), 100, 3).unwrap();
        assert!(far.mean > 10.0 * deviation, "{far:?}");
        // The whole sets are one subset, over which nothing deviates.
        assert_eq!(distance(&a, &b, 400, 3).unwrap().deviation, None);
    }

    #[test]
    fn a_sketch_is_a_choice_by_name() {
        let rows: Vec<(String, [f32; 1])> =
            (0..KEPT + 500).map(|n| (format!("image-{n}"), [n as f32])).collect();
        let fill = |rows: &mut dyn Iterator<Item = &(String, [f32; 1])>| {
            let mut sketch = Sketch::default();
            rows.for_each(|(name, feature)| sketch.add(name, 0, feature));
            sketch
        };
        let (there, back) = (fill(&mut rows.iter()), fill(&mut rows.iter().rev()));
        assert_eq!(there.len(), KEPT as usize);
        assert!(there.tensor().unwrap().equal(&back.tensor().unwrap()));
        // Evenly over the set: the mean of the numbers is that of all, to four standard errors.
        let mean = there.tensor().unwrap().mean(Kind::Double).double_value(&[]);
        assert!((mean - 5250.0).abs() < 4.0 * 3031.0 / f64::from(KEPT).sqrt(), "{mean}");
    }
}
