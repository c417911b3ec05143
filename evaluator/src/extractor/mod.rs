//! Extractors: networks that scores look through, TorchScript files named by a configuration with their
//! digest. What always holds: an extractor that was opened is the file that the configuration means, and
//! gives what it says; everything that contradicts it is refused before the first picture.

mod config;
mod look;
mod probe;
pub mod trial;

use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use pipeline::image as picture;
use tch::{CModule, Device};
use terminal::Usage;

pub use config::Config;
pub use look::Seen;
pub use probe::picture as probe;

/// Images that go through at once where the configuration says nothing, on a CPU and on a GPU.
const BATCH: (usize, usize) = (16, 128);

/// Largest TorchScript that is read; Inception has 90 MB, large vision transformers have 5 GB.
const LARGEST: u64 = 16 << 30;

/// A network that scores look through.
pub struct Extractor {
    config: Config,
    module: CModule,
    device: Device,
    /// The channels of a place lie together in memory, as they do in a decoded picture: nothing is turned,
    /// and convolutions are faster so, on CPUs too.
    channels_last: bool,
}

impl Extractor {
    /// As [`Extractor::open`], after a child process has survived loading it.
    ///
    /// # Errors
    /// As [`Extractor::open`], and where the child died.
    pub fn open_tried(path: &Path) -> Result<Self> {
        trial::survive(path)?;
        Self::open(path)
    }

    /// Opens the extractor of a configuration file on the machine's device.
    ///
    /// # Errors
    /// For a bad configuration, a file of another digest, a network that does not take the input or
    /// gives something else than the configuration says.
    pub fn open(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        let file = config.file(path);
        let bytes = config.read_file(path, &file)?;
        let device = contracts::DeviceChoice::Auto.device()?;
        // f32 is f32 on a GPU too: scores are compared with those of other systems.
        torch_ext::Numerics::default().set()?;
        let module = CModule::load_data_on_device(&mut bytes.as_slice(), device)
            .map_err(torch_ext::Error::from)
            .with_context(|| Usage::new(format!("{} is no TorchScript", file.display())))?;
        let mut extractor = Self { config, module, device, channels_last: true };
        extractor.module.f_set_eval().map_err(torch_ext::Error::from)?;
        if probe::check(&extractor).is_err() {
            // Some networks take pictures in planes only (`view`); all others are refused now.
            extractor.channels_last = false;
            probe::check(&extractor).with_context(|| Usage::new(path.display().to_string()))?;
        }
        Ok(extractor)
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device that it computes on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Images that go through at once.
    pub fn batch(&self) -> usize {
        let (cpu, gpu) = BATCH;
        self.config.batch.unwrap_or(if self.device.is_cuda() { gpu } else { cpu })
    }
}

impl Config {
    /// The bytes of the TorchScript file, if it is the one that is meant: another file is read in blocks only, however
    /// long it is.
    fn read_file(&self, path: &Path, file: &Path) -> Result<Vec<u8>> {
        let unread = |error: &dyn std::fmt::Display| {
            Usage::new(format!("{}: file {}: {error}", path.display(), file.display()))
        };
        let (_, length) = storage::regular::open(file).map_err(|error| unread(&error))?;
        let demand = |digest: String| match digest == self.sha256 {
            true => Ok(()),
            false => Err(Usage::new(format!(
                "{}: {} has sha256 {digest}, not {}: it is another network; fetch the right file, or \
                 correct the configuration",
                path.display(),
                file.display(),
                self.sha256
            ))),
        };
        if length > LARGEST {
            bail!(unread(&format!("it has {length} bytes, more than {LARGEST}")));
        }
        demand(storage::atomic::sha256_file(file)?.0)?;
        let bytes = storage::limited::read(file, LARGEST).map_err(|error| unread(&error))?;
        // It may have been replaced meanwhile.
        demand(storage::atomic::sha256(&bytes))?;
        Ok(bytes)
    }

    /// What is done to a picture before the network: scaled, cut.
    ///
    /// # Errors
    /// For a picture without pixels or smaller than the cut.
    pub fn prepare(&self, image: &RgbImage) -> Result<RgbImage> {
        let scaled = match self.resize {
            Some(side) if image.width().min(image.height()) != side => {
                Some(picture::shrink(image, side)?)
            }
            _ => None,
        };
        let image = scaled.as_ref().unwrap_or(image);
        match self.crop {
            None => Ok(image.clone()),
            Some(side) if image.width().min(image.height()) >= side => {
                let middle = |whole: u32| (whole - side) / 2;
                let (left, top) = (middle(image.width()), middle(image.height()));
                Ok(image::imageops::crop_imm(image, left, top, side, side).to_image())
            }
            Some(side) => bail!(Usage::new(format!(
                "{} cuts {side}x{side} out of pictures, this one has {}x{}: give it `resize`",
                self.name,
                image.width(),
                image.height()
            ))),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use image::Rgb;
    use tch::Tensor;

    use super::*;

    /// `flags.pt` (`fixtures/make.py`) with this rest of a configuration.
    pub fn flags(rest: &str) -> Result<Extractor> {
        let fixture = "src/extractor/fixtures/flags.pt";
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
        // Where the tests run elsewhere, the same below the working directory.
        let file = if own.is_file() { own } else { Path::new("evaluator").join(fixture) };
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("flags.toml");
        let sha256 = storage::atomic::sha256_file(&file).unwrap().0;
        let file = file.display();
        let text = format!("name = \"flags\"\nfile = \"{file}\"\nsha256 = \"{sha256}\"\n{rest}");
        std::fs::write(&config, text).unwrap();
        Extractor::open(&config)
    }

    const BOTH: &str = r#"
        scores = ["fid", "is"]
        input = "uint8"
        [features]
        arguments = [true]
        width = 3
        [logits]
        arguments = [false]
        width = 3
        probabilities = true
    "#;

    #[test]
    fn outputs_ask_with_arguments_of_their_own() {
        let extractor = flags(BOTH).unwrap();
        let seen = extractor.look(&[RgbImage::from_pixel(16, 16, Rgb([10, 11, 10]))]).unwrap();
        let row = |tensor: Option<Tensor>| Vec::<f64>::try_from(tensor.unwrap().get(0)).unwrap();
        assert_eq!(row(seen.features), [10.0, 11.0, 10.0]);
        let answer = row(seen.logits);
        assert!((answer.iter().sum::<f64>() - 1.0).abs() < 1e-6 && answer[1] > answer[0]);
    }

    #[test]
    fn pictures_are_scaled_and_cut_as_the_configuration_says() {
        let cut = format!("resize = 32\ncrop = 16\n{BOTH}");
        let extractor = flags(&cut).unwrap();
        assert_eq!(
            extractor.config().rule(),
            "shorter side to 32 (antialiased bicubic), middle 16x16"
        );
        let prepared = extractor.config().prepare(&RgbImage::new(100, 64)).unwrap();
        assert_eq!(prepared.dimensions(), (16, 16));
        let only_cut = flags(&format!("crop = 16\n{BOTH}")).unwrap();
        let error = only_cut.config().prepare(&RgbImage::new(12, 40)).unwrap_err().to_string();
        assert!(error.contains("this one has 12x40"), "{error}");
    }

    #[test]
    fn a_part_of_a_tensor_can_be_named() {
        let part = BOTH.replace("width = 3\n        [logits]", "start = 1\nwidth = 2\n[logits]");
        let extractor = flags(&part).unwrap();
        let seen = extractor.look(&[RgbImage::from_pixel(8, 8, Rgb([1, 2, 3]))]).unwrap();
        assert_eq!(Vec::<f64>::try_from(seen.features.unwrap().get(0)).unwrap(), [2.0, 3.0]);
        let beyond = part.replace("start = 1", "start = 2");
        let error = format!("{:#}", flags(&beyond).err().unwrap());
        assert!(error.contains("have the shape [2, 3]"), "{error}");
    }
}
