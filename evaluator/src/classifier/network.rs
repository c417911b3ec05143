//! A residual network for small pictures (He et al. 2016): a stem, three stages of two blocks, each stage
//! at half the resolution of the one before with twice the channels, a mean over places, a linear layer.

use tch::nn::{Init, Path, VarStore};
use tch::{Kind, Tensor, no_grad};
use torch_ext::Error;

/// The network.
#[derive(Debug)]
pub struct Network {
    stem: Conv,
    stem_norm: Norm,
    blocks: Vec<Block>,
    /// `[classes,width]` and `[classes]`
    head: (Tensor, Tensor),
    /// Numbers in its features.
    pub width: i64,
    /// Classes.
    pub classes: i64,
}

#[derive(Debug)]
struct Block {
    first: Conv,
    first_norm: Norm,
    second: Conv,
    second_norm: Norm,
    shortcut: Option<(Conv, Norm)>,
}

/// A convolution without a bias.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    stride: i64,
}

/// Batch normalisation.
#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Network {
    /// With first values that are functions of the seed and their names alone; features of `4 * channels`
    /// numbers.
    ///
    /// # Errors
    /// Those of libtorch, as everywhere here.
    pub fn new(store: &VarStore, channels: i64, classes: i64, seed: u64) -> Result<Self, Error> {
        let path = &store.root();
        let mut blocks = Vec::new();
        let mut from = channels;
        for stage in 0..3 {
            let to = channels << stage;
            for block in 0..2 {
                let path = path / format!("stage{stage}") / format!("block{block}");
                blocks.push(Block::new(&path, from, to, if block == 0 { 2 } else { 1 })?);
                from = to;
            }
        }
        let head = path / "head";
        let zeros = Init::Const(0.0);
        let network = Self {
            stem: Conv::new(&(path / "stem"), 3, channels, 3, 1)?,
            stem_norm: Norm::new(&(path / "stem_norm"), channels)?,
            blocks,
            head: (
                head.f_var("weight", &[classes, from], zeros)?,
                head.f_var("bias", &[classes], zeros)?,
            ),
            width: from,
            classes,
        };
        initialise(store, seed)?;
        Ok(network)
    }

    /// Features `[B,width]` and logits `[B,classes]` of pictures, u8 `[B,3,H,W]`.
    pub fn forward(&self, pictures: &Tensor, training: bool) -> Result<(Tensor, Tensor), Error> {
        let x = pictures.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?;
        let x = self.stem_norm.forward(&self.stem.forward(&x)?, training)?.f_relu()?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, training))?;
        let features = x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        let (weight, bias) = &self.head;
        let logits = features.f_linear(weight, Some(bias))?;
        Ok((features, logits))
    }
}

/// Weights of convolutions and of the linear layer are uniform within ±√(6/fan-in) (He et al. 2015), the
/// linear layer's bias within ±1/√fan-in, the weights of norms within 0 and 1; their biases stay 0.
fn initialise(store: &VarStore, seed: u64) -> Result<(), Error> {
    let variables = store.variables();
    no_grad(|| {
        for (name, variable) in &variables {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            let Some(weight) = variables.get(&format!("{module}.weight")) else { continue };
            let size = weight.size();
            let is_weight = name.ends_with(".weight");
            let fan_in = size.get(1..).unwrap_or_default().iter().product::<i64>() as f64;
            let (least, most) = match (size.len(), is_weight) {
                (1, true) => (0.0, 1.0),
                (1, false) => continue,
                (_, true) => (-(6.0 / fan_in).sqrt(), (6.0 / fan_in).sqrt()),
                (_, false) => (-1.0 / fan_in.sqrt(), 1.0 / fan_in.sqrt()),
            };
            let key = random::key(&[seed, random::text_key(name)]);
            let drawn = torch_ext::rand_keyed(&[key], &variable.size(), variable.device())?;
            let drawn = drawn.f_squeeze_dim(0)?.f_mul_scalar(most - least)?.f_add_scalar(least)?;
            variable.shallow_clone().f_copy_(&drawn)?;
        }
        Ok(())
    })
}

impl Block {
    fn new(path: &Path, from: i64, to: i64, stride: i64) -> Result<Self, Error> {
        let shortcut = || -> Result<_, Error> {
            let conv = Conv::new(&(path / "shortcut"), from, to, 1, stride)?;
            Ok((conv, Norm::new(&(path / "shortcut_norm"), to)?))
        };
        Ok(Self {
            first: Conv::new(&(path / "first"), from, to, 3, stride)?,
            first_norm: Norm::new(&(path / "first_norm"), to)?,
            second: Conv::new(&(path / "second"), to, to, 3, 1)?,
            second_norm: Norm::new(&(path / "second_norm"), to)?,
            shortcut: (from != to || stride != 1).then(shortcut).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, Error> {
        let inner = self.first_norm.forward(&self.first.forward(x)?, training)?.f_relu()?;
        let inner = self.second_norm.forward(&self.second.forward(&inner)?, training)?;
        let around = match &self.shortcut {
            Some((conv, norm)) => norm.forward(&conv.forward(x)?, training)?,
            None => x.shallow_clone(),
        };
        Ok(inner.f_add(&around)?.f_relu()?)
    }
}

impl Conv {
    fn new(path: &Path, from: i64, to: i64, side: i64, stride: i64) -> Result<Self, Error> {
        let weight = path.f_var("weight", &[to, from, side, side], Init::Const(0.0))?;
        Ok(Self { weight, stride })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let padding = self.weight.size()[3] / 2;
        let (stride, bias) = (self.stride, None::<Tensor>);
        Ok(x.f_conv2d(&self.weight, bias, [stride; 2], [padding; 2], [1i64; 2], 1)?)
    }
}

impl Norm {
    fn new(path: &Path, channels: i64) -> Result<Self, Error> {
        Ok(Self {
            weight: path.f_var("weight", &[channels], Init::Const(1.0))?,
            bias: path.f_var("bias", &[channels], Init::Const(0.0))?,
            mean: path.f_zeros_no_train("running_mean", &[channels])?,
            variance: path.f_ones_no_train("running_var", &[channels])?,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, Error> {
        const MOMENTUM: f64 = 0.1;
        const EPSILON: f64 = 1e-5;
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (mean, variance) = (Some(&self.mean), Some(&self.variance));
        Ok(x.f_batch_norm(weight, bias, mean, variance, training, MOMENTUM, EPSILON, true)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn first_values_are_functions_of_the_seed() {
        let values = |seed| {
            let store = VarStore::new(Device::Cpu);
            Network::new(&store, 4, 3, seed).unwrap();
            let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
            variables.sort_by(|a, b| a.0.cmp(&b.0));
            variables
        };
        // libtorch's own generator, whatever it was set to, takes no part.
        tch::manual_seed(1);
        let first = values(7);
        tch::manual_seed(2);
        for ((name, a), (_, b)) in first.iter().zip(&values(7)) {
            assert!(a.equal(b), "{name}");
        }
        let weight = |of: &[(String, Tensor)]| {
            let found = of.iter().find(|(name, _)| name == "head.weight");
            found.unwrap().1.shallow_clone()
        };
        assert!(!weight(&first).equal(&weight(&values(8))));
        let bound = (6.0_f64 / 16.0).sqrt();
        let (least, most) =
            (weight(&first).min().double_value(&[]), weight(&first).max().double_value(&[]));
        assert!(-bound <= least && least < 0.0 && 0.0 < most && most <= bound, "{least} {most}");
    }
}
