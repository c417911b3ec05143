//! What memory a network takes, found from its architecture by walking through a step as autograd does: which
//! tensors are kept on the way forward, and which gradients are alive beside them on the way back. Each
//! tensor counts as the allocator counts it.
//!
//! Not found but allowed for are the workspaces of libraries ([`WORKSPACES`]). Outside of what is counted
//! are the CUDA context with its kernels, and what the allocator holds without using it.
use super::architecture::{Architecture, Block, Layer, Resample};
use super::config::{ModelConfig, Precision};
use crate::Result;
use serde::Serialize;

/// CUDA's allocator hands out blocks of multiples of this.
const BLOCK: u64 = 512;

/// Bytes that cuDNN and cuBLAS may want beside a step's tensors on a GPU: 32 MiB for each of cuBLAS's
/// handles, and room for the convolutions that cuDNN tries. An allowance; it was not measured.
const WORKSPACES: u64 = 1 << 30;

/// f32 numbers a pixel that the objective holds: two images and a mask, noise, the noisy image and what
/// is kept of it, the condition, the input of the network twice (joined; channels innermost), its output,
/// the target, their difference and its square.
const OBJECTIVE: u64 = 3 + 3 + 1 + 3 + 3 + 3 + 3 + 2 * 6 + 4 * 3;

/// Bytes a pixel of a batch as the loader gives it: two images and a mask.
const STAGED: u64 = 7;

/// How a training step is computed, as far as its memory depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingStep {
    /// Images that go through the network at once.
    pub images: u64,
    /// The numbers that it computes in.
    pub precision: Precision,
    /// Activations are computed once more on the way back.
    pub recompute: bool,
    /// Moving averages of the weights.
    pub averages: u64,
    /// On a GPU, else on the CPU.
    pub cuda: bool,
    /// Flat buffers that the gradients of several ranks or shares are added up in; 0 where each gradient is a
    /// tensor of its own.
    pub buffers: u64,
    /// Ranks that divide the moments and averages among them; 1 where each has all.
    pub holders: u64,
}

/// Numbers that every tensor in a flat one begins at a multiple of (`torch_ext::flat`).
const ALIGNED: u64 = 64;

/// Bytes that a training step holds at its worst moment, by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights, f32.
    pub weights: u64,
    /// Their gradients, f32.
    pub gradients: u64,
    /// Adam's two moments, f32.
    pub moments: u64,
    /// Moving averages of the weights, f32.
    pub averages: u64,
    /// The weights once more as bf16, where the network computes in it.
    pub bf16_weights: u64,
    /// The micro-batch, its noise and its loss; on a GPU the next one's bytes too.
    pub images: u64,
    /// What the network keeps for the way back, at the worst moment.
    pub activations: u64,
    /// Gradients that are under way then, those of the layer at work and of skip connections.
    pub flowing: u64,
    /// What putting the weights of several holders together takes beyond activations and gradients under way, which
    /// are gone by then.
    pub joined: u64,
    /// Allowed for libraries; 0 on the CPU.
    pub workspaces: u64,
}

impl Memory {
    /// What is there between two steps.
    pub fn state(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.averages + self.bf16_weights
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let step = self.images + self.activations + self.flowing + self.joined;
        self.state() + step + self.workspaces
    }
}

impl ModelConfig {
    /// What a training step on images of this height and width takes; also validates the network.
    pub fn memory(&self, size: [u32; 2], step: TrainingStep) -> Result<Memory> {
        let weights = self.complexity(size)?.weights;
        let walk = Walk::new(self, size, step);
        let half = step.precision == Precision::Bf16;
        // A tensor at a time, as each takes whole blocks.
        let state =
            |width: u64| weights.iter().map(|&count| walk.block(count * width)).sum::<u64>();
        let flat: u64 = weights.iter().map(|count| 4 * count.next_multiple_of(ALIGNED)).sum();
        // Whole tensors are divided, so a rank has up to one more than its part.
        let most = weights.iter().max().copied().unwrap_or(0);
        let held = match step.holders {
            0 | 1 => state(4),
            holders => state(4).min(state(4).div_ceil(holders) + walk.block(4 * most)),
        };
        let pixels = u64::from(size[0]) * u64::from(size[1]) * step.images;
        let staged = if step.cuda { STAGED } else { 0 };
        let (activations, flowing) = walk.worst();
        Ok(Memory {
            weights: state(4),
            gradients: if step.buffers > 0 { step.buffers * walk.block(flat) } else { state(4) },
            moments: 2 * held,
            averages: step.averages * held,
            bf16_weights: if half { state(2) } else { 0 },
            images: pixels * (4 * OBJECTIVE + staged),
            activations,
            flowing,
            joined: if step.holders > 1 { flat.saturating_sub(activations + flowing) } else { 0 },
            workspaces: if step.cuda { WORKSPACES } else { 0 },
        })
    }

    /// Bytes that the activations of an image take at most in a pass without a way back.
    pub fn pass_bytes(&self, size: [u32; 2], precision: Precision) -> Result<u64> {
        self.validate(size)?;
        let step = TrainingStep {
            images: 1,
            precision,
            recompute: false,
            averages: 0,
            cuda: false,
            buffers: 0,
            holders: 1,
        };
        let walk = Walk::new(self, size, step);
        let skips: u64 = walk.down().map(|block| block.output).sum();
        Ok(skips + walk.blocks.iter().map(|block| block.pass).max().unwrap_or(0))
    }
}

/// A layer on the way back.
struct Kept {
    /// Kept of it on the way forward.
    kept: u64,
    /// The most that is alive beside what was kept before it, less what was kept of it: gradients, when
    /// some of what was kept is no longer needed.
    beside: u64,
}

/// A block with its layers.
struct Stage {
    layers: Vec<Kept>,
    /// What goes in; on the way up joined with the skip connection.
    input: u64,
    /// What comes out.
    output: u64,
    /// Whether the input was joined.
    joined: bool,
    /// The most that a pass without a way back has alive in it.
    pass: u64,
}

impl Stage {
    fn kept(&self) -> u64 {
        self.layers.iter().map(|layer| layer.kept).sum()
    }
}

/// A step through the network.
struct Walk {
    step: TrainingStep,
    groups: u64,
    embedding: u64,
    dropout: bool,
    config: ModelConfig,
    /// Blocks in the order in which they run, and how many of them are on the way down.
    blocks: Vec<Stage>,
    input_blocks: usize,
    /// The last norm and convolution.
    end: Kept,
}

impl Walk {
    fn new(config: &ModelConfig, size: [u32; 2], step: TrainingStep) -> Walk {
        let (short, long) = (size[0].min(size[1]), size[0].max(size[1]));
        let architecture = Architecture::new(config, short);
        // Sides are multiples of the whole downsampling, so this is exact.
        let area = |resolution: u32| {
            u64::from(resolution) * (u64::from(resolution) * u64::from(long) / u64::from(short))
        };
        let mut walk = Walk {
            step,
            groups: u64::from(config.norm_groups),
            embedding: u64::from(architecture.embedding),
            dropout: config.dropout > 0.0,
            config: config.clone(),
            blocks: Vec::new(),
            input_blocks: architecture.input.len(),
            end: Kept { kept: 0, beside: 0 },
        };
        let ways = architecture.input.len() + 1;
        walk.blocks = architecture
            .blocks()
            .enumerate()
            .map(|(number, block)| walk.stage(block, area(block.resolution), number >= ways))
            .collect();
        let x = walk.activations(u64::from(architecture.width), area(architecture.resolution));
        // The input of the norm and of the convolution; then their gradients.
        walk.end = Kept { kept: 2 * x + walk.statistics(), beside: 2 * x };
        walk
    }

    fn down(&self) -> impl Iterator<Item = &Stage> {
        self.blocks.iter().take(self.input_blocks)
    }

    fn stage(&self, block: &Block, pixels: u64, joined: bool) -> Stage {
        let input = self.activations(u64::from(block.entered()), pixels);
        let mut stage = Stage { layers: Vec::new(), input, output: 0, joined, pass: 0 };
        let mut pixels = pixels;
        for &layer in &block.layers {
            let (kept, channels, after, pass) = self.layer(layer, pixels);
            stage.layers.push(kept);
            stage.output = self.activations(channels, after);
            // What was joined is alive beside the parts.
            stage.pass = stage.pass.max(pass + if joined { input } else { 0 });
            pixels = after;
        }
        stage
    }

    /// A layer on the way back, the channels and pixels that leave it, and the most that is alive in it
    /// without a way back.
    fn layer(&self, layer: Layer, pixels: u64) -> (Kept, u64, u64, u64) {
        match layer {
            Layer::Convolution { from, to } => {
                let (from, to) = (u64::from(from), u64::from(to));
                let (x, y) = (self.activations(from, pixels), self.activations(to, pixels));
                let beside = x + y + self.weights(9 * from * to);
                (Kept { kept: x, beside }, to, pixels, x + y)
            }
            Layer::Residual { from, to, resample, .. } => {
                self.residual(u64::from(from), u64::from(to), resample, pixels)
            }
            Layer::Attention { channels, .. } => self.attention(u64::from(channels), pixels),
            Layer::Downsample { channels } => {
                let channels = u64::from(channels);
                let x = self.activations(channels, pixels);
                let y = self.activations(channels, pixels / 4);
                let beside = x + y + self.weights(9 * channels * channels);
                (Kept { kept: x, beside }, channels, pixels / 4, x + y)
            }
            Layer::Upsample { channels } => {
                let channels = u64::from(channels);
                let x = self.activations(channels, pixels);
                let y = self.activations(channels, 4 * pixels);
                let beside = 2 * y + x + self.weights(9 * channels * channels);
                (Kept { kept: y, beside }, channels, 4 * pixels, x + 2 * y)
            }
        }
    }

    fn residual(
        &self,
        from: u64,
        to: u64,
        resample: Resample,
        pixels: u64,
    ) -> (Kept, u64, u64, u64) {
        let after = match resample {
            Resample::Keep => pixels,
            Resample::Down => pixels / 4,
            Resample::Up => pixels * 4,
        };
        let x = self.activations(from, pixels);
        let (resized, wide) = (self.activations(from, after), self.activations(to, after));
        // The input of the norm; pooling keeps its own; the inputs of the convolution, of the second
        // norm and of the second convolution; scale and shift.
        let first = x + if resample == Resample::Down { x } else { 0 } + self.statistics();
        let modulation = self.block(2 * to * 4 * self.step.images) + self.embedding();
        let second = wide + self.statistics() + modulation;
        let mut third = wide;
        if self.dropout {
            third += 2 * wide; // the mask and what it is applied to
        }
        let (mut first, mut second) = (first, second);
        if !self.fused() {
            first += x; // the input of SiLU
            second += 2 * wide; // of scale and shift, and of SiLU
        }
        let kept = first + resized + second + third;
        // The gradient of the shortcut is alive all the while. Back through the second convolution, the
        // second norm and the first convolution, the first norm.
        let back = [
            kept + resized + 2 * wide + self.weights(9 * to * to),
            kept - third - second + resized + wide + resized + self.weights(9 * from * to),
            first + x + 2 * x + if resample == Resample::Keep { 0 } else { resized },
        ];
        let worst = back.into_iter().max().unwrap_or(kept);
        let pass = 3 * x.max(resized) + 4 * wide;
        (Kept { kept, beside: worst - kept }, to, after, pass)
    }

    fn attention(&self, channels: u64, pixels: u64) -> (Kept, u64, u64, u64) {
        let x = self.activations(channels, pixels);
        let heads = u64::from(self.config.heads(u32::try_from(channels).unwrap_or(u32::MAX)));
        let sums = self.block(4 * heads * pixels * self.step.images);
        // The inputs of the norm and of qkv, q, k and v, what attention gives, the sums of its softmax.
        let kept = x + self.statistics() + x + 3 * x + x + sums;
        // The gradient of the shortcut and of what attention gave; of q, k and v, once more each in the
        // shape of all three; a sum in f32.
        let beside = 2 * x + 3 * x + 9 * x + x * 4 / self.step.precision.bytes();
        (Kept { kept, beside }, channels, pixels, 7 * x)
    }

    /// Bytes kept at the worst moment of the way back, and bytes of gradients then.
    fn worst(&self) -> (u64, u64) {
        let recompute = self.step.recompute;
        // Recomputing keeps what goes into each block: what the one before gave. Skip connections are
        // among it.
        let entered = |number: usize| match number.checked_sub(1).and_then(|n| self.blocks.get(n)) {
            Some(before) => before.output,
            None => self.blocks.first().map_or(0, |block| block.input),
        };
        let mut kept = if recompute {
            (0..self.blocks.len()).map(entered).sum()
        } else {
            self.blocks.iter().map(Stage::kept).sum::<u64>()
        };
        let mut worst = (kept + self.end.kept, self.end.beside);
        let mut seen = |kept: u64, flowing: u64| {
            if kept + flowing > worst.0 + worst.1 {
                worst = (kept, flowing);
            }
        };
        // Gradients of joined inputs: the skip connection's part waits for the way down, and the whole
        // tensor with it.
        let mut waiting: Vec<u64> = Vec::new();
        for (number, block) in self.blocks.iter().enumerate().rev() {
            if number < self.input_blocks {
                waiting.pop();
            }
            let held: u64 = waiting.iter().sum();
            // Its inside, computed once more, without what was kept of it all the while.
            let mut again = if recompute {
                block.kept() - if block.joined { 0 } else { block.input }
            } else {
                0
            };
            for layer in block.layers.iter().rev() {
                seen(kept + again, held + layer.beside);
                if recompute {
                    again = again.saturating_sub(layer.kept);
                } else {
                    kept -= layer.kept;
                }
            }
            if recompute {
                kept -= entered(number);
            }
            if block.joined {
                waiting.push(block.input);
            }
        }
        worst
    }

    /// Whether norm, scale and shift, and SiLU are one operation that keeps its input alone.
    fn fused(&self) -> bool {
        self.step.cuda || self.step.precision != Precision::Bf16
    }

    /// An activation of all images.
    fn activations(&self, channels: u64, pixels: u64) -> u64 {
        self.block(channels * pixels * self.step.images * self.step.precision.bytes())
    }

    /// Mean and 1/σ of a norm.
    fn statistics(&self) -> u64 {
        2 * self.block(4 * self.groups * self.step.images)
    }

    /// The noise embedding as a layer keeps it.
    fn embedding(&self) -> u64 {
        self.block(self.embedding * self.step.images * self.step.precision.bytes())
    }

    /// Bytes of the gradient of `count` weights: in the precision in which the backward pass computes it and,
    /// where that is bf16, once more in f32.
    fn weights(&self, count: u64) -> u64 {
        let half = self.step.precision == Precision::Bf16;
        self.block(4 * count) + if half { self.block(2 * count) } else { 0 }
    }

    /// What a tensor of `bytes` takes: on CUDA the allocator rounds up to blocks of 512 bytes.
    fn block(&self, bytes: u64) -> u64 {
        if self.step.cuda { bytes.next_multiple_of(BLOCK) } else { bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(precision: Precision, images: u64) -> TrainingStep {
        let (recompute, averages, cuda) = (false, 1, true);
        TrainingStep { images, precision, recompute, averages, cuda, buffers: 0, holders: 1 }
    }

    #[test]
    fn the_papers_network_in_bf16_takes_what_was_worked_out_by_hand() {
        let config = ModelConfig::default();
        let memory = |images| config.memory([256, 256], step(Precision::Bf16, images)).unwrap();
        let sixteen = memory(16);
        // 22 bytes a weight: f32 weight, gradient, two moments, average, and bf16.
        let state = 22 * 552_814_083;
        assert!(sixteen.state() >= state && sixteen.state() < state + 566 * 6 * BLOCK);
        // An image more is an image's worth more, whatever there was.
        let image = |memory: Memory| memory.activations + memory.flowing + memory.images;
        let (one, two) = (image(memory(1)) as f64, image(memory(2)) as f64);
        assert!((image(sixteen) as f64 / (16.0 * (two - one)) - 1.0).abs() < 0.02);
    }

    /// docs/scale.md, "GPUs and links".
    #[test]
    fn ranks_of_the_papers_network_take_what_was_worked_out_by_hand() {
        let config = ModelConfig::default();
        let memory = |buffers, holders| {
            let step = TrainingStep { buffers, holders, ..step(Precision::Bf16, 16) };
            config.memory([256, 256], step).unwrap()
        };
        let (alone, weights) = (memory(0, 1), 4 * 552_814_083);
        let close = |bytes: u64, wanted: u64| bytes.abs_diff(wanted) < wanted / 1000;
        for buffers in [1, 2, 4] {
            assert!(close(memory(buffers, 1).gradients, buffers * weights));
        }
        // The largest tensor, a convolution of 2048 to 1024 channels, may be on either side.
        let largest = 3 * 4 * 9 * 2048 * 1024;
        for holders in [8, 64, 512] {
            let sharded = memory(1, holders);
            let saved = alone.moments + alone.averages - sharded.moments - sharded.averages;
            let wanted = 3 * weights * (holders - 1) / holders;
            assert!(saved < wanted + wanted / 1000 && saved + largest + wanted / 1000 > wanted);
            // The copy of the weights comes when the activations are gone.
            assert_eq!((sharded.joined, sharded.weights), (0, alone.weights));
        }
    }

    #[test]
    fn what_takes_more_is_found_to_take_more() {
        let config =
            ModelConfig { channel_mult: vec![1, 2], attention: vec![32], ..ModelConfig::default() };
        let total = |step: TrainingStep| config.memory([64, 64], step).unwrap().total();
        let base = step(Precision::Fp32, 8);
        assert!(total(step(Precision::Bf16, 8)) < total(base));
        assert_eq!(total(step(Precision::Tf32, 8)), total(base));
        assert!(total(TrainingStep { recompute: true, ..base }) < total(base));
        assert!(total(TrainingStep { averages: 2, ..base }) > total(base));
        // Without a fused norm on the CPU, bf16 keeps more.
        let half = TrainingStep { cuda: false, ..step(Precision::Bf16, 8) };
        let activations = |step: TrainingStep| config.memory([64, 64], step).unwrap().activations;
        assert!(activations(half) > activations(TrainingStep { cuda: true, ..half }));
        let dropout = ModelConfig { dropout: 0.1, ..config.clone() };
        assert!(dropout.memory([64, 64], base).unwrap().total() > total(base));
        assert!(config.memory([64, 60], base).is_err());
        let wide = config.memory([64, 128], base).unwrap();
        assert_eq!(config.memory([128, 64], base).unwrap(), wide);
        assert!(wide.activations > config.memory([64, 64], base).unwrap().activations);
        let pass = config.pass_bytes([64, 64], Precision::Fp32).unwrap();
        assert!(pass * 8 < activations(base), "a pass without a way back keeps less");
    }
}
