//! The pictures of a study: chosen among the records that all systems have, checked against each
//! other, and written alike, so that a file tells nothing but its pixels.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, bail};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use registry::NewStudyImage;
use terminal::Usage;

use super::draw;
use super::source::{PictureSource, StudyImage};

/// A system by its name.
pub struct System {
    /// What the results call it.
    pub name: String,
    /// Where its outputs are.
    pub source: PictureSource,
}

/// Where everything comes from.
pub struct Sources {
    /// The systems.
    pub systems: Vec<System>,
    /// The photographs; those beside the outputs where none is given.
    pub reference: Option<PictureSource>,
}

/// The images of a study, in an order drawn by its seed: the first half is set 1.
pub struct Gathered {
    /// The images.
    pub images: Vec<NewStudyImage>,
    /// Records of the photographs that some system has no output of.
    pub left_out: usize,
}

/// Pixels of one picture, at most.
const PIXELS: u64 = 10_000_000;
/// Bytes of all pictures together, at most: they are held in memory until they are stored.
const BYTES: u64 = 1 << 30;

impl Sources {
    /// The address that the photographs are from.
    ///
    /// # Errors
    /// Where no `--reference` is given and no system has photographs beside its outputs.
    pub fn reference_uri(&self) -> anyhow::Result<&str> {
        Ok(self.photographs()?.uri())
    }

    fn photographs(&self) -> anyhow::Result<&PictureSource> {
        let beside = || {
            self.systems.iter().map(|system| &system.source).find(|source| source.has_references())
        };
        self.reference.as_ref().or_else(beside).ok_or_else(|| {
            Usage::new(
                "no system is an output dataset, which has the photographs beside the outputs: \
                 name them with --reference",
            )
            .into()
        })
    }

    /// Draws `count` images by `seed` and reads their pictures.
    ///
    /// # Errors
    /// Where too few records are common to all, a picture is missing, damaged or too large, the
    /// pictures of an image differ in size, or two systems restored other photographs of one key.
    pub fn gather(&self, count: usize, seed: u64) -> anyhow::Result<Gathered> {
        let photographs = self.photographs()?;
        let matching: Vec<_> =
            self.systems.iter().map(|system| system.source.matching(photographs)).collect();
        let all: Vec<&str> = photographs.keys().collect();
        let common: Vec<&str> =
            all.iter().copied().filter(|key| matching.iter().all(|of| of(key).is_some())).collect();
        if common.len() < count {
            let mut text = format!(
                "{} of the {} records of {} are in all systems, and {count} images are wanted",
                common.len(),
                all.len(),
                photographs.uri()
            );
            for (system, of) in self.systems.iter().zip(&matching) {
                let lacking: Vec<_> = all.iter().filter(|key| of(key).is_none()).collect();
                if let Some(first) = lacking.first() {
                    let count = lacking.len();
                    text += &format!("; {} lacks {count}, the first is {first}", system.name);
                }
            }
            bail!("{text}: choose fewer with --images");
        }
        let keys = draw::choose(&common, count, seed);

        let progress =
            terminal::Progress::new("reading", Some(self.systems.len() as u64 + 1), "sources");
        let references =
            pictures("the reference", photographs, StudyImage::Reference, &keys, Some)?;
        progress.inc(1);
        check_room(&references, self.systems.len())?;
        let mut outputs = Vec::new();
        for (system, of) in self.systems.iter().zip(&matching) {
            let System { name, source } = system;
            let found = pictures(name, source, StudyImage::Output, &keys, of)?;
            for ((key, output), reference) in keys.iter().zip(&found).zip(&references) {
                check_size(name, key, output, reference)?;
            }
            if self.reference.is_none() && !std::ptr::eq(source, photographs) {
                check_same(name, source, &keys, of, &references)?;
            }
            outputs.push(found.iter().map(png).collect::<anyhow::Result<Vec<_>>>()?.into_iter());
            progress.inc(1);
        }
        progress.finish();
        let images = keys.iter().zip(&references).enumerate().map(|(place, (key, reference))| {
            Ok(NewStudyImage {
                set: if place < count / 2 { 1 } else { 2 },
                key: (*key).to_owned(),
                reference: png(reference)?,
                outputs: outputs.iter_mut().filter_map(Iterator::next).collect(),
            })
        });
        Ok(Gathered {
            images: images.collect::<anyhow::Result<_>>()?,
            left_out: all.len() - common.len(),
        })
    }
}

/// The pictures of one source in the order of `keys`.
fn pictures<'a>(
    name: &str,
    source: &'a PictureSource,
    image: StudyImage,
    keys: &[&'a str],
    of: impl Fn(&'a str) -> Option<&'a str>,
) -> anyhow::Result<Vec<RgbImage>> {
    let own: Vec<&str> = keys.iter().filter_map(|key| of(key)).collect();
    let wanted: BTreeSet<&str> = own.iter().copied().collect();
    if wanted.len() < keys.len() {
        bail!("{name}: {} holds one picture for several of the records", source.uri());
    }
    let mut read: HashMap<_, _> = source.read(&wanted, image)?;
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    for key in &own {
        match read.remove(*key) {
            Some(Ok(image)) => found.push(image),
            Some(Err(error)) => bad.push((*key, format!("{error:#}"))),
            None => bad.push((*key, "is missing".to_owned())),
        }
    }
    match bad.first() {
        None => Ok(found),
        Some((key, why)) => bail!(
            "{name}: {} of {} pictures of {} cannot be used; the first is {key}: {why}",
            bad.len(),
            keys.len(),
            source.uri()
        ),
    }
}

/// Before anything is written for them: a picture, and all together, are not too large.
fn check_room(references: &[RgbImage], systems: usize) -> anyhow::Result<()> {
    let pixels = |image: &RgbImage| u64::from(image.width()) * u64::from(image.height());
    if let Some(large) = references.iter().find(|image| pixels(image) > PIXELS) {
        let (width, height) = large.dimensions();
        bail!(
            "a picture has {width}x{height} pixels, a study takes at most {} million",
            PIXELS / 1_000_000
        );
    }
    let all = references.iter().map(pixels).sum::<u64>() * 3 * (systems as u64 + 1);
    if all > BYTES {
        bail!(
            "the pictures have {} together, a study takes at most {}: choose fewer with --images",
            terminal::bytes(all),
            terminal::bytes(BYTES)
        );
    }
    Ok(())
}

/// Systems that are compared restored the same photographs; what has none beside its outputs says nothing.
fn check_same<'a>(
    name: &str,
    source: &'a PictureSource,
    keys: &[&'a str],
    of: impl Fn(&'a str) -> Option<&'a str>,
    references: &[RgbImage],
) -> anyhow::Result<()> {
    if !source.has_references() {
        return Ok(());
    }
    let own = pictures(name, source, StudyImage::Reference, keys, of)?;
    match own.iter().zip(references).position(|(own, reference)| own != reference) {
        None => Ok(()),
        Some(place) => bail!(
            "{name} restored another photograph of {} than the first system: were they sampled from \
             one dataset at one size?",
            keys[place]
        ),
    }
}

fn check_size(
    name: &str,
    key: &str,
    output: &RgbImage,
    reference: &RgbImage,
) -> anyhow::Result<()> {
    if output.dimensions() == reference.dimensions() {
        return Ok(());
    }
    let ((a, b), (c, d)) = (output.dimensions(), reference.dimensions());
    bail!(
        "{name}: {key} has {a}x{b} pixels, its photograph {c}x{d}: pictures of a pair must have one \
         size, or the size tells them apart"
    )
}

/// A PNG file without compression and without anything but pixels: files of one size have the same
/// length, so that not even the length of an answer tells an output from a photograph.
fn png(image: &RgbImage) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Uncompressed, FilterType::NoFilter)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .context("encode as PNG")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn files_of_one_size_have_one_length_and_hold_only_pixels() {
        let flat = RgbImage::from_pixel(31, 17, Rgb([7, 7, 7]));
        let busy = RgbImage::from_fn(31, 17, |x, y| Rgb([(x * 57) as u8, (y * 91) as u8, x as u8]));
        let (a, b) = (png(&flat).unwrap(), png(&busy).unwrap());
        assert_eq!(a.len(), b.len());
        assert_eq!(pipeline::image::decode(&b).unwrap(), busy);
        let chunks = ["IHDR", "IDAT", "IEND"];
        let mut rest = &b[8..];
        while let [a, b, c, d, kind @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let kind_name = std::str::from_utf8(&kind[..4]).unwrap();
            assert!(chunks.contains(&kind_name), "{kind_name}");
            rest = &kind[4 + length + 4..];
        }
    }
}
