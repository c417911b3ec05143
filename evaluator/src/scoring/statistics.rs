//! Statistics of features: moments for FID, a bounded choice of features for KID. Those of a set that
//! many systems are compared with are computed once and kept under the digests of all they depend on.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use home::Home;
use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, Tensor};

use super::gather::group;
use super::stream;
use crate::extractor::Extractor;
use crate::pictures::{Pair, Plan, Set, Sizes};
use crate::scores::Moments;
use crate::scores::kernel::Sketch;

/// Rows that are gathered before moments are updated: a product of matrices pays from there on.
const ROWS: i64 = 1024;

/// What FID and KID need of a set.
pub struct Statistics {
    moments: Moments,
    sketch: Sketch,
}

impl Statistics {
    /// Number of images.
    pub fn images(&self) -> u64 {
        self.moments.count()
    }

    /// Moments of all features.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Some features.
    pub fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// Those of a set through an extractor, kept or computed.
    ///
    /// # Errors
    /// For damaged pictures, and where what is kept cannot be written.
    pub fn of(
        set: Set,
        extractor: &Extractor,
        sizes: Sizes,
        threads: usize,
        home: &Home,
    ) -> Result<Self> {
        let place = home.statistics().join(name(&set, extractor, sizes)?);
        let width = extractor.config().features.as_ref().context("no features")?.width;
        if place.is_file() {
            match read(&place, width, extractor.device()) {
                Ok(statistics) => return Ok(statistics),
                Err(error) => {
                    tracing::info!(note = true, "{} is made again: {error:#}", place.display());
                }
            }
        }
        let plan = Plan::open(set, None)?;
        let total = plan.counts().values().map(|counts| counts.inputs).sum();
        let progress = terminal::Progress::new("reference statistics", Some(total), "images");
        let mut features = Features::new(width, 1, extractor.device());
        let config = extractor.config();
        let prepare = |pair: Pair| {
            let first = pair.first.is_none();
            let image = pair.decode(sizes)?.output;
            Ok((pair.key, first, config.prepare(&image)?))
        };
        stream::stream(&plan, threads, extractor.batch(), &prepare, &mut |batch| {
            let batch: Vec<_> = batch.into_iter().filter(|(_, first, _)| *first).collect();
            let names: Vec<&str> = batch.iter().map(|(name, ..)| name.as_str()).collect();
            let pictures: Vec<_> = batch.iter().map(|(_, _, picture)| picture.clone()).collect();
            if let Some(seen) = extractor.look(&pictures)?.features {
                features.add(&names, &seen)?;
            }
            progress.inc(batch.len() as u64);
            Ok(ControlFlow::Continue(()))
        })?;
        progress.finish();
        let statistics = features.finish();
        statistics.write(&place)?;
        Ok(statistics)
    }

    fn write(&self, place: &Path) -> Result<()> {
        let bytes = |tensor: &Tensor, kind: Kind| -> Result<(Vec<u8>, Vec<usize>)> {
            let tensor = tensor.to_device(Device::Cpu).to_kind(kind).contiguous();
            let shape = tensor.size().iter().map(|&side| side as usize).collect();
            let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            Ok((bytes, shape))
        };
        let count = Tensor::from_slice(&[self.images().cast_signed()]);
        let all = [
            ("count", bytes(&count, Kind::Int64)?, Dtype::I64),
            ("mean", bytes(self.moments.mean(), Kind::Double)?, Dtype::F64),
            ("scatter", bytes(self.moments.scatter(), Kind::Double)?, Dtype::F64),
            ("features", bytes(&self.sketch.tensor(), Kind::Float)?, Dtype::F32),
        ];
        let views = all
            .iter()
            .map(|(name, (bytes, shape), dtype)| {
                Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let file = safetensors::serialize(views, None)?;
        let folder = place.parent().context("a place without a folder")?;
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(storage::atomic::write(place, &file)?)
    }
}

/// The name they are kept under, made of all they depend on.
fn name(set: &Set, extractor: &Extractor, sizes: Sizes) -> Result<String> {
    let config = extractor.config();
    let identity = format!(
        "1\n{}\n{sizes:?}\n{}\n{}\n{:?}\n{:?}",
        set.digest()?,
        config.sha256,
        config.rule(),
        config.input,
        config.features
    );
    Ok(format!("{}.safetensors", storage::atomic::sha256(identity.as_bytes())))
}

fn read(place: &Path, width: i64, device: Device) -> Result<Statistics> {
    let mut tensors = Tensor::read_safetensors(place)?;
    let mut take = |name: &str| {
        let at = tensors.iter().position(|(other, _)| other == name);
        at.map(|at| tensors.swap_remove(at).1).with_context(|| format!("it lacks {name}"))
    };
    let count = take("count")?.int64_value(&[0]);
    let mean = take("mean")?.to_device(device);
    let scatter = take("scatter")?.to_device(device);
    let features = take("features")?;
    if count < 0 || mean.size() != [width] || features.dim() != 2 || features.size()[1] != width {
        bail!("it is of another extractor");
    }
    let moments = Moments::from_parts(count.unsigned_abs(), mean, scatter)?;
    Ok(Statistics { moments, sketch: Sketch::of(&features)? })
}

/// Features on their way into statistics, in groups.
pub struct Features {
    groups: Vec<Moments>,
    sketch: Sketch,
    waiting: Vec<Tensor>,
    waiting_groups: Vec<i64>,
}

impl Features {
    /// Of nothing yet.
    pub fn new(width: i64, groups: usize, device: Device) -> Self {
        Self {
            groups: (0..groups.max(1)).map(|_| Moments::new(width, device)).collect(),
            sketch: Sketch::default(),
            waiting: Vec::new(),
            waiting_groups: Vec::new(),
        }
    }

    /// Takes the features of these images, `[N,D]`.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn add(&mut self, names: &[&str], features: &Tensor) -> Result<()> {
        let width = usize::try_from(features.size()[1])?;
        let here = features.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let numbers: Vec<f32> = Vec::try_from(here.view([-1]))?;
        for (name, feature) in names.iter().zip(numbers.chunks_exact(width)) {
            self.sketch.add(name, 0, feature);
        }
        let groups = self.groups.len();
        self.waiting_groups.extend(names.iter().map(|name| (group(name) % groups) as i64));
        self.waiting.push(features.shallow_clone());
        if self.waiting_groups.len() as i64 >= ROWS {
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let features = Tensor::cat(&self.waiting, 0);
        let groups = Tensor::from_slice(&self.waiting_groups);
        for (number, moments) in self.groups.iter_mut().enumerate() {
            let places = groups.eq(number as i64).nonzero().view([-1]).to_device(features.device());
            moments.merge(&Moments::of(&features.index_select(0, &places)));
        }
        self.waiting.clear();
        self.waiting_groups.clear();
    }

    /// Statistics of all.
    pub fn finish(self) -> Statistics {
        let width = self.groups.first().map_or(0, Moments::width);
        let (groups, sketch) = self.finish_groups();
        Statistics { moments: Moments::sum(width, &groups), sketch }
    }

    /// Moments group by group.
    pub fn finish_groups(mut self) -> (Vec<Moments>, Sketch) {
        self.flush();
        (self.groups, self.sketch)
    }
}

/// Some rows of features.
pub fn pick(features: &Tensor, places: &[usize]) -> Tensor {
    if places.len() as i64 == features.size()[0] {
        return features.shallow_clone();
    }
    let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
    features.index_select(0, &Tensor::from_slice(&places).to_device(features.device()))
}
