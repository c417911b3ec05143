//! Weights: ours, those of other systems, and what a checkpoint says of itself.

use std::io::Read;
use std::path::Path;

use diffusion::checkpoint::{Checkpoint, Component, Metadata, Snapshot};
use diffusion::weights::{Description, Format, Hints, describe, export, import, initialise, named};
use diffusion::{DiffusionConfig, ModelConfig, UNet};
use serde_json::json;
use tch::{Device, Kind, Tensor, nn::VarStore};

use super::{chosen, ways, write, zipped};
use crate::{SOME, Target, mend};

pub const SAFETENSORS: Target = Target {
    name: "safetensors",
    about: "weights of ours and of other systems as safetensors",
    memory: SOME,
    run: |bytes, scratch| bring_in(bytes, &scratch.join("weights.safetensors")),
    seeds: || {
        let scratch = crate::scratch().expect("a folder");
        let path = scratch.path().join("weights.safetensors");
        let store = VarStore::new(Device::Cpu);
        UNet::new(&store.root(), &network(), 8).expect("a sound network");
        initialise(&store, 7).expect("a sound network");
        let description = Description {
            format: Format::Adm,
            model: network(),
            diffusion: DiffusionConfig::default(),
            image_size: [8, 8],
            step: 3,
            trained: json!({ "name": "a" }),
        };
        export(&named(&store), &description, Format::Adm, &path).expect("a sound network");
        let whole = std::fs::read(&path).expect("what was just written");
        let one = diffusion::weights::save_tensors(&tensors(), &path);
        one.expect("a folder in memory takes a tensor");
        vec![whole, std::fs::read(&path).expect("what was just written")]
    },
};

pub const PICKLE: Target = Target {
    name: "pickle",
    about: "what torch.save wrote: a pickle in a sound archive, archives with checksums made right, legacy files",
    memory: SOME,
    run: |bytes, scratch| {
        let (way, bytes) = chosen(bytes, 2);
        let mut file = bytes.to_vec();
        match way {
            0 => mend::zip(&mut file),
            _ => {
                let numbers = [0; 256];
                let members = [
                    ("a/data.pkl", bytes),
                    ("a/byteorder", b"little"),
                    ("a/data/0", &numbers[..]),
                    ("a/data/1", &numbers[..]),
                    ("a/version", b"3\n"),
                ];
                file = zipped(&members, false);
            }
        }
        bring_in(&file, &scratch.join("weights.pth"));
    },
    seeds: || {
        let archives = [
            &include_bytes!("../../../diffusion/tests/pth/plain.pth")[..],
            include_bytes!("../../../diffusion/tests/pth/wrapped.pth"),
            include_bytes!("../../../diffusion/tests/pth/protocol4.pth"),
        ];
        let legacy = [
            &include_bytes!("../../../diffusion/tests/pth/plain_legacy.pth")[..],
            include_bytes!("../../../diffusion/tests/pth/protocol5_legacy.pth"),
            include_bytes!("../../../diffusion/tests/pth/several_legacy.pth"),
            include_bytes!("../../../diffusion/tests/pth/sparse_legacy.pth"),
            include_bytes!("../../../diffusion/tests/pth/attack_legacy.pth"),
        ];
        let both = archives.iter().map(|archive| ways([archive.to_vec(), pickle_of(archive)]));
        let legacy = legacy.iter().map(|file| ways([file.to_vec()]));
        both.chain(legacy).flatten().collect()
    },
};

pub const STATE: Target = Target {
    name: "state",
    about: "state.json of a checkpoint",
    memory: SOME,
    run: |bytes, scratch| {
        let folder = scratch.join("step-00000003");
        for name in ["model.safetensors", "ema.safetensors", "optimizer.safetensors"] {
            write(&folder.join(name), &file());
        }
        write(&folder.join("state.json"), bytes);
        let Ok(checkpoint) = Checkpoint::open(&folder) else { return };
        let _ = checkpoint.check_resumable();
        let _ = checkpoint.verify();
        let _ = (checkpoint.description(), checkpoint.files(), checkpoint.bytes());
        for component in [Component::Model, Component::Ema(0), Component::Ema(7)] {
            let _ = checkpoint.read(component);
            let _ = checkpoint.read_weights(component);
        }
    },
    seeds: || {
        let scratch = crate::scratch().expect("a folder");
        let snapshot =
            Snapshot { model: tensors(), averages: vec![tensors()], optimizer: Some(tensors()) };
        let metadata = Metadata {
            step: 3,
            seed: 7,
            rewinds: 0,
            noise: random::GENERATION,
            stream: 1,
            image_size: [8, 8],
            model: network(),
            diffusion: DiffusionConfig::default(),
            averages: vec![0.99],
            experiment: json!({ "name": "a", "train": { "precision": "fp32" } }),
        };
        let written = Checkpoint::write(scratch.path(), &snapshot, metadata).expect("a folder");
        vec![std::fs::read(written.folder().join("state.json")).expect("what was just written")]
    },
};

/// Reads weights as `trainer import` and as a sampler do that is given the file.
fn bring_in(bytes: &[u8], path: &Path) {
    write(path, bytes);
    let _ = describe(path);
    for format in [Format::Adm, Format::Janspiry] {
        let _ = import(path, format, &Hints::default());
    }
    if let Ok(checkpoint) = Checkpoint::open(path) {
        let _ = checkpoint.read_weights(Component::Ema(0));
    }
}

/// As small as a network can be.
fn network() -> ModelConfig {
    ModelConfig {
        model_channels: 8,
        channel_mult: vec![1],
        res_blocks: 1,
        attention: Vec::new(),
        head_channels: 8,
        norm_groups: 8,
        ..ModelConfig::default()
    }
}

fn tensors() -> Vec<(String, Tensor)> {
    vec![("a.weight".to_owned(), Tensor::ones([2, 3], (Kind::Float, Device::Cpu)))]
}

/// A weights file of one tensor.
fn file() -> Vec<u8> {
    let header = br#"{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}} "#;
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header, &1f32.to_le_bytes().repeat(6)].concat()
}

/// The pickle within what torch.save wrote.
fn pickle_of(archive: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).expect("torch's own");
    let mut pickle = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).expect("torch's own");
        if member.name().is_ok_and(|name| name.ends_with("data.pkl")) {
            member.read_to_end(&mut pickle).expect("torch's own");
        }
    }
    pickle
}
