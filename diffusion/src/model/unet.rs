//! The network itself: blocks built after the plan, and the forward pass.
use super::config::{ModelConfig, NoiseEmbedding};
use super::embedding::Embedding;
use super::layers::{Built, Convolution, Norm};
use super::plan::{Block, Plan};
use crate::{Error, Result};
use tch::nn::Path;
use tch::{Device, Tensor};

/// The U-Net. Its variables belong to the variable store that it was built in; [`crate::weights`]
/// fills, saves and loads them.
#[derive(Debug)]
pub struct UNet {
    config: ModelConfig,
    device: Device,
    embedding: Embedding,
    input: Vec<Stage>,
    middle: Stage,
    output: Vec<Stage>,
    out_norm: Norm,
    out_conv: Convolution,
}

#[derive(Debug)]
struct Stage {
    name: String,
    layers: Vec<Built>,
}

impl Stage {
    fn new(root: &Path, block: &Block, config: &ModelConfig, embedding: u32) -> Result<Stage> {
        let path = block.name.split('.').fold(root.clone(), |path, part| path / part);
        let layers = block
            .layers
            .iter()
            .enumerate()
            .map(|(i, &layer)| Built::new(&(&path / i), layer, config, embedding))
            .collect::<Result<_>>()?;
        Ok(Stage { name: block.name.clone(), layers })
    }

    fn forward(&self, x: Tensor, embedding: &Tensor, train: bool) -> Result<Tensor> {
        self.layers.iter().try_fold(x, |x, layer| layer.forward(&x, embedding, train))
    }
}

impl UNet {
    /// Builds the network for square images of this side in the variable store of `path`. All
    /// variables are zero: [`crate::weights::initialise`] or [`crate::weights::load`] comes next.
    pub fn new(path: &Path, config: &ModelConfig, image_size: u32) -> Result<UNet> {
        config.validate(image_size)?;
        let plan = Plan::new(config, image_size);
        let stage = |block: &Block| Stage::new(path, block, config, plan.embedding);
        let out = path / "out";
        Ok(UNet {
            config: config.clone(),
            device: path.device(),
            embedding: Embedding::new(path, config, plan.sinusoids, plan.embedding)?,
            input: plan.input.iter().map(stage).collect::<Result<_>>()?,
            middle: stage(&plan.middle)?,
            output: plan.output.iter().map(stage).collect::<Result<_>>()?,
            out_norm: Norm::new(&(&out / 0), plan.width, config)?,
            out_conv: Convolution::new(&(&out / 2), plan.width, plan.channels_out, 3, 1)?,
        })
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device of its variables.
    pub fn device(&self) -> Device {
        self.device
    }

    /// f(x, noise) without dropout: x `[B,6,H,W]` is the noisy image and the condition in the order
    /// of the configuration, noise `[B]` is γ (the time step with `noise_embedding = "timestep"`),
    /// the result `[B,3,H,W]`.
    pub fn forward(&self, x: &Tensor, noise: &Tensor) -> Result<Tensor> {
        self.run(x, noise, false, &mut |_, _| ())
    }

    /// As [`UNet::forward`], with dropout when training.
    pub fn forward_t(&self, x: &Tensor, noise: &Tensor, train: bool) -> Result<Tensor> {
        self.run(x, noise, train, &mut |_, _| ())
    }

    /// As [`UNet::forward`], and the output of every block by its name.
    pub fn forward_traced(
        &self,
        x: &Tensor,
        noise: &Tensor,
    ) -> Result<(Tensor, Vec<(String, Tensor)>)> {
        let mut trace = Vec::new();
        let y = self.run(x, noise, false, &mut |name, activation| {
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
        train: bool,
    ) -> Result<Tensor> {
        let x = if self.config.condition_first {
            Tensor::f_cat(&[condition, y], 1)?
        } else {
            Tensor::f_cat(&[y, condition], 1)?
        };
        self.forward_t(&x, noise, train)
    }

    /// Whether the noise input is a time step instead of γ.
    pub fn wants_timestep(&self) -> bool {
        self.config.noise_embedding == NoiseEmbedding::Timestep
    }

    fn run(
        &self,
        x: &Tensor,
        noise: &Tensor,
        train: bool,
        seen: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        self.check(x, noise)?;
        let patch = i64::from(self.config.patch);
        let embedding = self.embedding.forward(noise)?;
        let mut h = if patch > 1 { x.f_pixel_unshuffle(patch)? } else { x.shallow_clone() };
        let mut skips = Vec::with_capacity(self.input.len());
        for stage in &self.input {
            h = stage.forward(h, &embedding, train)?;
            seen(&stage.name, &h);
            skips.push(h.shallow_clone());
        }
        h = self.middle.forward(h, &embedding, train)?;
        seen(&self.middle.name, &h);
        for stage in &self.output {
            if let Some(skip) = skips.pop() {
                h = Tensor::f_cat(&[&h, &skip], 1)?;
            }
            h = stage.forward(h, &embedding, train)?;
            seen(&stage.name, &h);
        }
        let y = self.out_conv.forward(&self.out_norm.forward(&h)?.f_silu()?)?;
        Ok(if patch > 1 { y.f_pixel_shuffle(patch)? } else { y })
    }

    fn check(&self, x: &Tensor, noise: &Tensor) -> Result<()> {
        let factor = i64::from(self.config.patch) << (self.config.channel_mult.len() - 1);
        let size = x.size();
        let fits = matches!(size[..], [b, 6, h, w]
            if b > 0 && h > 0 && w > 0 && h % factor == 0 && w % factor == 0);
        if !fits {
            return Err(Error::Shape(format!(
                "the network takes [B,6,H,W] with sides that are multiples of {factor}, not {size:?}"
            )));
        }
        if noise.size() != [size[0]] {
            return Err(Error::Shape(format!(
                "{} images need as many noise levels, not {:?}",
                size[0],
                noise.size()
            )));
        }
        Ok(())
    }
}
