//! Weights: first values, and safetensors files with the names of ADM.
//!
//! A file always holds f32, contiguous, every tensor of the network and no other. Files are written
//! straight to the path given: writing beside and renaming is the caller's.
mod copies;
mod description;
mod facts;
mod files;
mod finite;
mod formats;
mod pth;
mod sizes;
mod verify;

pub use description::Description;
pub use facts::{Assumed, Hints};
pub use finite::check_finite;
pub use formats::{Format, Imported, describe, export, import};
pub use sizes::{check_file, check_tensors};
pub use verify::{Difference, Tolerance, verify};

use crate::noise::{self, Purpose};
use crate::{Error, Result};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

/// Gives all variables their first values, each a function of (seed, name) alone: PyTorch's
/// defaults (uniform within ±1/√fan-in for convolutions and linear layers, 1 and 0 for norms), and
/// zero for the last layer of every residual block, of attention and of the network.
pub fn initialise(store: &VarStore, seed: u64) -> Result<()> {
    let variables: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    no_grad(|| {
        for (name, variable) in &variables {
            let mut variable = variable.shallow_clone();
            match first_value(name, &variables) {
                First::Constant(value) => {
                    let _ = variable.f_fill_(value)?;
                }
                First::Uniform(bound) => {
                    let key = noise::derive(noise::image_key(seed, name, 0), Purpose::Weights);
                    // The same bits on every device.
                    let (size, device) = (variable.size(), variable.device());
                    let drawn = torch_ext::rand_keyed(&[key], &size, device)?.f_squeeze_dim(0)?;
                    variable.f_copy_(&drawn.f_mul_scalar(2.0 * bound)?.f_sub_scalar(bound)?)?;
                }
            }
        }
        Ok(())
    })
}

enum First {
    Constant(f64),
    Uniform(f64),
}

fn first_value(name: &str, variables: &BTreeMap<String, Tensor>) -> First {
    let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let ends = |suffix: &str| module == suffix || module.ends_with(&format!(".{suffix}"));
    if ends("out_layers.3") || ends("proj_out") || ends("out.2") {
        return First::Constant(0.0);
    }
    let Some(weight) = variables.get(&format!("{module}.weight")) else {
        return First::Constant(0.0);
    };
    let size = weight.size();
    if size.len() < 2 {
        return First::Constant(if leaf == "weight" { 1.0 } else { 0.0 });
    }
    let fan_in: i64 = size[1..].iter().product();
    First::Uniform(1.0 / (fan_in.max(1) as f64).sqrt())
}

/// The variables of a store with their names, sorted by name; shared, not copied.
pub fn named(store: &VarStore) -> Vec<(String, Tensor)> {
    let mut named: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named
}

/// Copies of the variables that need no gradient, sorted by name: the start of an average.
pub fn copy(store: &VarStore) -> Result<Vec<(String, Tensor)>> {
    named(store)
        .into_iter()
        .map(|(name, tensor)| {
            // The same memory layout, which the averaging kernel wants.
            let mut copy = tensor.f_detach()?.f_empty_like()?;
            copy.f_copy_(&tensor.f_detach()?)?;
            Ok((name, copy))
        })
        .collect()
}

/// Sets all variables of a store to the values of the same names, which were read from `path`. Missing,
/// surplus and misshapen tensors are errors that name them and the file; then nothing has changed.
pub fn assign(store: &VarStore, values: &[(String, Tensor)], path: &Path) -> Result<()> {
    let path = &path.display().to_string();
    let given: BTreeMap<&str, Vec<i64>> =
        values.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
    compare(store, &given, path)?;
    let variables = store.variables();
    no_grad(|| {
        for (name, value) in values {
            if let Some(variable) = variables.get(name) {
                variable.shallow_clone().f_copy_(value)?;
            }
        }
        Ok(())
    })
}

/// Refuses a set of tensors that is not exactly the network's.
fn compare(store: &VarStore, given: &BTreeMap<&str, Vec<i64>>, path: &str) -> Result<()> {
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    for (name, variable) in named(store) {
        match given.get(name.as_str()) {
            None => return Err(wrong(format!("`{name}` is missing"))),
            Some(size) if *size != variable.size() => {
                return Err(wrong(format!(
                    "`{name}` has shape {size:?}, the network needs {:?}",
                    variable.size()
                )));
            }
            Some(_) => (),
        }
    }
    let variables = store.variables();
    match given.keys().find(|name| !variables.contains_key(**name)) {
        Some(name) => Err(wrong(format!("`{name}` does not belong to the network"))),
        None => Ok(()),
    }
}

/// Writes all variables of a store.
pub fn save(store: &VarStore, path: &Path) -> Result<()> {
    save_tensors(&named(store), path)
}

/// Fills all variables of a store from a file. The file must hold exactly the network's tensors.
pub fn load(store: &VarStore, path: &Path) -> Result<()> {
    assign(store, &read_tensors(path)?, path)
}

/// Writes named tensors, in any memory layout and on any device, as f32.
pub fn save_tensors(tensors: &[(String, Tensor)], path: &Path) -> Result<()> {
    save_described(tensors, HashMap::new(), path)
}

/// As [`save_tensors`], with a description beside them.
pub fn save_described(
    tensors: &[(String, Tensor)],
    description: HashMap<String, String>,
    path: &Path,
) -> Result<()> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let failed = Rc::new(RefCell::new(None));
    let views = tensors
        .iter()
        .map(|(name, tensor)| {
            let shape = tensor.size().iter().map(|&side| side as usize).collect();
            (name.as_str(), Plain { tensor, shape, failed: Rc::clone(&failed) })
        })
        .collect::<Vec<_>>();
    safetensors::serialize_to_file(views, Some(description), path)
        .map_err(|error| wrong(format!("cannot be written: {error}")))?;
    failed.take().map_or(Ok(()), Err)?;
    usual_mode(path).map_err(|error| wrong(format!("its mode cannot be set: {error}")))
}

/// Gives a file the mode that files get here by default (the umask's): the library writes weights as a
/// temporary file, which its owner alone may read.
fn usual_mode(path: &Path) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.mode", std::process::id()));
    let probe = path.with_file_name(name);
    let mode = std::fs::File::create(&probe).and_then(|file| file.metadata());
    let _ = std::fs::remove_file(&probe);
    std::fs::set_permissions(path, mode?.permissions())
}

/// A tensor as a file wants it; its bytes are made when they are written.
struct Plain<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
    /// The writer's trait has no place for an error: the first one is left here.
    failed: Rc<RefCell<Option<Error>>>,
}

impl Plain<'_> {
    fn bytes(&self) -> Result<Vec<u8>> {
        let plain = self.tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        let plain = plain.f_contiguous()?.f_flatten(0, -1)?.f_view_dtype(Kind::Uint8)?;
        let mut bytes = vec![0; plain.numel()];
        plain.f_copy_data(&mut bytes, plain.numel())?;
        Ok(bytes)
    }
}

impl View for Plain<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.bytes().unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            Vec::new()
        });
        bytes.into()
    }

    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// Reads all tensors of a file onto the CPU as f32, sorted by name. f16, bf16 and f64 are
/// converted, whole numbers refused.
pub fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let bytes =
        crate::regular::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    parse_tensors(&bytes, path)
}

/// As [`read_tensors`], of bytes that were read from `path`.
pub(crate) fn parse_tensors(bytes: &[u8], path: &Path) -> Result<Vec<(String, Tensor)>> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| wrong(format!("is not a safetensors file: {error}")))?;
    check_count(file.len(), path)?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.tensors() {
        let tensor = parse_kind(&name, &view, path)?;
        tensors.push((name, tensor));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// A tensor of a file as f32.
fn parse_kind(name: &str, view: &TensorView<'_>, path: &Path) -> Result<Tensor> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => {
            let message = format!("`{name}` holds {other:?}, not f16, bf16, f32 or f64");
            return Err(Error::Weights { path: path.display().to_string(), message });
        }
    };
    as_float(name, view.data(), view.shape(), kind, path)
}

/// A tensor of a file as f32. Where one side is zero libtorch makes of the others what it cannot hold, and no network
/// has such a tensor.
fn as_float(name: &str, bytes: &[u8], shape: &[usize], kind: Kind, path: &Path) -> Result<Tensor> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let sides: Option<Vec<i64>> = shape.iter().map(|&side| side.try_into().ok()).collect();
    let Some(sides) = sides.filter(|sides| !sides.contains(&0)) else {
        return Err(wrong(format!("`{name}` holds nothing: its shape is {shape:?}")));
    };
    Tensor::f_from_data_size(bytes, &sides, kind)
        .and_then(|tensor| tensor.f_to_kind(Kind::Float))
        .map_err(|error| wrong(format!("`{name}`: {}", Error::from(error))))
}

/// Refuses a file of far more tensors than any network has, before anything is made of them.
fn check_count(count: usize, path: &Path) -> Result<()> {
    const MOST: usize = 100_000;
    if count <= MOST {
        return Ok(());
    }
    let message = format!("holds {count} tensors, {MOST} at most are read");
    Err(Error::Weights { path: path.display().to_string(), message })
}

/// What lies beside the tensors of a file, by its keys.
fn described(bytes: &[u8], path: &Path) -> Result<HashMap<String, String>> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| Error::Weights {
        path: path.display().to_string(),
        message: format!("is not a safetensors file: {error}"),
    })?;
    Ok(header.metadata().clone().unwrap_or_default())
}
