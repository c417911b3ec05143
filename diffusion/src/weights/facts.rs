//! What the shapes of tensors do not say of a network. A file that we exported says it; of others the caller
//! may know it, and the rest is assumed, as such weights usually are.
use super::Format;
use super::description::Found;
use crate::model::{AttentionOrder, ModelConfig, NoiseEmbedding};
use crate::{DiffusionConfig, Formulation, Prediction, ScheduleConfig};
use serde::Serialize;

/// What the caller knows of a file, and how it is to be read. What is left out is what the file says, or
/// else is assumed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hints {
    /// Which network of a file that has several: the name of its state dict, or the beginning of its
    /// tensors' names.
    pub state_dict: Option<String>,
    /// Shorter side of the images that the weights were trained on; decides at which resolutions
    /// their attention is.
    pub image_size: Option<u32>,
    /// Channels of an attention head.
    pub head_channels: Option<u32>,
    /// Heads of every attention, however many channels it has; in place of `head_channels`.
    pub num_heads: Option<u32>,
    /// Order of the attention channels.
    pub attention_order: Option<AttentionOrder>,
    /// What of the noise level is embedded.
    pub noise_embedding: Option<NoiseEmbedding>,
    /// Groups of the group norms.
    pub norm_groups: Option<u32>,
    /// Whether the condition comes before the noisy image.
    pub condition_first: Option<bool>,
    /// Diffusion or regression.
    pub kind: Option<Formulation>,
    /// What the network's output means.
    pub prediction: Option<Prediction>,
    /// Whether the output is added to the source.
    pub residual: Option<bool>,
    /// Schedule of the training.
    pub training: Option<ScheduleConfig>,
    /// Schedule of the processes that take every step.
    pub sampling: Option<ScheduleConfig>,
    /// Also weights that are not finite.
    pub allow_non_finite: bool,
}

/// Something that a file does not say and nobody else did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assumed {
    /// What it is.
    pub what: &'static str,
    /// What was assumed.
    pub value: String,
    /// The option that says it.
    pub option: &'static str,
}

/// What is known beside the shapes.
pub(super) struct Facts {
    pub image_size: [u32; 2],
    pub model: ModelConfig,
    pub diffusion: DiffusionConfig,
    pub assumed: Vec<Assumed>,
}

/// Settles everything that shapes do not say: what the file says, what the caller says, what is usual. Of
/// `model` only the fields count that shapes do not say.
///
/// # Errors
/// When the caller says something else than the file.
pub(super) fn settle(found: &Found, format: Format, hints: &Hints) -> Result<Facts, String> {
    let (model, whole) = match found {
        Found::Whole(description) => (Some(&description.model), Some(&**description)),
        Found::Model(model) => (Some(model), None),
        Found::Nothing => (None, None),
    };
    let diffusion = whole.map(|description| &description.diffusion);
    let mut settler = Settler { assumed: Vec::new() };

    let side = settler.fact(
        ("image size", "--image-size"),
        hints.image_size,
        whole.map(|description| description.image_size[0].min(description.image_size[1])),
        256,
    )?;
    let image_size = whole.map_or([side; 2], |description| description.image_size);

    let mut settled = model.cloned().unwrap_or_default();
    (settled.head_channels, settled.num_heads) = settler.heads(hints, model, format)?;
    settled.attention_order = settler.fact(
        ("attention order", "--attention-order"),
        hints.attention_order,
        model.map(|model| model.attention_order),
        AttentionOrder::Legacy,
    )?;
    settled.noise_embedding = settler.fact(
        ("noise embedding", "--noise-embedding"),
        hints.noise_embedding,
        model.map(|model| model.noise_embedding),
        match format {
            Format::Adm => NoiseEmbedding::Timestep,
            Format::Janspiry => NoiseEmbedding::Gamma,
        },
    )?;
    settled.norm_groups = settler.fact(
        ("groups of the norms", "--norm-groups"),
        hints.norm_groups,
        model.map(|model| model.norm_groups),
        32,
    )?;
    settled.condition_first = settler.fact(
        ("condition comes first", "--condition-first"),
        hints.condition_first,
        model.map(|model| model.condition_first),
        format == Format::Janspiry,
    )?;

    let mut learnt = diffusion.cloned().unwrap_or_default();
    learnt.kind = settler.fact(
        ("kind", "--kind"),
        hints.kind,
        diffusion.map(|diffusion| diffusion.kind),
        Formulation::Diffusion,
    )?;
    let residual = diffusion.map(|diffusion| diffusion.residual);
    let usual = match (format, settled.noise_embedding) {
        (Format::Adm, NoiseEmbedding::Timestep) => [ScheduleConfig::ADM; 2],
        _ => [ScheduleConfig::TRAINING, ScheduleConfig::SAMPLING],
    };
    let said = diffusion.map(|diffusion| (diffusion.training, diffusion.sampling));
    if learnt.kind == Formulation::Diffusion {
        learnt.prediction = settler.fact(
            ("prediction", "--prediction"),
            hints.prediction,
            diffusion.map(|diffusion| diffusion.prediction),
            Prediction::Epsilon,
        )?;
        let training = ("training schedule", "--training-schedule");
        learnt.training =
            settler.fact(training, hints.training, said.map(|said| said.0), usual[0])?;
        let sampling = ("sampling schedule", "--sampling-schedule");
        learnt.sampling =
            settler.fact(sampling, hints.sampling, said.map(|said| said.1), usual[1])?;
    } else if hints.prediction.is_some() || hints.training.is_some() || hints.sampling.is_some() {
        return Err("a regression has neither prediction nor schedules: leave --prediction, \
                    --training-schedule and --sampling-schedule out"
            .to_owned());
    }
    // Only these can have it.
    if learnt.kind == Formulation::Regression || learnt.prediction == Prediction::Y0 {
        learnt.residual =
            settler.fact(("residual", "--residual"), hints.residual, residual, false)?;
    } else if hints.residual == Some(true) {
        return Err("--residual is only with --prediction y0 or --kind regression".to_owned());
    }
    Ok(Facts { image_size, model: settled, diffusion: learnt, assumed: settler.assumed })
}

struct Settler {
    assumed: Vec<Assumed>,
}

impl Settler {
    /// What the caller says, or the file; or else what is usual, which is noted.
    fn fact<T: Copy + PartialEq + Serialize>(
        &mut self,
        (what, option): (&'static str, &'static str),
        told: Option<T>,
        said: Option<T>,
        usual: T,
    ) -> Result<T, String> {
        match (told, said) {
            (Some(told), Some(said)) if told != said => Err(format!(
                "the file says of itself that its {what} is {}, {option} says {}: leave {option} out",
                shown(&said),
                shown(&told)
            )),
            (Some(fact), _) | (None, Some(fact)) => Ok(fact),
            (None, None) => {
                self.assumed.push(Assumed { what, value: shown(&usual), option });
                Ok(usual)
            }
        }
    }

    /// `head_channels` and `num_heads`, of which one counts.
    fn heads(
        &mut self,
        hints: &Hints,
        said: Option<&ModelConfig>,
        format: Format,
    ) -> Result<(u32, u32), String> {
        let told = match (hints.head_channels, hints.num_heads) {
            (Some(_), Some(_)) => {
                return Err("--head-channels and --num-heads exclude each other".to_owned());
            }
            (Some(channels), None) => Some((channels, 0)),
            (None, Some(0)) => return Err("--num-heads is 0, allowed: at least 1".to_owned()),
            (None, Some(heads)) => Some((ModelConfig::default().head_channels, heads)),
            (None, None) => None,
        };
        let said = said.map(|model| (model.head_channels, model.num_heads));
        // With a number of heads the channels of each do not count.
        let same = |a: (u32, u32), b: (u32, u32)| a.1 == b.1 && (a.1 > 0 || a.0 == b.0);
        let words = |(channels, heads): (u32, u32)| match heads {
            0 => format!("{channels} channels a head"),
            heads => format!("{heads} heads"),
        };
        match (told, said) {
            (Some(told), Some(said)) if !same(told, said) => Err(format!(
                "the file says of itself that its attention has {}, not {}: leave --head-channels and \
                 --num-heads out",
                words(said),
                words(told)
            )),
            (_, Some(heads)) | (Some(heads), None) => Ok(heads),
            (None, None) => {
                let usual = match format {
                    Format::Adm => (64, 0),
                    Format::Janspiry => (32, 0),
                };
                self.assumed.push(Assumed {
                    what: "attention",
                    value: words(usual),
                    option: "--head-channels or --num-heads",
                });
                Ok(usual)
            }
        }
    }
}

/// A value as configurations write it.
fn shown(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        // A schedule, as its option takes it.
        Ok(serde_json::Value::Object(fields)) => ["steps", "start", "end"]
            .iter()
            .filter_map(|field| fields.get(*field))
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}
