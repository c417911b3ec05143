//! Count, mean and second moment of features, in f64; parts of a set merge into those of the whole.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

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
    pub fn new(width: i64, device: tch::Device) -> Self {
        let options = (Kind::Double, device);
        let (mean, scatter) = (Tensor::zeros([width], options), Tensor::zeros([width; 2], options));
        Self { count: 0, mean, scatter }
    }

    /// Of these features, `[N,D]` of any floating kind.
    pub fn of(features: &Tensor) -> Self {
        let features = features.to_kind(Kind::Double);
        let (count, width) = (features.size()[0], features.size()[1]);
        if count == 0 {
            return Self::new(width, features.device());
        }
        let mean = features.mean_dim([0i64].as_slice(), false, Kind::Double);
        let centred = features - &mean;
        Self { count: count.unsigned_abs(), mean, scatter: centred.tr().matmul(&centred) }
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
        let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
        ensure!(finite(&mean) && finite(&scatter), "moments that are not finite");
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
    pub fn covariance(&self) -> Tensor {
        &self.scatter / (self.count.max(2) - 1) as f64
    }

    /// Takes another part of the set in (Chan, Golub and LeVeque 1979): exact but for rounding,
    /// whatever the parts and their order.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (own, theirs) = (self.count as f64, other.count as f64);
        let total = own + theirs;
        let apart = &other.mean - &self.mean;
        let between = apart.outer(&apart) * (own * theirs / total);
        self.scatter = &self.scatter + &other.scatter + between;
        self.mean = &self.mean + apart * (theirs / total);
        self.count += other.count;
    }

    /// The whole without one of its parts: what [`Self::merge`] of the part would make this again.
    ///
    /// # Errors
    /// For a part of more than the whole.
    pub fn without(&self, part: &Self) -> Result<Self> {
        ensure!(part.count <= self.count, "a part of {} of {}", part.count, self.count);
        let (all, theirs) = (self.count as f64, part.count as f64);
        let rest = all - theirs;
        if rest == 0.0 {
            return Ok(Self::new(self.width(), self.mean.device()));
        }
        let mean = (&self.mean * all - &part.mean * theirs) / rest;
        let apart = &part.mean - &mean;
        let between = apart.outer(&apart) * (rest * theirs / all);
        let scatter = &self.scatter - &part.scatter - between;
        Ok(Self { count: self.count - part.count, mean, scatter })
    }

    /// All parts together.
    pub fn sum<'a>(width: i64, parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut whole = None;
        for part in parts {
            whole.get_or_insert_with(|| Self::new(width, part.mean.device())).merge(part);
        }
        whole.unwrap_or_else(|| Self::new(width, tch::Device::Cpu))
    }
}
