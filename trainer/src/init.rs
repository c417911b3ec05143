//! `train.init`: weights that a run starts from. Tensors of the right names and shapes may be of another
//! network all the same: of other heads, with the condition in the other place, of another objective. Such
//! a run would train, and be worse than one from fresh weights, without a word. So what the checkpoint says of
//! itself is compared with the configuration.

use std::path::Path;

use anyhow::Result;
use contracts::Experiment;
use diffusion::checkpoint::{Checkpoint, LAST, Metadata};
use diffusion::{DiffusionConfig, Formulation, ModelConfig};
use registry::CheckpointName;
use serde_json::Value;
use storage::Place;
use terminal::Usage;

/// Keys of `[model]` that are compared by what they mean, or that weights do not depend on.
const APART: [&str; 4] = ["attention", "head_channels", "num_heads", "dropout"];

/// A key whose values differ.
#[derive(Debug, PartialEq)]
struct Difference {
    key: String,
    theirs: String,
    ours: String,
}

/// Opens the weights at a place: a checkpoint, the newest of a run's folder, or a file of exported weights.
///
/// # Errors
/// When there is none, or a damaged one.
pub fn open(init: &Place) -> Result<Checkpoint> {
    let name: CheckpointName = init.to_string().parse().map_err(Usage::new)?;
    crate::place::open(&name.find(LAST)?)
}

/// Puts the place of a checkpoint where the configuration names one by its run (`train.init = "RUN@best"`): what
/// a run began with is so settled when it is submitted. What is there by that name comes first.
///
/// # Errors
/// When the run is not there, or has no such checkpoint.
pub fn settle(experiment: &mut Experiment) -> Result<()> {
    let init = &mut experiment.train.init;
    let Some(path) = init.as_ref().and_then(Place::local).filter(|path| !path.exists()) else {
        return Ok(());
    };
    let here = std::env::current_dir()?;
    let name =
        path.strip_prefix(here).ok().and_then(Path::to_str).filter(|name| !name.contains('/'));
    let Some(name) = name.and_then(|name| name.parse::<CheckpointName>().ok()) else {
        return Ok(());
    };
    match name.find(LAST) {
        Ok(place) => {
            tracing::info!("train.init: {name} is {place}");
            *init = Some(place);
            Ok(())
        }
        // A folder that another job will make, it may be.
        Err(_) if !name.to_string().contains('@') => Ok(()),
        Err(error) => Err(Usage::new(format!("train.init: {error}")).into()),
    }
}

/// Opens the weights that an experiment starts from, where they are there already, and compares. Weights
/// that another job will make are compared when the run begins.
///
/// # Errors
/// As [`check`], and when they are damaged.
pub fn check_early(experiment: &Experiment) -> Result<()> {
    let Some(init) = &experiment.train.init else { return Ok(()) };
    match init.local() {
        Some(path) if path.exists() => {
            let checkpoint =
                open(init).map_err(|error| Usage::new(format!("train.init: {error:#}")))?;
            check(experiment, init, checkpoint.metadata())
        }
        _ => Ok(()),
    }
}

/// Refuses weights whose network or objective differs from the experiment's in a key that
/// `train.init_differs` does not name.
///
/// # Errors
/// Names every such key with both values.
pub fn check(experiment: &Experiment, init: &Place, metadata: &Metadata) -> Result<()> {
    let allowed = &experiment.train.init_differs;
    let mut differences = differences(metadata, experiment);
    differences.retain(|difference| !allowed.contains(&difference.key));
    if differences.is_empty() {
        return Ok(());
    }
    let told = told(&differences);
    let all = allowed.iter().chain(differences.iter().map(|difference| &difference.key));
    let all: Vec<String> = all.map(|key| format!("\"{key}\"")).collect();
    Err(Usage::new(format!(
        "the network of {init} is not that of the configuration: {told}; make them the same, or say that they \
         differ: train.init_differs = [{}]",
        all.join(", ")
    ))
    .into())
}

/// What of the network or the objective differs between a checkpoint and an experiment, in words.
pub fn difference(experiment: &Experiment, metadata: &Metadata) -> Option<String> {
    let differences = differences(metadata, experiment);
    (!differences.is_empty()).then(|| told(&differences))
}

fn told(differences: &[Difference]) -> String {
    let each = differences
        .iter()
        .map(|Difference { key, theirs, ours }| format!("{key} is {theirs} there and {ours} here"));
    each.collect::<Vec<_>>().join(", ")
}

fn differences(metadata: &Metadata, experiment: &Experiment) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |key: String, theirs: String, ours: String| {
        if theirs != ours {
            differences.push(Difference { key, theirs, ours });
        }
    };
    let (theirs, ours) = (&metadata.model, &experiment.model);
    let fields = |model: &ModelConfig| match serde_json::to_value(model) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (their_fields, our_fields) = (fields(theirs), fields(ours));
    for (name, value) in &their_fields {
        let own = our_fields.get(name).unwrap_or(&Value::Null);
        if !APART.contains(&name.as_str()) {
            differ(format!("model.{name}"), value.to_string(), own.to_string());
        }
    }
    let their_side = metadata.image_size[0].min(metadata.image_size[1]);
    let our_side = experiment.size()[0].min(experiment.size()[1]);
    // Resolutions grow with the images; the levels of the network that attend do not.
    let (their_levels, our_levels) = (levels(theirs, their_side), levels(ours, our_side));
    if their_levels != our_levels {
        let (theirs, ours) = (at(theirs, their_side), at(ours, our_side));
        differ("model.attention".to_owned(), theirs, ours);
    } else if theirs.attention_kind.attends()
        && heads(theirs, &their_levels) != heads(ours, &our_levels)
    {
        let key = if theirs.num_heads != ours.num_heads { "num_heads" } else { "head_channels" };
        let words = |model: &ModelConfig| match model.num_heads {
            0 => format!("{} channels a head", model.head_channels),
            heads => format!("{heads} heads"),
        };
        differ(format!("model.{key}"), words(theirs), words(ours));
    }
    objective(&metadata.diffusion, &experiment.diffusion, &mut differ);
    differences
}

fn objective(
    theirs: &DiffusionConfig,
    ours: &DiffusionConfig,
    differ: &mut impl FnMut(String, String, String),
) {
    let mut compare = |name: &str, theirs: Value, ours: Value| {
        differ(format!("diffusion.{name}"), theirs.to_string(), ours.to_string());
    };
    let value = |of: &DiffusionConfig, name: &str| {
        serde_json::to_value(of).ok().and_then(|value| value.get(name).cloned()).unwrap_or_default()
    };
    let both = [theirs, ours].iter().all(|one| one.kind == Formulation::Diffusion);
    let names: &[&str] =
        if both { &["prediction", "residual", "training"] } else { &["kind", "residual"] };
    for &name in names {
        compare(name, value(theirs, name), value(ours, name));
    }
}

/// The levels of the network that attend, from the finest, but for the middle, which always does.
fn levels(model: &ModelConfig, side: u32) -> Vec<usize> {
    let resolutions = model.resolutions(side);
    let attends = |level: &usize| model.attention.contains(&resolutions[*level]);
    (0..resolutions.len()).filter(attends).collect()
}

/// These levels in words.
fn at(model: &ModelConfig, side: u32) -> String {
    let mut attention = model.attention.clone();
    attention.sort_unstable_by(|a, b| b.cmp(a));
    format!("{attention:?} of {side} pixels")
}

/// Heads of the attention of these levels and of the middle.
fn heads(model: &ModelConfig, levels: &[usize]) -> Vec<u32> {
    let middle = model.channel_mult.last();
    let widths = levels.iter().filter_map(|level| model.channel_mult.get(*level)).chain(middle);
    widths.map(|mult| model.heads(model.model_channels * mult)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn experiment(model: Value, diffusion: Value, differs: &[&str]) -> Experiment {
        Experiment::from_json(&json!({
            "name": "e",
            "data": {
                "datasets": [{ "uri": "d" }],
                "tasks": { "colorization": 1.0 },
                "image_size": 64,
            },
            "model": model,
            "diffusion": diffusion,
            "train": { "init_differs": differs },
        }))
        .unwrap()
    }

    fn network() -> Value {
        json!({
            "model_channels": 32, "channel_mult": [1, 2, 4], "attention": [16], "head_channels": 32,
            "norm_groups": 8,
        })
    }

    fn metadata(image_size: u32, attention: u32) -> Metadata {
        let mut model: ModelConfig = serde_json::from_value(network()).unwrap();
        model.attention = vec![attention];
        Metadata {
            step: 3,
            seed: 0,
            rewinds: 0,
            noise: random::GENERATION,
            stream: pipeline::GENERATION,
            image_size: [image_size; 2],
            model,
            diffusion: DiffusionConfig::default(),
            averages: vec![0.0],
            experiment: json!({}),
        }
    }

    fn checked(metadata: &Metadata, experiment: &Experiment) -> Result<(), String> {
        let init = "/weights".parse().unwrap();
        check(experiment, &init, metadata).map_err(|error| error.to_string())
    }

    #[test]
    fn what_differs_is_named_with_both_values_unless_it_may() {
        let same = experiment(network(), json!({}), &[]);
        assert_eq!(checked(&metadata(64, 16), &same), Ok(()));
        // The same level of images of another size.
        assert_eq!(checked(&metadata(32, 8), &same), Ok(()));
        let with = |key: &str, value: Value| {
            let mut network = network();
            network[key] = value;
            network
        };
        for (model, diffusion, key, values) in [
            (
                with("head_channels", json!(16)),
                json!({}),
                "model.head_channels",
                "32 channels a head",
            ),
            (with("num_heads", json!(2)), json!({}), "model.num_heads", "2 heads"),
            (with("attention_order", json!("new")), json!({}), "model.attention_order", "\"new\""),
            (
                with("norm_groups", json!(4)),
                json!({}),
                "model.norm_groups",
                "is 8 there and 4 here",
            ),
            (with("condition_first", json!(true)), json!({}), "model.condition_first", "true here"),
            (
                with("noise_embedding", json!("log_snr")),
                json!({}),
                "model.noise_embedding",
                "gamma",
            ),
            (with("attention", json!([32])), json!({}), "model.attention", "[32] of 64 pixels"),
            (network(), json!({ "prediction": "y0" }), "diffusion.prediction", "\"epsilon\" there"),
            (
                network(),
                json!({ "training": { "steps": 10, "start": 0.1, "end": 0.2 } }),
                "diffusion.training",
                "2000",
            ),
            (network(), json!({ "kind": "regression" }), "diffusion.kind", "\"regression\" here"),
        ] {
            let other = experiment(model.clone(), diffusion.clone(), &[]);
            let message = checked(&metadata(64, 16), &other).unwrap_err();
            let told = format!("train.init_differs = [\"{key}\"]");
            assert!(message.contains(&told) && message.contains(values), "{message}");
            let allowed = experiment(model, diffusion, &[key]);
            assert_eq!(checked(&metadata(64, 16), &allowed), Ok(()), "{key}");
        }
        // Heads by their number are compared as heads.
        let middle = |heads: u32| with("num_heads", json!(heads));
        let mut theirs = metadata(64, 16);
        theirs.model.channel_mult = vec![1, 1, 1];
        let mut ours = middle(1);
        ours["channel_mult"] = json!([1, 1, 1]);
        assert_eq!(checked(&theirs, &experiment(ours, json!({}), &[])), Ok(()));
        // What weights do not depend on may always differ.
        let free = experiment(with("dropout", json!(0.1)), json!({ "loss": "l1" }), &[]);
        assert_eq!(checked(&metadata(64, 16), &free), Ok(()));
    }
}
