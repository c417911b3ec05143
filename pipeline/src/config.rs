//! The table `[data]` of an experiment: what is read, how it is cropped, what is done to it.
//! Defaults are the paper's. `validate` is what stands between a file and any work.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::degrade::DegradationConfig;
use crate::order::Shuffle;
use storage::Place;

use crate::{Error, Result, Task};

/// What a training stream is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Datasets, mixed by weight.
    pub datasets: Vec<DatasetRef>,
    /// What the datasets of these places must be: the digests of their manifests. No part of a
    /// configuration; set by what has compared them, so that they stay the same while it works.
    #[serde(skip)]
    pub expected: BTreeMap<Place, String>,
    /// Size of the images: a number for squares, or `[height, width]`.
    pub image_size: ImageSize,
    /// Which part is cut once the photograph just covers that size.
    pub crop: Crop,
    /// Decode large JPEG originals at 1/2, 1/4 or 1/8 of their size where at least three times the wanted
    /// size is left: faster; pixels differ by 0.3 of 255 levels on average. Training and validation read
    /// photographs so, and sampling jobs and scores never do.
    pub scaled_decoding: bool,
    /// Mirror half of the images left to right.
    pub flip: bool,
    /// Weight of each task; the task is drawn for each image.
    pub tasks: BTreeMap<Task, f64>,
    /// The numbers of every degradation.
    pub degradation: DegradationConfig,
    /// The order of images within an epoch.
    pub shuffle: Shuffle,
    /// Row groups that `shuffle = "window"` mixes.
    pub window: usize,
    /// What becomes of an image that cannot be read or decoded.
    pub on_bad_sample: OnBadSample,
    /// Threads that read, decode and degrade; 0 takes all cores.
    pub threads: usize,
    /// Batches that are made ahead.
    pub prefetch: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            datasets: Vec::new(),
            expected: BTreeMap::new(),
            image_size: ImageSize::square(256),
            crop: Crop::Center,
            scaled_decoding: false,
            flip: false,
            tasks: BTreeMap::new(),
            degradation: DegradationConfig::default(),
            shuffle: Shuffle::Full,
            window: 8,
            on_bad_sample: OnBadSample::Error,
            threads: 0,
            prefetch: 4,
        }
    }
}

/// A dataset and its share of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRef {
    /// Where the dataset is.
    pub uri: Place,
    /// Share among the datasets, relative to the others.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// Height and width in pixels. In a file a number stands for a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sides", into = "Sides")]
pub struct ImageSize {
    /// Height.
    pub height: u32,
    /// Width.
    pub width: u32,
}

/// How a size is written.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged, expecting = "a size is a number of pixels or [height, width]")]
enum Sides {
    Square(u32),
    HeightWidth([u32; 2]),
}

impl From<Sides> for ImageSize {
    fn from(sides: Sides) -> Self {
        match sides {
            Sides::Square(side) => Self::square(side),
            Sides::HeightWidth([height, width]) => Self { height, width },
        }
    }
}

impl From<ImageSize> for Sides {
    fn from(size: ImageSize) -> Self {
        match size {
            ImageSize { height, width } if height == width => Self::Square(height),
            ImageSize { height, width } => Self::HeightWidth([height, width]),
        }
    }
}

impl ImageSize {
    /// A square of this side.
    pub const fn square(side: u32) -> Self {
        Self { height: side, width: side }
    }

    /// The shorter side.
    pub fn short(self) -> u32 {
        self.height.min(self.width)
    }

    /// The longer side.
    pub fn long(self) -> u32 {
        self.height.max(self.width)
    }

    /// Number of pixels.
    pub fn pixels(self) -> usize {
        self.height as usize * self.width as usize
    }
}

impl Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Sides::from(*self) {
            Sides::Square(side) => side.fmt(f),
            Sides::HeightWidth(sides) => write!(f, "{sides:?}"),
        }
    }
}

/// What becomes of an image that cannot be read or decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadSample {
    /// The batch is an error that names shard, row and digest.
    #[default]
    Error,
    /// Another image of the same dataset stands in, drawn by (seed, position); it is counted.
    Skip,
}

/// Which part of an image is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The middle one.
    #[default]
    Center,
    /// A random one, drawn for each image and epoch.
    Random,
}

impl DataConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        if self.datasets.is_empty() {
            return Err(Error::config("data.datasets", "empty", "at least one { uri, weight }"));
        }
        let shares: Vec<_> = self.datasets.iter().map(|dataset| dataset.weight).collect();
        weights("data.datasets.weight", &shares)?;
        if self.image_size.short() < 8 || self.image_size.long() > 4096 {
            return Err(Error::config("data.image_size", self.image_size, "8 to 4096"));
        }
        if self.tasks.is_empty() {
            let allowed =
                format!("a weight for {}, such as {{ colorization = 1.0 }}", Task::names());
            return Err(Error::config("data.tasks", "empty", allowed));
        }
        for (task, weight) in &self.tasks {
            weights(&format!("data.tasks.{task}"), &[*weight, 1.0])?;
        }
        weights("data.tasks", &self.tasks.values().copied().collect::<Vec<_>>())?;
        within("data.window", self.window, 1, 65_536)?;
        within("data.threads", self.threads, 0, 1024)?;
        within("data.prefetch", self.prefetch, 1, 1024)?;
        self.degradation.validate()
    }
}

/// `low <= value <= high`, or an error that says so.
pub(crate) fn within<T: PartialOrd + Display>(key: &str, value: T, low: T, high: T) -> Result<()> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Error::config(key, value, format!("{low} to {high}")))
}

/// `[low, high]` in order and within bounds, or an error that says so.
pub(crate) fn range<T: PartialOrd + Display + Copy>(
    key: &str,
    value: [T; 2],
    low: T,
    high: T,
) -> Result<()> {
    if value[0] >= low && value[0] <= value[1] && value[1] <= high {
        return Ok(());
    }
    let allowed = format!("[from, to] with {low} <= from <= to <= {high}");
    Err(Error::config(key, format!("[{}, {}]", value[0], value[1]), allowed))
}

fn weights(key: &str, weights: &[f64]) -> Result<()> {
    let allowed = "weights of at least 0, one of them positive";
    for weight in weights {
        if !(weight.is_finite() && *weight >= 0.0) {
            return Err(Error::config(key, weight, allowed));
        }
    }
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 && sum.is_finite() {
        return Ok(());
    }
    Err(Error::config(key, format!("{weights:?}"), allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DataConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn errors_name_key_and_what_is_allowed() {
        let good = "datasets = [{ uri = \"d\" }]\ntasks = { jpeg = 1.0 }\n";
        parse(good).validate().unwrap();
        let cases = [
            ("image_size = [64, 9000]", "data.image_size is [64, 9000], allowed: 8 to 4096"),
            ("window = 0", "data.window is 0, allowed: 1 to 65536"),
            ("image_size = 4", "data.image_size is 4, allowed: 8 to 4096"),
            ("prefetch = 0", "data.prefetch is 0, allowed: 1 to 1024"),
            (
                "degradation.jpeg.quality = [0, 29]",
                "data.degradation.jpeg.quality is [0, 29], allowed: [from, to] with 1 <= from <= to <= 100",
            ),
            (
                "degradation.inpainting.boxes.area = [0.1, 0.12]",
                "data.degradation.inpainting.boxes.area is [0.1, 0.12], allowed: a range at least \
                 0.05 wide, so that whole pixels can meet it",
            ),
            (
                "degradation.superresolution.factor = [1, 4]",
                "data.degradation.superresolution.factor is [1, 4], allowed: [from, to] with 2 <= from <= to <= 64",
            ),
            (
                "degradation.inpainting.free_form_share = 1.5",
                "data.degradation.inpainting.free_form_share is 1.5, allowed: 0 to 1",
            ),
        ];
        for (line, message) in cases {
            let error = parse(&format!("{line}\n{good}")).validate().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let none = parse("datasets = [{ uri = \"d\" }]\ntasks = { jpeg = 0.0 }");
        assert!(none.validate().unwrap_err().to_string().starts_with("data.tasks is [0.0]"));
        let negative = parse("datasets = [{ uri = \"d\", weight = -1 }]\ntasks = { jpeg = 1.0 }");
        assert!(negative.validate().unwrap_err().to_string().starts_with("data.datasets.weight"));
    }

    #[test]
    fn a_size_is_a_number_or_two() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Holder {
            size: ImageSize,
        }
        for (text, size) in [
            ("size = 64\n", ImageSize::square(64)),
            ("size = [64, 96]\n", ImageSize { height: 64, width: 96 }),
        ] {
            assert_eq!(toml::from_str::<Holder>(text).unwrap(), Holder { size });
            let back = toml::to_string(&Holder { size }).unwrap();
            assert_eq!(toml::from_str::<Holder>(&back).unwrap(), Holder { size });
        }
        assert_eq!(serde_json::to_string(&ImageSize::square(64)).unwrap(), "64");
        let error = toml::from_str::<Holder>("size = \"large\"").unwrap_err().to_string();
        assert!(error.contains("a number of pixels or [height, width]"), "{error}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<DataConfig>("image_sise = 3").unwrap_err().to_string();
        assert!(error.contains("unknown field `image_sise`"), "{error}");
        let error = toml::from_str::<DataConfig>("datasets = [{ uri = \"ftp://a/b\" }]");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`ftp://` is not known; give a folder"), "{error}");
        let error = toml::from_str::<DataConfig>("tasks = { color = 1 }").unwrap_err().to_string();
        assert!(error.contains("colorization"), "{error}");
    }
}
