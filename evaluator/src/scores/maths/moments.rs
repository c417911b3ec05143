//! Count, mean and second moment of features, in f64; parts of a set merge into those of the whole.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};
use torch_ext::Error;

/// What a Gaussian fit of N features `[N,D]` needs.
#[derive(Debug)]
pub struct Moments {
    count: u64,
    /// `[D]`
    mean: Tensor,
    /// Σ (x − mean)(x − mean)ᵀ, `[D,D]`
    scatter: Tensor,
}

impl Moments {
    /// Of nothing, for features of this width, on this device.
    ///
    /// # Errors
    /// Those of libtorch, as everywhere here.
    pub fn new(width: i64, device: Device) -> Result<Self, Error> {
        let zeros = |size: &[i64]| Tensor::f_zeros(size, (Kind::Double, device));
        Ok(Self { count: 0, mean: zeros(&[width])?, scatter: zeros(&[width; 2])? })
    }

    /// Of these features, `[N,D]` of any floating kind.
    pub fn of(features: &Tensor) -> Result<Self, Error> {
        let features = features.f_to_kind(Kind::Double)?;
        let (count, width) = features.size2()?;
        if count == 0 {
            return Self::new(width, features.device());
        }
        let mean = features.f_mean_dim([0i64].as_slice(), false, Kind::Double)?;
        let centred = features.f_sub(&mean)?;
        let scatter = centred.f_tr()?.f_matmul(&centred)?;
        Ok(Self { count: count.unsigned_abs(), mean, scatter })
    }

    /// From their parts.
    ///
    /// # Errors
    /// Where the shapes do not belong together or a number is not finite.
    pub fn from_parts(count: u64, mean: Tensor, scatter: Tensor) -> Result<Self> {
        let width = *mean.size().first().unwrap_or(&0);
        ensure!(
            width > 0 && mean.size() == [width] && scatter.size() == [width; 2],
            "moments of shapes {:?} and {:?}",
            mean.size(),
            scatter.size()
        );
        let finite = |tensor: &Tensor| -> Result<bool, Error> {
            Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1)
        };
        ensure!(finite(&mean)? && finite(&scatter)?, "moments that are not finite");
        Ok(Self { count, mean, scatter })
    }

    /// Number of features.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Numbers in one feature.
    pub fn width(&self) -> i64 {
        self.mean.size()[0]
    }

    /// Their mean, `[D]`.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// Σ (x − mean)(x − mean)ᵀ, `[D,D]`.
    pub fn scatter(&self) -> &Tensor {
        &self.scatter
    }

    /// The unbiased covariance `[D,D]`, divided by N − 1 as pytorch-fid and torch-fidelity do.
    pub fn covariance(&self) -> Result<Tensor, Error> {
        Ok(self.scatter.f_div_scalar((self.count.max(2) - 1) as f64)?)
    }

    /// Takes another part of the set in (Chan, Golub and LeVeque 1979): exact but for rounding,
    /// whatever the parts and their order.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if other.count == 0 {
            return Ok(());
        }
        let (own, theirs) = (self.count as f64, other.count as f64);
        let total = own + theirs;
        let apart = other.mean.f_sub(&self.mean)?;
        let between = apart.f_outer(&apart)?.f_mul_scalar(own * theirs / total)?;
        self.scatter = self.scatter.f_add(&other.scatter)?.f_add(&between)?;
        self.mean = self.mean.f_add(&apart.f_mul_scalar(theirs / total)?)?;
        self.count += other.count;
        Ok(())
    }

    /// The whole without one of its parts: what [`Self::merge`] of the part would make this again.
    ///
    /// # Errors
    /// For a part of more than the whole.
    pub fn without(&self, part: &Self) -> Result<Self> {
        ensure!(part.count <= self.count, "a part of {} of {}", part.count, self.count);
        Ok(self.less(part)?)
    }

    fn less(&self, part: &Self) -> Result<Self, Error> {
        let (all, theirs) = (self.count as f64, part.count as f64);
        let rest = all - theirs;
        if rest == 0.0 {
            return Self::new(self.width(), self.mean.device());
        }
        let sum = self.mean.f_mul_scalar(all)?.f_sub(&part.mean.f_mul_scalar(theirs)?)?;
        let mean = sum.f_div_scalar(rest)?;
        let apart = part.mean.f_sub(&mean)?;
        let between = apart.f_outer(&apart)?.f_mul_scalar(rest * theirs / all)?;
        let scatter = self.scatter.f_sub(&part.scatter)?.f_sub(&between)?;
        Ok(Self { count: self.count - part.count, mean, scatter })
    }

    /// All parts together; of none, nothing of this width.
    pub fn sum<'a>(width: i64, parts: impl IntoIterator<Item = &'a Self>) -> Result<Self, Error> {
        let mut parts = parts.into_iter().peekable();
        let device = parts.peek().map_or(Device::Cpu, |part| part.mean.device());
        let mut whole = Self::new(width, device)?;
        for part in parts {
            whole.merge(part)?;
        }
        Ok(whole)
    }
}

/// Rows that are gathered before moments are updated: a product of matrices pays from there on.
const ROWS: usize = 1024;

/// Moments of a set, and of random groups of it that are all of one size: what a jackknife leaves out.
pub struct Groups {
    groups: Vec<Moments>,
    /// The group of each image by its place in the set; those past the end are in the last.
    of_place: Vec<u8>,
    seen: usize,
    pending: Vec<Tensor>,
    /// The groups of the pending rows.
    pending_groups: Vec<i64>,
}

impl Groups {
    /// Of nothing, for `images` that will come in an order that is always the same, in `count` groups (at most
    /// 255). The images that they do not divide into are in a last group of their own.
    pub fn new(width: i64, images: u64, count: u8, device: Device) -> Result<Self, Error> {
        let count = count.min(u8::MAX - 1);
        let groups = (0..=count).map(|_| Moments::new(width, device));
        let of_place = draw(images, count);
        let groups = groups.collect::<Result<_, _>>()?;
        Ok(Self { groups, of_place, seen: 0, pending: Vec::new(), pending_groups: Vec::new() })
    }

    /// Takes the features of the next images in, `[N,D]`.
    pub fn add(&mut self, features: &Tensor) -> Result<(), Error> {
        let (images, _) = features.size2()?;
        let last = self.groups.len() as i64 - 1;
        for _ in 0..images {
            let group = self.of_place.get(self.seen).map_or(last, |&group| i64::from(group));
            self.pending_groups.push(group);
            self.seen += 1;
        }
        self.pending.push(features.shallow_clone());
        if self.pending_groups.len() >= ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let features = Tensor::f_cat(&self.pending, 0)?;
        let groups = Tensor::f_from_slice(&self.pending_groups)?;
        for (number, moments) in self.groups.iter_mut().enumerate() {
            let rows = groups.f_eq(number as i64)?.f_nonzero()?.f_view([-1])?;
            let rows = rows.f_to_device(features.device())?;
            moments.merge(&Moments::of(&features.f_index_select(0, &rows)?)?)?;
        }
        self.pending.clear();
        self.pending_groups.clear();
        Ok(())
    }

    /// Moments of all, and of each of the groups; of these, none where they are of several sizes, since other
    /// images came than were announced, or of none.
    pub fn finish(mut self) -> Result<(Moments, Vec<Moments>), Error> {
        self.flush()?;
        let width = self.groups.first().map_or(0, Moments::width);
        let all = Moments::sum(width, &self.groups)?;
        self.groups.pop();
        let size = self.groups.first().map_or(0, Moments::count);
        if size == 0 || self.groups.iter().any(|group| group.count() != size) {
            self.groups.clear();
        }
        Ok((all, self.groups))
    }
}

/// The groups of `images` places, as many in each of `count`; those that are left over are in group `count`.
fn draw(images: u64, count: u8) -> Vec<u8> {
    if count == 0 {
        return Vec::new();
    }
    let each = images / u64::from(count);
    let mut groups: Vec<u8> = (0..count).flat_map(|group| (0..each).map(move |_| group)).collect();
    groups.extend((0..images % u64::from(count)).map(|_| count));
    let mut rng = random::Rng::new(random::key(&[images, 0x67726f7570]));
    for place in (1..groups.len()).rev() {
        groups.swap(place, rng.below(place as u64 + 1) as usize);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_one_size_whatever_the_batches() {
        let features =
            |from: i64, to: i64| Tensor::arange_start(from, to, (Kind::Double, Device::Cpu));
        for batch in [1, 4, 47] {
            let mut groups = Groups::new(1, 47, 10, Device::Cpu).unwrap();
            for from in (0..47).step_by(batch) {
                let to = (from + batch as i64).min(47);
                groups.add(&features(from, to).unsqueeze(1)).unwrap();
            }
            let (all, groups) = groups.finish().unwrap();
            assert_eq!((all.count(), groups.len()), (47, 10));
            assert!(groups.iter().all(|group| group.count() == 4));
            let mut means: Vec<f64> =
                groups.iter().map(|group| group.mean().double_value(&[0])).collect();
            means.sort_by(f64::total_cmp);
            means.dedup();
            assert_eq!(means.len(), 10, "drawn, not cut: {means:?}");
        }
        // Fewer images than groups, and others than announced: all are in the whole.
        for (announced, came) in [(7, 7), (20, 19), (20, 25)] {
            let mut groups = Groups::new(1, announced, 10, Device::Cpu).unwrap();
            groups.add(&features(0, came).unsqueeze(1)).unwrap();
            let (all, groups) = groups.finish().unwrap();
            assert_eq!(all.count(), came.unsigned_abs());
            assert_eq!(groups.len(), if came == 25 { 10 } else { 0 });
        }
    }
}
