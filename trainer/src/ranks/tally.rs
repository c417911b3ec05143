//! What rides along with the gradients of a step, so that every rank knows the same after it: the loss of each
//! image of the global batch, how the ranks fared, and whether one of them was asked to stop.
//!
//! Every number has a place of its own, zero in all ranks but one, so that the sum is the number itself; the wish to
//! stop is the number of ranks that have it.

use anyhow::Result;
use pipeline::Task;
use tch::Tensor;

use crate::step::Word;
use crate::watch::{ImageLoss, MicroBatch, StepLosses};

/// Numbers of an image: its loss, that of predicting nothing, its noise level, its task.
const OF_IMAGE: usize = 4;

/// Numbers of a rank.
const OF_RANK: usize = 3;

/// How a rank fared since its last step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fare {
    /// Seconds that it waited for data.
    pub waited: f64,
    /// Seconds in collectives, the wait for slower ranks included.
    pub in_collective: f64,
    /// Images that it passed over as bad.
    pub skipped: f64,
}

impl Fare {
    /// What came to it since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            waited: self.waited - before.waited,
            in_collective: self.in_collective - before.in_collective,
            skipped: self.skipped - before.skipped,
        }
    }

    /// Adds that of another step.
    pub fn add(&mut self, other: Self) {
        self.waited += other.waited;
        self.in_collective += other.in_collective;
        self.skipped += other.skipped;
    }
}

/// The places of the numbers.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Images of the global batch.
    pub images: usize,
    /// Number of ranks.
    pub ranks: usize,
}

impl Tally {
    /// Numbers in all.
    pub fn len(&self) -> usize {
        OF_IMAGE * self.images + OF_RANK * self.ranks + 1
    }

    /// Writes what the device knows of images that lie at `place` of the global batch.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn write_losses(&self, tail: &Tensor, place: usize, images: &MicroBatch) -> Result<()> {
        let (losses, nothing) = images.on_device();
        for (list, values) in [(0, losses), (1, nothing)] {
            let start = list * self.images + place;
            tail.f_narrow(0, start as i64, values.size1()?)?.f_copy_(values)?;
        }
        Ok(())
    }

    /// Writes noise levels and tasks of images that lie at `place` of the global batch.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn write_given(&self, tail: &Tensor, place: usize, images: &MicroBatch) -> Result<()> {
        let (gammas, tasks): (Vec<f32>, Vec<f32>) =
            images.given().map(|(gamma, task)| (gamma, number(task))).unzip();
        self.write(tail, 2 * self.images + place, &gammas)?;
        self.write(tail, 3 * self.images + place, &tasks)
    }

    /// Writes what the host knows: noise levels and tasks of this rank's images, from `place` on, and its word.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn write_rest(
        &self,
        tail: &Tensor,
        place: usize,
        images: &[MicroBatch],
        rank: usize,
        word: Word,
    ) -> Result<()> {
        let Word { fare, stop } = word;
        let behind = 2 * self.images;
        // One copy to a GPU, not one for each kind.
        let mut values = vec![0.0_f32; self.len() - behind];
        let given = images.iter().flat_map(MicroBatch::given);
        for (index, (gamma, task)) in (place..self.images).zip(given) {
            values[index] = gamma;
            values[self.images + index] = number(task);
        }
        let of_rank = 2 * self.images + OF_RANK * rank;
        let fare = [fare.waited, fare.in_collective, fare.skipped].map(|value| value as f32);
        values[of_rank..of_rank + OF_RANK].copy_from_slice(&fare);
        values[2 * self.images + OF_RANK * self.ranks] = f32::from(u8::from(stop));
        self.write(tail, behind, &values)
    }

    fn write(&self, tail: &Tensor, from: usize, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let there = torch_ext::upload(&[&bytes], tail.device())?.f_view_dtype(tch::Kind::Float)?;
        tail.f_narrow(0, from as i64, values.len() as i64)?.f_copy_(&there)?;
        Ok(())
    }

    /// The losses of a step from what came back, and how each rank fared. `keys` are those of the images of
    /// this rank, which lie at `place`; the others have none.
    pub fn read(&self, step: u64, values: &[f32], place: usize, keys: Vec<String>) -> StepLosses {
        let at = |index: usize| values.get(index).copied().map_or(f64::NAN, f64::from);
        let of = |list: usize, image: usize| at(list * self.images + image);
        let mut images: Vec<ImageLoss> = (0..self.images)
            .map(|image| ImageLoss {
                loss: of(0, image),
                nothing: of(1, image),
                gamma: of(2, image),
                task: task(of(3, image)),
                key: String::new(),
                place: image,
            })
            .collect();
        for (image, key) in images.iter_mut().skip(place).zip(keys) {
            image.key = key;
        }
        let behind = OF_IMAGE * self.images;
        let fares = (0..self.ranks)
            .map(|rank| {
                let first = behind + OF_RANK * rank;
                Fare { waited: at(first), in_collective: at(first + 1), skipped: at(first + 2) }
            })
            .collect();
        let stop = at(behind + OF_RANK * self.ranks) > 0.0;
        StepLosses { step, images, norm: at(self.len()), fares, stop }
    }
}

fn number(task: Task) -> f32 {
    Task::ALL.iter().position(|&one| one == task).unwrap_or_default() as f32
}

fn task(number: f64) -> Task {
    Task::ALL.get(number as usize).copied().unwrap_or(Task::ALL[0])
}
