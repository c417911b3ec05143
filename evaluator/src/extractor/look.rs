//! Looking at a batch: bytes to the network's input, its outputs to features, answers and maps.

use anyhow::{Result, bail, ensure};
use image::RgbImage;
use tch::{Device, IValue, Kind, TchError, Tensor};
use terminal::Usage;

use super::Extractor;
use super::config::Output;

/// What an extractor says of B pictures.
#[derive(Default)]
pub struct Seen {
    /// f32 `[B,D]`, on the extractor's device.
    pub features: Option<Tensor>,
    /// Logits or probabilities, f32 `[B,C]`, on the CPU.
    pub logits: Option<Tensor>,
    /// Feature maps, f32 `[B,C,H,W]` each, on the extractor's device.
    pub maps: Vec<Tensor>,
}

impl Seen {
    /// What was seen of these pictures, by their places in the batch.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn pick(&self, places: &[usize]) -> Result<Self> {
        let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        let of = |tensor: &Tensor| torch(pick(tensor, &places));
        Ok(Self {
            features: self.features.as_ref().map(of).transpose()?,
            logits: self.logits.as_ref().map(of).transpose()?,
            maps: self.maps.iter().map(of).collect::<Result<_>>()?,
        })
    }

    /// This batch and another one after it.
    ///
    /// # Errors
    /// Where the two are of different networks.
    pub fn join(&self, other: &Self) -> Result<Self> {
        let join = |one: &Option<Tensor>, other: &Option<Tensor>| match (one, other) {
            (Some(one), Some(other)) => torch(Tensor::f_cat(&[one, other], 0)).map(Some),
            _ => Ok(None),
        };
        let maps = self.maps.iter().zip(&other.maps);
        Ok(Self {
            features: join(&self.features, &other.features)?,
            logits: join(&self.logits, &other.logits)?,
            maps: maps
                .map(|(one, other)| torch(Tensor::f_cat(&[one, other], 0)))
                .collect::<Result<_>>()?,
        })
    }
}

/// Some rows of a tensor, without a copy where they are all.
fn pick(tensor: &Tensor, places: &[i64]) -> Result<Tensor, TchError> {
    if places.iter().copied().eq(0..tensor.size()[0]) {
        return Ok(tensor.shallow_clone());
    }
    tensor.f_index_select(0, &Tensor::f_from_slice(places)?.f_to_device(tensor.device())?)
}

impl Extractor {
    /// Looks at pictures that [`super::Config::prepare`] has prepared; all of one size.
    ///
    /// # Errors
    /// Where the network refuses them, gives other shapes than its configuration says, or numbers that
    /// are not finite.
    pub fn look(&self, pictures: &[RgbImage]) -> Result<Seen> {
        self.seen(pictures).map_err(|error| {
            let remedy = format!(
                "{} looks at {} pictures of {} at once: give its configuration a lower `batch`",
                self.config.name,
                pictures.len(),
                pictures.first().map_or_else(String::new, |first| {
                    format!("{}x{}", first.width(), first.height())
                })
            );
            let said = torch_ext::explain_out_of_memory(&format!("{error:#}"), &remedy);
            said.map_or(error, anyhow::Error::msg)
        })
    }

    fn seen(&self, pictures: &[RgbImage]) -> Result<Seen> {
        let Some(first) = pictures.first() else { return Ok(Seen::default()) };
        let (width, height) = first.dimensions();
        if let Some(other) = pictures.iter().find(|one| one.dimensions() != (width, height)) {
            bail!(Usage::new(format!(
                "pictures of {width}x{height} and {}x{} cannot go through {} together: say --size",
                other.width(),
                other.height(),
                self.config.name
            )));
        }
        let bytes: Vec<u8> = pictures.iter().flat_map(|one| one.as_raw()).copied().collect();
        let shape = [pictures.len() as i64, i64::from(height), i64::from(width), 3];
        let _guard = tch::no_grad_guard();
        let images = torch(self.input(&bytes, &shape))?;
        let mut passes = Passes { extractor: self, images, done: Vec::new() };
        let mut seen = Seen::default();
        if let Some(spec) = &self.config.features {
            seen.features = Some(passes.rows("features", spec)?);
        }
        if let Some(spec) = &self.config.logits {
            let logits = passes.rows("logits", spec)?;
            seen.logits = Some(torch(logits.f_to_device(Device::Cpu))?);
        }
        if let Some(spec) = &self.config.maps {
            for &place in &spec.outputs {
                let map = passes.output(&spec.arguments, place)?;
                ensure!(
                    map.dim() == 4 && map.size()[0] == shape[0],
                    "map {place} of {} has the shape {:?}, expected is [B,C,H,W]",
                    self.config.name,
                    map.size()
                );
                seen.maps.push(map);
            }
        }
        Ok(seen)
    }

    /// Bytes `[B,H,W,3]` as the network takes them.
    fn input(&self, bytes: &[u8], shape: &[i64]) -> Result<Tensor, TchError> {
        let bytes =
            Tensor::f_from_data_size(bytes, shape, Kind::Uint8)?.f_to_device(self.device)?;
        let images = self.config.input.of_bytes(&bytes.f_permute([0, 3, 1, 2])?)?;
        if self.channels_last { Ok(images) } else { images.f_contiguous() }
    }
}

/// Passes of one batch; outputs that ask with the same arguments share one.
struct Passes<'a> {
    extractor: &'a Extractor,
    images: Tensor,
    done: Vec<(Vec<bool>, Vec<Tensor>)>,
}

impl Passes<'_> {
    /// An output of one row a picture, checked.
    fn rows(&mut self, name: &str, spec: &Output) -> Result<Tensor> {
        let batch = self.images.size()[0];
        let whole = self.output(&spec.arguments, spec.output)?;
        // Some give [B,D,1,1].
        let flat = whole.dim() > 2 && whole.size().iter().skip(2).all(|&side| side == 1);
        let whole = if flat { torch(whole.f_flatten(1, -1))? } else { whole };
        let fits = match (whole.size().as_slice(), spec.start) {
            (&[rows, width], None) => rows == batch && width == spec.width,
            (&[rows, width], Some(start)) => rows == batch && start + spec.width <= width,
            _ => false,
        };
        let extractor = &self.extractor.config.name;
        ensure!(
            fits,
            "{name} of {extractor} have the shape {:?}, the configuration says [{batch}, {}]",
            whole.size(),
            spec.start.unwrap_or(0) + spec.width
        );
        let rows = torch(whole.f_narrow(1, spec.start.unwrap_or(0), spec.width))?;
        let finite = || rows.f_isfinite()?.f_all()?.f_int64_value(&[]);
        ensure!(torch(finite())? == 1, "{name} of {extractor} are not finite");
        Ok(rows)
    }

    /// An output as it comes, as f32.
    fn output(&mut self, arguments: &[bool], place: usize) -> Result<Tensor> {
        let found = self.done.iter().position(|(with, _)| with == arguments);
        let at = match found {
            Some(at) => at,
            None => {
                let pictures = IValue::Tensor(self.images.shallow_clone());
                let others = arguments.iter().map(|&argument| IValue::Bool(argument));
                let inputs: Vec<IValue> = std::iter::once(pictures).chain(others).collect();
                let given = torch(self.extractor.module.forward_is(&inputs))?;
                self.done.push((arguments.to_vec(), tensors(given)));
                self.done.len() - 1
            }
        };
        let given = &self.done[at].1;
        let Some(tensor) = given.get(place) else {
            let name = &self.extractor.config.name;
            bail!("{name} gives {} outputs, none has place {place}", given.len());
        };
        torch(tensor.f_to_kind(Kind::Float))
    }
}

/// The tensors of what a network gives, in order.
fn tensors(value: IValue) -> Vec<Tensor> {
    match value {
        IValue::Tensor(tensor) => vec![tensor],
        IValue::TensorList(tensors) => tensors,
        IValue::Tuple(values) | IValue::GenericList(values) => {
            values.into_iter().flat_map(tensors).collect()
        }
        _ => Vec::new(),
    }
}

/// libtorch's errors in one line.
fn torch<T>(result: Result<T, TchError>) -> Result<T> {
    result.map_err(|error| torch_ext::Error::from(error).into())
}
