//! A residual network for small pictures (He et al. 2016): a stem, three stages of two blocks, each stage
//! at half the resolution of the one before with twice the channels, a mean over places, a linear layer.

use tch::nn::{self, ModuleT};
use tch::{Kind, Tensor};

/// The network.
#[derive(Debug)]
pub struct Network {
    stem: nn::Conv2D,
    stem_norm: nn::BatchNorm,
    blocks: Vec<Block>,
    head: nn::Linear,
    /// Numbers in its features.
    pub width: i64,
    /// Classes.
    pub classes: i64,
}

#[derive(Debug)]
struct Block {
    first: nn::Conv2D,
    first_norm: nn::BatchNorm,
    second: nn::Conv2D,
    second_norm: nn::BatchNorm,
    shortcut: Option<(nn::Conv2D, nn::BatchNorm)>,
}

fn conv(path: nn::Path, from: i64, to: i64, side: i64, stride: i64) -> nn::Conv2D {
    let config = nn::ConvConfig { stride, padding: side / 2, bias: false, ..Default::default() };
    nn::conv2d(path, from, to, side, config)
}

fn norm(path: nn::Path, channels: i64) -> nn::BatchNorm {
    nn::batch_norm2d(path, channels, Default::default())
}

impl Network {
    /// With random weights; features of `4 * channels` numbers.
    pub fn new(path: &nn::Path, channels: i64, classes: i64) -> Self {
        let mut blocks = Vec::new();
        let mut from = channels;
        for stage in 0..3 {
            let to = channels << stage;
            for block in 0..2 {
                let path = path / format!("stage{stage}") / format!("block{block}");
                blocks.push(Block::new(&path, from, to, if block == 0 { 2 } else { 1 }));
                from = to;
            }
        }
        Self {
            stem: conv(path / "stem", 3, channels, 3, 1),
            stem_norm: norm(path / "stem_norm", channels),
            blocks,
            head: nn::linear(path / "head", from, classes, Default::default()),
            width: from,
            classes,
        }
    }

    /// Features `[B,width]` and logits `[B,classes]` of pictures, u8 `[B,3,H,W]`.
    pub fn forward(&self, pictures: &Tensor, training: bool) -> (Tensor, Tensor) {
        let x = pictures.to_kind(Kind::Float) / 127.5 - 1.0;
        let x = x.apply(&self.stem).apply_t(&self.stem_norm, training).relu();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x, training));
        let features = x.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let logits = features.apply(&self.head);
        (features, logits)
    }
}

impl Block {
    fn new(path: &nn::Path, from: i64, to: i64, stride: i64) -> Self {
        let shortcut = (from != to || stride != 1).then(|| {
            (conv(path / "shortcut", from, to, 1, stride), norm(path / "shortcut_norm", to))
        });
        Self {
            first: conv(path / "first", from, to, 3, stride),
            first_norm: norm(path / "first_norm", to),
            second: conv(path / "second", to, to, 3, 1),
            second_norm: norm(path / "second_norm", to),
            shortcut,
        }
    }

    fn forward(&self, x: &Tensor, training: bool) -> Tensor {
        let inner = x.apply(&self.first).apply_t(&self.first_norm, training).relu();
        let inner = inner.apply(&self.second).apply_t(&self.second_norm, training);
        let around = match &self.shortcut {
            Some((conv, norm)) => norm.forward_t(&x.apply(conv), training),
            None => x.shallow_clone(),
        };
        (inner + around).relu()
    }
}
