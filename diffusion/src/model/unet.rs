//! The network itself: blocks built after the architecture, and the forward pass.
use super::architecture::{Architecture, Block};
use super::config::{ModelConfig, NoiseEmbedding, Precision};
use super::embedding::Embedding;
use super::layers::{Built, Convolution, Norm};
use crate::noise;
use crate::{Error, Result};
use std::rc::Rc;
use tch::nn::Path;
use tch::{Device, Kind, Tensor};

/// How the network is computed; the mathematics stay the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Execution {
    /// The numbers that it computes in.
    pub precision: Precision,
    /// Activation checkpointing: a training pass keeps what goes into each block, and the backward
    /// pass computes the inside of each once more. A third more work, a fraction of the memory.
    pub recompute: bool,
}

/// What a pass through the network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass<'a> {
    /// No dropout.
    Evaluate,
    /// With dropout, whose masks are functions of each image's key.
    Train(&'a [u64]),
}

/// The U-Net. Its variables belong to the variable store that it was built in; [`crate::weights`]
/// fills, saves and loads them.
#[derive(Debug)]
pub struct UNet {
    config: ModelConfig,
    device: Device,
    execution: Execution,
    embedding: Embedding,
    input: Vec<Rc<Stage>>,
    middle: Rc<Stage>,
    output: Vec<Rc<Stage>>,
    out_norm: Norm,
    out_conv: Convolution,
}

/// A block, with its place among all blocks.
#[derive(Debug)]
struct Stage {
    name: String,
    index: u32,
    layers: Vec<Built>,
}

impl Stage {
    /// `parts` are what the block before gives and, on the way up, the skip connection.
    fn forward(&self, parts: &[&Tensor], embedding: &Tensor, keys: &[u64]) -> Result<Tensor> {
        let mut x = match parts {
            [x] => x.shallow_clone(),
            _ => Tensor::f_cat(parts, 1)?,
        };
        for (layer, number) in self.layers.iter().zip(0..) {
            let place = noise::Purpose::Dropout { block: self.index, layer: number };
            let keys: Vec<u64> = keys.iter().map(|&key| noise::derive(key, place)).collect();
            x = layer.forward(&x, embedding, &keys)?;
        }
        Ok(x)
    }
}

impl UNet {
    /// Builds the network for images of this shorter side in the variable store of `path`; it takes
    /// images of other sizes too, `attention` keeps its levels. All variables are zero:
    /// [`crate::weights::initialise`] or [`crate::weights::load`] comes next. Their memory layout is
    /// final.
    pub fn new(path: &Path, config: &ModelConfig, short_side: u32) -> Result<UNet> {
        config.validate([short_side; 2])?;
        let architecture = Architecture::new(config, short_side);
        let mut count = 0;
        let mut stage = |block: &Block| -> Result<Rc<Stage>> {
            let path = block.name.split('.').fold(path.clone(), |path, part| path / part);
            let layers = block
                .layers
                .iter()
                .enumerate()
                .map(|(i, &layer)| Built::new(&(&path / i), layer, config, architecture.embedding))
                .collect::<Result<_>>()?;
            count += 1;
            Ok(Rc::new(Stage { name: block.name.clone(), index: count, layers }))
        };
        let out = path / "out";
        Ok(UNet {
            config: config.clone(),
            device: path.device(),
            execution: Execution::default(),
            embedding: Embedding::new(
                path,
                config,
                architecture.sinusoids,
                architecture.embedding,
            )?,
            input: architecture.input.iter().map(&mut stage).collect::<Result<_>>()?,
            middle: stage(&architecture.middle)?,
            output: architecture.output.iter().map(&mut stage).collect::<Result<_>>()?,
            out_norm: Norm::new(&(&out / 0), architecture.width, config)?,
            out_conv: Convolution::new(
                &(&out / 2),
                architecture.width,
                architecture.channels_out,
                3,
            )?,
        })
    }

    /// The same network, computed otherwise.
    #[must_use]
    pub fn executed(self, execution: Execution) -> UNet {
        UNet { execution, ..self }
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device of its variables.
    pub fn device(&self) -> Device {
        self.device
    }

    /// f(x, noise): x `[B,6,H,W]` is the noisy image and the condition in the order of the
    /// configuration, noise is γ (the time step with `noise_embedding = "timestep"`), `[B]` or `[1]`
    /// for all images, the result `[B,3,H,W]`. All f32.
    pub fn forward(&self, x: &Tensor, noise: &Tensor) -> Result<Tensor> {
        self.run(x, noise, Pass::Evaluate, &mut |_, _| ())
    }

    /// As [`UNet::forward`], and the output of every block by its name.
    pub fn forward_traced(
        &self,
        x: &Tensor,
        noise: &Tensor,
    ) -> Result<(Tensor, Vec<(String, Tensor)>)> {
        let mut trace = Vec::new();
        let y = self.run(x, noise, Pass::Evaluate, &mut |name, activation| {
            trace.push((name.to_owned(), activation.shallow_clone()));
        })?;
        Ok((y, trace))
    }

    /// Joins the noisy image y and the condition (both `[B,3,H,W]`) in the order of the
    /// configuration and runs the network on them.
    pub fn denoise(
        &self,
        y: &Tensor,
        condition: &Tensor,
        noise: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        let x = if self.config.condition_first {
            Tensor::f_cat(&[condition, y], 1)?
        } else {
            Tensor::f_cat(&[y, condition], 1)?
        };
        self.run(&x, noise, pass, &mut |_, _| ())
    }

    /// Whether the noise input is a time step instead of γ.
    pub fn wants_timestep(&self) -> bool {
        self.config.noise_embedding == NoiseEmbedding::Timestep
    }

    fn run(
        &self,
        x: &Tensor,
        noise: &Tensor,
        pass: Pass<'_>,
        seen: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        self.check(x, noise)?;
        let patch = i64::from(self.config.patch);
        let embedding = self.embedding.forward(noise)?;
        let mut h = if patch > 1 { x.f_pixel_unshuffle(patch)? } else { x.shallow_clone() };
        h = torch_ext::to_channels_last(&h)?;
        if self.execution.precision == Precision::Bf16 {
            h = h.f_to_kind(Kind::BFloat16)?;
        }
        let mut skips = Vec::with_capacity(self.input.len());
        for stage in &self.input {
            h = self.block(stage, &[&h], &embedding, pass)?;
            seen(&stage.name, &h);
            skips.push(h.shallow_clone());
        }
        h = self.block(&self.middle, &[&h], &embedding, pass)?;
        seen(&self.middle.name, &h);
        for stage in &self.output {
            h = match skips.pop() {
                Some(skip) => self.block(stage, &[&h, &skip], &embedding, pass)?,
                None => self.block(stage, &[&h], &embedding, pass)?,
            };
            seen(&stage.name, &h);
        }
        let y = self.out_conv.widened(&self.out_norm.silu(&h)?)?;
        Ok(if patch > 1 { y.f_pixel_shuffle(patch)? } else { y })
    }

    fn block(
        &self,
        stage: &Rc<Stage>,
        parts: &[&Tensor],
        embedding: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        let keys: Vec<u64> = match pass {
            Pass::Evaluate => return stage.forward(parts, embedding, &[]),
            Pass::Train(keys) if self.config.dropout > 0.0 => keys.to_vec(),
            Pass::Train(_) => Vec::new(),
        };
        if !self.execution.recompute {
            return stage.forward(parts, embedding, &keys);
        }
        let stage = Rc::clone(stage);
        let inputs: Vec<&Tensor> = parts.iter().copied().chain([embedding]).collect();
        Ok(torch_ext::segment(&inputs, move |inputs| {
            let (embedding, parts) = inputs.split_last().ok_or_else(|| {
                torch_ext::Error::Mismatch("a block was entered without its inputs".to_owned())
            })?;
            let parts: Vec<&Tensor> = parts.iter().collect();
            stage
                .forward(&parts, embedding, &keys)
                .map_err(|error| torch_ext::Error::Torch(torch_ext::one_line(&error.to_string())))
        })?)
    }

    fn check(&self, x: &Tensor, noise: &Tensor) -> Result<()> {
        let factor = i64::from(self.config.factor());
        let size = x.size();
        let fits = matches!(size[..], [b, 6, h, w]
            if b > 0 && h > 0 && w > 0 && h % factor == 0 && w % factor == 0);
        if !fits {
            return Err(Error::Shape(format!(
                "the network takes [B,6,H,W] with sides that are multiples of {factor}, not {size:?}"
            )));
        }
        if noise.size() != [size[0]] && noise.size() != [1] {
            return Err(Error::Shape(format!(
                "{} images need as many noise levels, or one, not {:?}",
                size[0],
                noise.size()
            )));
        }
        Ok(())
    }
}
