//! Weights of other systems: their names, what they have more or less than ours, and the network that
//! their shapes tell of.
//!
//! Ours are the names of ADM (guided-diffusion), so that its weights come in unchanged but for what
//! the paper leaves out: classes and the learned variance.
use super::description::{Description, Found};
use super::facts::{Assumed, Facts, Hints};
use crate::model::{ModelConfig, NoiseEmbedding};
use crate::{DiffusionConfig, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// Whose weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// guided-diffusion (Dhariwal & Nichol 2021): time steps are embedded. Also what we export by
    /// default, with the network described in the file.
    #[default]
    Adm,
    /// The best-known PyTorch Palette: names begin with `denoise_fn.`, `cond_embed` takes γ itself, the
    /// condition comes first, the schedules' buffers lie among the weights.
    Janspiry,
}

/// Weights under our names, and the network that they are of.
#[derive(Debug)]
pub struct Imported {
    /// The network.
    pub model: ModelConfig,
    /// The objective and schedules that such weights were trained with.
    pub diffusion: DiffusionConfig,
    /// Height and width of the images that they were trained on.
    pub image_size: [u32; 2],
    /// What the file says beyond these, where it is one of [`export`].
    pub description: Option<Description>,
    /// The weights.
    pub weights: Vec<(String, Tensor)>,
    /// What was left out or added, a line each.
    pub notes: Vec<String>,
    /// What neither the file nor the caller said.
    pub assumed: Vec<Assumed>,
}

const INPUT: &str = "input_blocks.0.0.weight";

/// Reads a file of another system (`.pth` or `.pt` of PyTorch, safetensors), or of [`export`].
///
/// # Errors
/// When the file cannot be read, holds no such network, says something else of itself than the hints do, or
/// holds values that are NaN or infinite; nothing in it is executed.
pub fn import(path: &Path, format: Format, hints: &Hints) -> Result<Imported> {
    let wrong = |message: String| Error::Weights { path: path.display().to_string(), message };
    let mut notes = Vec::new();
    let (tensors, entries) = super::files::read_any(path, &mut |names| {
        let copy = super::copies::find(names, format, hints.state_dict.as_deref())?;
        Ok(copy.map(|copy| {
            notes.extend(copy.notes);
            copy.names
        }))
    })?;
    let named = ours(tensors, format).map_err(wrong)?;
    let found = super::description::read(&entries, path)?;
    let facts = super::facts::settle(&found, format, hints).map_err(wrong)?;
    let named = without_classes(named, &mut notes);
    let named = without_variance(named, &mut notes).map_err(wrong)?;
    let named = with_condition(named, &mut notes).map_err(wrong)?;
    let Facts { image_size, model, diffusion, assumed } = facts;
    let [height, width] = image_size;
    let model = match found {
        Found::Nothing => infer(&named, model, height.min(width)).map_err(wrong)?,
        Found::Whole(_) | Found::Model(_) => model,
    };
    model.validate(image_size).map_err(|error| match error {
        Error::Config { key: "model.head_channels" | "model.num_heads", .. } => {
            wrong(format!("{error} (say --head-channels or --num-heads)"))
        }
        other => other,
    })?;
    diffusion.validate()?;
    let weights: Vec<(String, Tensor)> = named.into_iter().collect();
    if !hints.allow_non_finite {
        super::check_finite(&weights, &path.display().to_string())?;
    }
    let description = match found {
        Found::Whole(description) => Some(*description),
        Found::Model(_) | Found::Nothing => None,
    };
    Ok(Imported { model, diffusion, image_size, description, weights, notes, assumed })
}

/// What a file of [`export`] says of itself; none of other files. Only its beginning is read.
///
/// # Errors
/// When the file cannot be read, or its description is damaged or of a later version.
pub fn describe(path: &Path) -> Result<Option<Description>> {
    match super::description::read(&super::files::header_of(path)?, path)? {
        Found::Whole(description) => Ok(Some(*description)),
        Found::Model(_) | Found::Nothing => Ok(None),
    }
}

/// Writes weights as safetensors with the names of `format`, the network and its training described beside
/// them.
///
/// # Errors
/// When the format has no place for such a network, or the file cannot be written.
pub fn export(
    weights: &[(String, Tensor)],
    description: &Description,
    format: Format,
    path: &Path,
) -> Result<()> {
    let wrong = |message: &str| Error::Weights {
        path: path.display().to_string(),
        message: format!("the PyTorch Palette has no {message}: export with the names of adm"),
    };
    let mut description = Description { format, ..description.clone() };
    let model = &mut description.model;
    let tensors = match format {
        Format::Adm => weights.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect(),
        Format::Janspiry => {
            if model.noise_embedding != NoiseEmbedding::Gamma {
                return Err(wrong("embedding of the noise level but γ itself"));
            }
            if model.patch != 1 {
                return Err(wrong("patches"));
            }
            if model.norm_groups != 32 || !model.attention_kind.attends() {
                return Err(wrong("such norms or blocks"));
            }
            let swap = !std::mem::replace(&mut model.condition_first, true);
            let mut tensors: Vec<(String, Tensor)> = Vec::with_capacity(weights.len());
            for (name, tensor) in weights {
                let tensor = if swap && name == INPUT {
                    let halves = tensor.f_chunk(2, 1)?;
                    Tensor::f_cat(&[&halves[1], &halves[0]], 1)?
                } else {
                    tensor.shallow_clone()
                };
                let name = match name.strip_prefix("time_embed.") {
                    Some(rest) => format!("denoise_fn.cond_embed.{rest}"),
                    None => format!("denoise_fn.{name}"),
                };
                tensors.push((name, tensor));
            }
            tensors
        }
    };
    super::save_described(&tensors, description.entries()?, path)
}

type Tensors = BTreeMap<String, Tensor>;

/// Our names.
fn ours(tensors: Vec<(String, Tensor)>, format: Format) -> std::result::Result<Tensors, String> {
    let named: Tensors = match format {
        Format::Adm => tensors.into_iter().collect(),
        Format::Janspiry => tensors
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix("cond_embed.") {
                Some(rest) => (format!("time_embed.{rest}"), tensor),
                None => (name, tensor),
            })
            .collect(),
    };
    for name in ["time_embed.0.weight", INPUT, "middle_block.0.in_layers.0.weight", "out.2.weight"]
    {
        if !named.contains_key(name) {
            let (theirs, other) = match format {
                Format::Adm => ("an ADM U-Net", "--format janspiry for the PyTorch Palette"),
                Format::Janspiry => {
                    ("a PyTorch Palette with its guided-diffusion U-Net", "--format adm")
                }
            };
            return Err(format!("`{name}` is missing: this is not {theirs} ({other}?)"));
        }
    }
    Ok(named)
}

fn without_classes(mut named: Tensors, notes: &mut Vec<String>) -> Tensors {
    if let Some(classes) = named.remove("label_emb.weight") {
        let count = classes.size().first().copied().unwrap_or(0);
        notes.push(format!("the embedding of {count} classes was left out"));
    }
    named
}

/// Of six outputs the first three are the mean, the others a learned variance.
fn without_variance(
    mut named: Tensors,
    notes: &mut Vec<String>,
) -> std::result::Result<Tensors, String> {
    let cut = named["out.2.weight"].size().first() == Some(&6);
    if cut {
        for name in ["out.2.weight", "out.2.bias"] {
            let Some(tensor) = named.get(name) else {
                return Err(format!("`{name}` is missing"));
            };
            let mean = tensor.f_narrow(0, 0, 3).and_then(|mean| mean.f_contiguous());
            let mean = mean.map_err(|_| format!("`{name}` has shape {:?}", tensor.size()))?;
            named.insert(name.to_owned(), mean);
        }
        notes.push("the learned variance was left out".to_owned());
    }
    Ok(named)
}

/// An unconditional network sees no condition yet: its weights for it begin at zero.
fn with_condition(
    mut named: Tensors,
    notes: &mut Vec<String>,
) -> std::result::Result<Tensors, String> {
    let input = &named[INPUT];
    let size = input.size();
    if size.len() != 4 {
        return Err(format!("`{INPUT}` has shape {size:?}, no convolution"));
    }
    if size[1] == 3 {
        let wide = input
            .f_zeros_like()
            .and_then(|zeros| Tensor::f_cat(&[input, &zeros], 1))
            .map_err(|error| error.to_string())?;
        named.insert(INPUT.to_owned(), wide);
        notes.push(
            "the input was widened from 3 to 6 channels, with zeros for the condition".into(),
        );
    }
    Ok(named)
}

/// The network that shapes and names tell of; the rest is that of `facts`, trained on images of this shorter
/// side.
fn infer(
    named: &Tensors,
    facts: ModelConfig,
    image_size: u32,
) -> std::result::Result<ModelConfig, String> {
    let side = |name: &str, axis: usize| -> std::result::Result<u32, String> {
        let size = named.get(name).ok_or_else(|| format!("`{name}` is missing"))?.size();
        size.get(axis)
            .and_then(|&side| u32::try_from(side).ok())
            .filter(|side| (1..=65_536).contains(side))
            .ok_or_else(|| format!("`{name}` has shape {size:?}"))
    };
    let has = |name: String| named.contains_key(&name);
    let model_channels = side("time_embed.0.weight", 1)?;
    let patch = match side(INPUT, 1)? {
        6 => 1,
        24 => 2,
        96 => 4,
        other => return Err(format!("`{INPUT}` has {other} input channels, allowed are 3 and 6")),
    };
    let count = |list: &str| {
        (0..10_000)
            .take_while(|i| {
                has(format!("{list}.{i}.0.weight"))
                    || has(format!("{list}.{i}.0.in_layers.0.weight"))
                    || has(format!("{list}.{i}.0.op.weight"))
            })
            .count()
    };
    let (inputs, outputs) = (count("input_blocks"), count("output_blocks"));
    // A block of the way up that ends in a convolution or in a second residual block is a level's last.
    let ups: Vec<usize> = (0..outputs)
        .filter(|i| {
            (1..3).any(|j| {
                has(format!("output_blocks.{i}.{j}.conv.weight"))
                    || has(format!("output_blocks.{i}.{j}.in_layers.0.weight"))
            })
        })
        .collect();
    let levels = ups.len() + 1;
    let res_blocks = (outputs / levels).checked_sub(1).filter(|&blocks| blocks > 0);
    let regular =
        |blocks: &usize| outputs == levels * (blocks + 1) && inputs == levels * (blocks + 1);
    let res_blocks = res_blocks.filter(regular).ok_or_else(|| {
        format!("{inputs} blocks down and {outputs} up, {levels} levels: no U-Net of ADM")
    })?;
    let resblock_updown = match ups.first() {
        Some(i) => !(1..3).any(|j| has(format!("output_blocks.{i}.{j}.conv.weight"))),
        None => true,
    };
    let mut channel_mult = Vec::new();
    let mut attention = Vec::new();
    for level in 0..levels {
        let block = format!("input_blocks.{}", 1 + level * (res_blocks + 1));
        let width = side(&format!("{block}.0.out_layers.3.weight"), 0)?;
        if width % model_channels != 0 {
            return Err(format!("`{block}` has {width} channels, no multiple of {model_channels}"));
        }
        channel_mult.push(width / model_channels);
        if has(format!("{block}.1.qkv.weight")) {
            attention.push((image_size / patch) >> level);
        }
        let modulation = side(&format!("{block}.0.emb_layers.1.weight"), 0)?;
        if modulation != 2 * width {
            return Err(format!(
                "`{block}.0.emb_layers.1.weight` has {modulation} rows for {width} channels: networks \
                 without scale and shift are not supported"
            ));
        }
    }
    Ok(ModelConfig {
        model_channels,
        channel_mult,
        res_blocks: res_blocks as u32,
        attention,
        patch,
        resblock_updown,
        ..facts
    })
}
