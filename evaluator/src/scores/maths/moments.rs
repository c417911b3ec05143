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

/// Moments of a set in random groups, by the names of its images: what a jackknife leaves out.
pub struct Groups {
    groups: Vec<Moments>,
    pending: Vec<Tensor>,
    /// The groups of the pending rows.
    pending_groups: Vec<i64>,
}

impl Groups {
    /// `count` groups (at least one) of nothing.
    pub fn new(width: i64, count: usize, device: Device) -> Result<Self, Error> {
        let groups = (0..count.max(1)).map(|_| Moments::new(width, device));
        let groups = groups.collect::<Result<_, _>>()?;
        Ok(Self { groups, pending: Vec::new(), pending_groups: Vec::new() })
    }

    /// Takes the features of these images in, `[N,D]`.
    pub fn add(&mut self, names: &[&str], features: &Tensor) -> Result<(), Error> {
        let groups = self.groups.len();
        self.pending_groups.extend(names.iter().map(|name| group(name, groups)));
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

    /// Moments group by group.
    pub fn finish(mut self) -> Result<Vec<Moments>, Error> {
        self.flush()?;
        Ok(self.groups)
    }

    /// Moments of all.
    pub fn total(self) -> Result<Moments, Error> {
        let width = self.groups.first().map_or(0, Moments::width);
        Moments::sum(width, &self.finish()?)
    }
}

/// The group of an image, by its name.
fn group(name: &str, groups: usize) -> i64 {
    (random::key(&[random::text_key(name), 0x67726f7570]) % groups as u64) as i64
}
