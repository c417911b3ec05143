//! The photographs of a dataset at one small size, with their classes, in memory.

use anyhow::{Result, bail};
use pipeline::image::{self as picture, Window};
use pipeline::{Dataset, ImageSize};
use storage::Place;
use tch::{Kind, Tensor};
use terminal::{Progress, Usage};

/// Bytes that are held at most.
const MOST: u64 = 4 << 30;

/// Photographs and classes.
pub struct Photographs {
    /// u8 `[N,3,side,side]`
    pub pictures: Tensor,
    /// i64 `[N]`
    pub classes: Tensor,
    /// One more than the largest class.
    pub count: i64,
}

impl Photographs {
    /// Reads a dataset: shorter side to `side` pixels, the middle square.
    ///
    /// # Errors
    /// Without classes, for damaged photographs, and for more than fit into memory.
    pub fn read(place: &Place, side: u32) -> Result<Self> {
        let dataset = Dataset::open(place)?;
        let bytes = dataset.len().saturating_mul(3 * u64::from(side).pow(2));
        if dataset.is_empty() || bytes > MOST {
            bail!(Usage::new(format!(
                "{place}: {} photographs at {side}x{side} take {bytes} bytes, allowed are 1 to {MOST}: take \
                 a cut of it or a smaller --size",
                dataset.len()
            )));
        }
        let labels = dataset.labels()?;
        let Some(classes) = labels.iter().map(|(_, label)| *label).collect::<Option<Vec<i64>>>()
        else {
            bail!(Usage::new(format!("{place} has photographs without a class")));
        };
        let progress = Progress::new("reading photographs", Some(dataset.len()), "photographs");
        let mut values = Vec::with_capacity(bytes as usize);
        for row in 0..dataset.len() {
            let (_, bytes) = dataset.photograph(row)?;
            let image = picture::decode(&bytes).map_err(|error| dataset.damaged(row, &error))?;
            let size = ImageSize::square(side);
            values.extend_from_slice(picture::cover(&image, size, Window::CENTER)?.as_raw());
            progress.inc(1);
        }
        progress.finish();
        let side = i64::from(side);
        let shape = [classes.len() as i64, side, side, 3];
        let pictures = Tensor::f_from_data_size(&values, &shape, Kind::Uint8)?;
        Ok(Self {
            pictures: pictures.f_permute([0, 3, 1, 2])?.f_contiguous()?,
            count: classes.iter().max().map_or(0, |most| most + 1),
            classes: Tensor::f_from_slice(&classes)?,
        })
    }
}
