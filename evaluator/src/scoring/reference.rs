//! Statistics of a set that many systems are compared with: computed once, and kept under the digests of
//! all they depend on.

use std::path::Path;

use anyhow::{Context, Result, bail};
use home::Home;
use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, Tensor};

use super::{Watch, stream};
use crate::extractor::Extractor;
use crate::pictures::{Pair, Pairs, Set, Sizes};
use crate::scores::Statistics;
use crate::scores::maths::{Groups, Moments, Sketch};

/// Statistics of a set through an extractor, kept or computed; none where `watch` broke that off.
///
/// # Errors
/// For damaged pictures, and where what is kept cannot be written.
pub fn statistics_of(
    set: Set,
    extractor: &Extractor,
    sizes: Sizes,
    threads: usize,
    home: &Home,
    watch: Watch,
) -> Result<Option<Statistics>> {
    let file = home.statistics().join(name(&set, extractor, sizes)?);
    let width = extractor.config().features.as_ref().context("no features")?.width;
    if file.is_file() {
        match read(&file, width, extractor.device()) {
            Ok(statistics) => return Ok(Some(statistics)),
            Err(error) => {
                tracing::info!(note = true, "{} is made again: {error:#}", file.display());
            }
        }
    }
    let statistics = compute(set, extractor, width, sizes, threads, watch)?;
    if let Some(statistics) = &statistics {
        home.make(&home.statistics())?;
        write(statistics, &file)?;
    }
    Ok(statistics)
}

fn compute(
    set: Set,
    extractor: &Extractor,
    width: i64,
    sizes: Sizes,
    threads: usize,
    watch: Watch,
) -> Result<Option<Statistics>> {
    let pairs = Pairs::open(set, None)?;
    let total = pairs.counts().values().map(|counts| counts.inputs).sum();
    let progress = terminal::Progress::new("reference statistics", Some(total), "images");
    let mut groups = Groups::new(width, total, 0, extractor.device())?;
    let mut sketch = Sketch::default();
    let (mut done, mut broken_off) = (0, false);
    let config = extractor.config();
    let prepare = |pair: Pair| {
        let first = pair.first.is_none();
        let image = pair.decode(sizes)?.output;
        Ok((pair.key, first, config.prepare(&image)?))
    };
    stream::stream(&pairs, threads, extractor.batch(), &prepare, &mut |batch| {
        let batch: Vec<_> = batch.into_iter().filter(|(_, first, _)| *first).collect();
        let names: Vec<&str> = batch.iter().map(|(name, ..)| name.as_str()).collect();
        let pictures: Vec<_> = batch.iter().map(|(_, _, picture)| picture.clone()).collect();
        if let Some(features) = extractor.look(&pictures)?.features {
            groups.add(&features)?;
            sketch.add_all(&names, &features)?;
        }
        progress.inc(batch.len() as u64);
        done += batch.len() as u64;
        let on = watch("images of the distribution", done, total);
        broken_off = on.is_break();
        Ok(on)
    })?;
    progress.finish();
    if broken_off {
        return Ok(None);
    }
    let (moments, _) = groups.finish()?;
    Ok(Some(Statistics { moments, sketch }))
}

fn write(statistics: &Statistics, file: &Path) -> Result<()> {
    let bytes = |tensor: &Tensor, kind: Kind| -> Result<(Vec<u8>, Vec<usize>)> {
        let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
        let shape = tensor.size().iter().map(|&side| side as usize).collect();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok((bytes, shape))
    };
    let Statistics { moments, sketch } = statistics;
    let count = Tensor::f_from_slice(&[moments.count().cast_signed()])?;
    let all = [
        ("count", bytes(&count, Kind::Int64)?, Dtype::I64),
        ("mean", bytes(moments.mean(), Kind::Double)?, Dtype::F64),
        ("scatter", bytes(moments.scatter(), Kind::Double)?, Dtype::F64),
        ("features", bytes(&sketch.tensor()?, Kind::Float)?, Dtype::F32),
    ];
    let views = all
        .iter()
        .map(|(name, (bytes, shape), dtype)| {
            Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, None)?;
    Ok(storage::atomic::write(file, &bytes)?)
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

fn read(file: &Path, width: i64, device: Device) -> Result<Statistics> {
    let mut tensors = Tensor::read_safetensors(file)?;
    let mut take = |name: &str| {
        let at = tensors.iter().position(|(other, _)| other == name);
        at.map(|at| tensors.swap_remove(at).1).with_context(|| format!("it lacks {name}"))
    };
    let count = take("count")?.f_int64_value(&[0])?;
    let mean = take("mean")?.f_to_device(device)?;
    let scatter = take("scatter")?.f_to_device(device)?;
    let features = take("features")?;
    if count < 0 || mean.size() != [width] || features.dim() != 2 || features.size()[1] != width {
        bail!("it is of another extractor");
    }
    let moments = Moments::from_parts(count.unsigned_abs(), mean, scatter)?;
    Ok(Statistics { moments, sketch: Sketch::of(&features)? })
}
