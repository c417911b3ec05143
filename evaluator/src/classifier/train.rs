//! Training: AdamW with a warm-up and a cosine, pictures flipped and shifted, labels smoothed.

use anyhow::{Result, bail};
use random::{Rng, key};
use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Device, Kind, Reduction, Tensor, no_grad};
use terminal::{Progress, Usage};
use torch_ext::Error;

use super::Photographs;
use super::network::Network;

const BATCH: i64 = 128;
/// Largest shift in pixels is the side divided by this.
const SHIFT: i64 = 8;
const SMOOTHING: f64 = 0.1;

/// How it is trained.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Passes over the photographs.
    pub epochs: u32,
    /// Channels of the first stage.
    pub channels: i64,
    /// Largest learning rate.
    pub rate: f64,
    /// Seed of weights, order, flips and shifts.
    pub seed: u64,
}

/// What came out.
pub struct Trained {
    /// The network.
    pub network: Network,
    /// Its device.
    pub device: Device,
    /// Share of held-out photographs whose class it finds.
    pub accuracy: f64,
    /// The same of the photographs that it learned from, as they are.
    pub training_accuracy: f64,
    _store: VarStore,
}

/// Trains a classifier and looks how good it is on held-out photographs.
///
/// # Errors
/// For held-out photographs of other classes; those of libtorch.
pub fn train(learn: &Photographs, held_out: &Photographs, options: Options) -> Result<Trained> {
    if held_out.count > learn.count {
        bail!(Usage::new("the held-out photographs have classes that are not learned"));
    }
    let device = contracts::DeviceChoice::Auto.device()?;
    let mut store = VarStore::new(device);
    let network = Network::new(&store, options.channels, learn.count, options.seed)?;
    let decay = nn::AdamW { wd: 0.05, ..nn::AdamW::default() };
    let mut optimizer = decay.build(&store, options.rate)?;
    let images = learn.classes.size()[0];
    let batches = (images + BATCH - 1) / BATCH;
    let steps = i64::from(options.epochs) * batches;
    let progress = Progress::new("training", Some(steps.unsigned_abs()), "batches");
    let mut step = 0;
    for epoch in 0..options.epochs {
        let mut rng = Rng::new(key(&[options.seed, u64::from(epoch)]));
        let order = shuffled(images, &mut rng);
        for batch in order.chunks(BATCH as usize) {
            optimizer.set_lr(options.rate * rate(step, steps));
            let (pictures, classes) = draw(learn, batch, &mut rng, device)?;
            let loss = loss(&network, &pictures, &classes)?;
            optimizer.zero_grad();
            loss.f_backward()?;
            optimizer.step();
            step += 1;
            progress.inc(1);
            if step % 10 == 0 {
                progress.message(format!("loss {:.3}", loss.f_double_value(&[])?));
            }
        }
    }
    progress.finish();
    store.freeze();
    let accuracy = accuracy(&network, held_out, device)?;
    let training_accuracy = self::accuracy(&network, learn, device)?;
    Ok(Trained { network, device, accuracy, training_accuracy, _store: store })
}

/// These photographs, varied, with their classes.
fn draw(
    learn: &Photographs,
    rows: &[i64],
    rng: &mut Rng,
    device: Device,
) -> Result<(Tensor, Tensor), Error> {
    let rows = Tensor::f_from_slice(rows)?;
    let pictures = vary(&learn.pictures.f_index_select(0, &rows)?, rng)?.f_to_device(device)?;
    Ok((pictures, learn.classes.f_index_select(0, &rows)?.f_to_device(device)?))
}

fn loss(network: &Network, pictures: &Tensor, classes: &Tensor) -> Result<Tensor, Error> {
    let (_, logits) = network.forward(pictures, true)?;
    let (weight, mean) = (None::<Tensor>, Reduction::Mean);
    Ok(logits.f_cross_entropy_loss(classes, weight, mean, -100, SMOOTHING)?)
}

/// The share of the largest rate: up over a twentieth of the steps, down along a cosine.
fn rate(step: i64, steps: i64) -> f64 {
    let (at, warm) = (step as f64 + 1.0, (steps as f64 / 20.0).max(1.0));
    let fall = std::f64::consts::PI * step as f64 / steps as f64;
    (at / warm).min(1.0) * (1.0 + fall.cos()) / 2.0
}

fn shuffled(count: i64, rng: &mut Rng) -> Vec<i64> {
    let mut order: Vec<i64> = (0..count).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    order
}

/// Flips half of the pictures and shifts the batch, with mirrored borders.
fn vary(pictures: &Tensor, rng: &mut Rng) -> Result<Tensor, Error> {
    let side = pictures.size()[3];
    let reach = side / SHIFT;
    let padded = pictures.f_to_kind(Kind::Float)?.f_reflection_pad2d([reach; 4])?;
    let mut at = || rng.below(2 * reach as u64 + 1).cast_signed();
    let shifted = padded.f_narrow(2, at(), side)?.f_narrow(3, at(), side)?;
    let flips: Vec<bool> = (0..pictures.size()[0]).map(|_| rng.chance(0.5)).collect();
    let flips = Tensor::f_from_slice(&flips)?.f_view([-1, 1, 1, 1])?;
    Ok(shifted.f_flip([3])?.f_where_self(&flips, &shifted)?)
}

fn accuracy(network: &Network, of: &Photographs, device: Device) -> Result<f64, Error> {
    let mut right = 0;
    let parts = of.pictures.f_split(BATCH, 0)?.into_iter().zip(of.classes.f_split(BATCH, 0)?);
    for (pictures, classes) in parts {
        let (_, logits) = no_grad(|| network.forward(&pictures.f_to_device(device)?, false))?;
        let found = logits.f_argmax(1, false)?.f_eq_tensor(&classes.f_to_device(device)?)?;
        right += found.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    }
    Ok(right as f64 / of.classes.size()[0] as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bright and dark pictures with some noise.
    fn photographs(count: i64, seed: i64) -> Photographs {
        tch::manual_seed(seed);
        let classes = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(2);
        let noise = Tensor::rand([count, 3, 16, 16], (Kind::Float, Device::Cpu)) * 100.0;
        let pictures = noise + classes.view([-1, 1, 1, 1]) * 100.0;
        Photographs { pictures: pictures.to_kind(Kind::Uint8), classes, count: 2 }
    }

    #[test]
    fn what_is_easy_is_learned_and_exported_as_it_is() {
        let options = Options { epochs: 6, channels: 4, rate: 1e-2, seed: 1 };
        let trained = train(&photographs(256, 1), &photographs(64, 2), options).unwrap();
        assert!(trained.accuracy > 0.95, "{}", trained.accuracy);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("easy.pt");
        let config = super::super::export(&trained, 16, &file).unwrap();
        let extractor = crate::extractor::Extractor::open(&config).unwrap();
        let picture = crate::extractor::probe(16);
        let seen = extractor.look(&vec![picture; 5]).unwrap();
        assert_eq!(seen.features.unwrap().size(), [5, 16]);
        assert_eq!(seen.logits.unwrap().size(), [5, 2]);
    }

    #[test]
    fn other_classes_are_refused() {
        let mut more = photographs(8, 3);
        more.count = 3;
        let options = Options { epochs: 1, channels: 4, rate: 1e-2, seed: 1 };
        assert!(train(&photographs(8, 4), &more, options).is_err());
    }
}
