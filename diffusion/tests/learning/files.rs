//! Files of weights: written and read again, of others, and what they do not say.

use diffusion::weights::{Description, Format, Hints};
use diffusion::{
    AttentionOrder, DiffusionConfig, Error, Formulation, ModelConfig, NoiseEmbedding, Prediction,
    ScheduleConfig, UNet, weights,
};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::small::{device, floats, network, shake, tiny};

/// What an exported file says of a network, with an objective that is not the usual one.
fn described(model: &ModelConfig) -> Description {
    Description {
        format: Format::Adm,
        model: model.clone(),
        diffusion: DiffusionConfig {
            prediction: Prediction::Y0,
            residual: true,
            training: ScheduleConfig { steps: 100, start: 1e-4, end: 0.2 },
            sampling: ScheduleConfig { steps: 50, start: 1e-3, end: 0.3 },
            ..DiffusionConfig::default()
        },
        image_size: [16, 32],
        step: 7,
        trained: serde_json::json!({ "data": { "tasks": { "jpeg": 1.0 } } }),
    }
}

#[test]
fn weights_travel_in_either_naming() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig { patch: 1, norm_groups: 32, attention: vec![8], ..tiny() };
    let (store, unet) = network(&config, 3);
    shake(&store);
    let x = torch_ext::randn_keyed(&[1], &[6, 16, 16], device()).unwrap();
    let gamma = Tensor::from_slice(&[0.5_f32]).to_device(device());
    let expected = unet.forward(&x, &gamma).unwrap();
    let described = described(&config);
    let hints = Hints::default();
    for format in [Format::Adm, Format::Janspiry] {
        let path = folder.path().join("exported.safetensors");
        weights::export(&weights::named(&store), &described, format, &path).unwrap();
        let imported = weights::import(&path, format, &hints).unwrap();
        assert_eq!(imported.model.condition_first, format == Format::Janspiry);
        assert_eq!(imported.assumed, []);
        let whole = imported.description.unwrap();
        assert_eq!((whole.format, &whole.trained), (format, &described.trained));
        assert_eq!(
            (imported.diffusion, imported.image_size),
            (described.diffusion.clone(), [16, 32])
        );
        let again = VarStore::new(device());
        let unet = UNet::new(&again.root(), &imported.model, 16).unwrap();
        weights::assign(&again, &imported.weights, &path).unwrap();
        let x = if format == Format::Janspiry {
            Tensor::cat(&[x.narrow(1, 3, 3), x.narrow(1, 0, 3)], 1)
        } else {
            x.shallow_clone()
        };
        let off = (unet.forward(&x, &gamma).unwrap() - &expected).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{format:?}: {off}");
    }
    let path = folder.path().join("refused.safetensors");
    let odd = self::described(&ModelConfig { noise_embedding: NoiseEmbedding::LogSnr, ..config });
    let error = weights::export(&weights::named(&store), &odd, Format::Janspiry, &path);
    assert!(error.unwrap_err().to_string().contains("γ itself") && !path.exists());
}

/// A network of ADM as its authors publish it: classes, a learned variance, no condition.
#[test]
fn a_published_network_loses_classes_and_variance_and_gains_a_condition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("published.safetensors");
    let config = ModelConfig {
        patch: 1,
        attention: vec![8],
        noise_embedding: NoiseEmbedding::Timestep,
        ..tiny()
    };
    let (store, _) = network(&config, 3);
    shake(&store);
    let mut published = weights::named(&store);
    for (name, tensor) in &mut published {
        match name.as_str() {
            "input_blocks.0.0.weight" => *tensor = tensor.narrow(1, 0, 3),
            "out.2.weight" | "out.2.bias" => {
                *tensor = Tensor::cat(&[&*tensor, &(&*tensor * 7.0)], 0)
            }
            _ => {}
        }
    }
    published.push(("label_emb.weight".to_owned(), Tensor::ones([10, 128], floats())));
    weights::save_tensors(&published, &path).unwrap();
    let hints = Hints { image_size: Some(16), head_channels: Some(32), ..Hints::default() };
    let imported = weights::import(&path, Format::Adm, &hints).unwrap();
    let notes = imported.notes.join("; ");
    for word in ["10 classes", "variance", "from 3 to 6"] {
        assert!(notes.contains(word), "{notes}");
    }
    let taken: std::collections::BTreeMap<_, _> = imported.weights.into_iter().collect();
    let input = &taken["input_blocks.0.0.weight"];
    assert_eq!(input.size()[1], 6);
    assert_eq!(input.narrow(1, 3, 3).abs().max().double_value(&[]), 0.0);
    assert_eq!(taken["out.2.bias"], store.variables()["out.2.bias"].to_device(Device::Cpu));
    // Other networks are refused with a name.
    for (name, words) in [("time_embed.0.weight", "is missing"), ("out.2.weight", "is missing")] {
        let less: Vec<_> = published
            .iter()
            .filter(|(n, _)| n != name)
            .map(|(n, t)| (n.clone(), t.shallow_clone()))
            .collect();
        weights::save_tensors(&less, &path).unwrap();
        let error = weights::import(&path, Format::Adm, &hints).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
}

/// Weights of a file that says nothing of itself, as tensors under these names.
fn foreign(path: &std::path::Path, prefixes: &[&str]) -> (ModelConfig, usize) {
    let config = ModelConfig {
        patch: 1,
        attention: vec![8],
        noise_embedding: NoiseEmbedding::Timestep,
        ..tiny()
    };
    let (store, _) = network(&config, 3);
    shake(&store);
    let named = weights::named(&store);
    let all = prefixes.iter().zip(1_i64..).flat_map(|(prefix, number)| {
        named.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor * number))
    });
    weights::save_tensors(&all.collect::<Vec<_>>(), path).unwrap();
    (config, named.len())
}

#[test]
fn what_a_file_does_not_say_is_assumed_and_listed_unless_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.safetensors");
    let (config, _) = foreign(&path, &["module."]);
    let hints = Hints { image_size: Some(16), head_channels: Some(32), ..Hints::default() };
    let imported = weights::import(&path, Format::Adm, &hints).unwrap();
    assert_eq!((&imported.model, &imported.diffusion.training), (&config, &ScheduleConfig::ADM));
    let options: Vec<&str> = imported.assumed.iter().map(|assumed| assumed.option).collect();
    for option in ["--attention-order", "--noise-embedding", "--prediction", "--training-schedule"]
    {
        assert!(options.contains(&option), "{option}: {options:?}");
    }
    assert!(!options.contains(&"--image-size"), "{options:?}");
    // All of it can be told; nothing is assumed then.
    let training = ScheduleConfig { steps: 100, start: 1e-3, end: 0.1 };
    let told = Hints {
        num_heads: Some(4),
        head_channels: None,
        attention_order: Some(AttentionOrder::New),
        noise_embedding: Some(NoiseEmbedding::SqrtGamma),
        norm_groups: Some(16),
        condition_first: Some(true),
        kind: Some(Formulation::Diffusion),
        prediction: Some(Prediction::Y0),
        residual: Some(true),
        training: Some(training),
        sampling: Some(training),
        ..hints.clone()
    };
    let imported = weights::import(&path, Format::Adm, &told).unwrap();
    assert_eq!(imported.assumed, []);
    let model = &imported.model;
    assert_eq!((model.num_heads, model.norm_groups, model.condition_first), (4, 16, true));
    assert_eq!([32, 64].map(|channels| model.heads(channels)), [4, 4]);
    assert_eq!(
        (imported.diffusion.prediction, imported.diffusion.residual),
        (Prediction::Y0, true)
    );
    // What cannot be, and what the file contradicts, names its option.
    let refused = |path: &std::path::Path, hints: Hints, word: &str| {
        let error = weights::import(path, Format::Adm, &hints).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let base = || hints.clone();
    refused(&path, Hints { head_channels: Some(48), ..base() }, "--head-channels or --num-heads");
    refused(&path, Hints { residual: Some(true), ..base() }, "--residual");
    let kind = Some(Formulation::Regression);
    refused(&path, Hints { kind, prediction: Some(Prediction::V), ..base() }, "--prediction");
    let (store, _) = network(&config, 3);
    let ours = folder.path().join("ours.safetensors");
    weights::export(&weights::named(&store), &described(&config), Format::Adm, &ours).unwrap();
    refused(&ours, Hints { image_size: Some(64), ..Hints::default() }, "leave --image-size out");
    let prediction = Some(Prediction::Epsilon);
    refused(&ours, Hints { prediction, ..Hints::default() }, "leave --prediction out");
    refused(&ours, Hints { num_heads: Some(2), ..Hints::default() }, "leave --head-channels");
}

/// As versions before wrote it: the network without its objective, which is assumed and listed.
#[test]
fn an_export_of_before_says_what_network_it_is_and_nothing_of_its_objective() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    let config = tiny();
    let (store, _) = network(&config, 3);
    let description = [("palette.model".to_owned(), serde_json::to_string(&config).unwrap())];
    weights::save_described(&weights::named(&store), description.into(), &path).unwrap();
    let hints = Hints { image_size: Some(16), ..Hints::default() };
    let imported = weights::import(&path, Format::Adm, &hints).unwrap();
    assert_eq!((imported.model, imported.diffusion), (config, DiffusionConfig::default()));
    let options: Vec<&str> = imported.assumed.iter().map(|assumed| assumed.option).collect();
    assert_eq!(options, ["--kind", "--prediction", "--training-schedule", "--sampling-schedule"]);
    assert!(weights::describe(&path).unwrap().is_none());
    // And a description of a later version is refused.
    let later = [("palette.checkpoint".to_owned(), "{\"version\": 2, \"more\": 1}".to_owned())];
    weights::save_described(&weights::named(&store), later.into(), &path).unwrap();
    let error = weights::import(&path, Format::Adm, &hints).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("update"), "{error}");
}

#[test]
fn of_several_networks_in_a_file_the_ema_is_taken_or_the_one_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.safetensors");
    let (_, count) = foreign(&path, &["state_dict.model.", "state_dict.ema."]);
    let hints = Hints { image_size: Some(16), head_channels: Some(32), ..Hints::default() };
    let bias = |state_dict: Option<&str>| {
        let hints = Hints { state_dict: state_dict.map(str::to_owned), ..hints.clone() };
        let imported = weights::import(&path, Format::Adm, &hints).unwrap();
        assert_eq!(imported.weights.len(), count);
        let bias = imported.weights.iter().find(|(name, _)| name == "out.2.bias").unwrap();
        bias.1.double_value(&[0])
    };
    let (model, ema) = (bias(Some("model")), bias(Some("ema")));
    assert!(model != 0.0 && (ema - 2.0 * model).abs() < 1e-6, "{model}, {ema}");
    assert_eq!(bias(None), ema);
}

#[test]
fn weights_that_are_not_finite_are_named_and_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    let config = tiny();
    let (store, _) = network(&config, 3);
    for bad in [f64::NAN, f64::INFINITY] {
        let mut named = weights::named(&store);
        let (_, tensor) = named.iter_mut().find(|(name, _)| name == "out.2.bias").unwrap();
        *tensor = tensor.full_like(bad);
        weights::export(&named, &described(&config), Format::Adm, &path).unwrap();
        let error = weights::import(&path, Format::Adm, &Hints::default()).unwrap_err();
        assert!(
            matches!(&error, Error::NonFinite { tensor, .. } if tensor == "out.2.bias"),
            "{error}"
        );
        let forced = Hints { allow_non_finite: true, ..Hints::default() };
        assert!(weights::import(&path, Format::Adm, &forced).is_ok());
    }
}
