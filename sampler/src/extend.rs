//! Panoramas: a picture is continued to one side by repeated uncropping. Each time the network sees
//! what is known next to the border, and makes a stripe of half its own side.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use image::imageops::{crop_imm, replace};
use image::{GrayImage, Luma, RgbImage};
use pipeline::Task;
use pipeline::degrade::{Degraded, HOLE};
use pipeline::image::Limits;
use serde::{Deserialize, Serialize};

use crate::network::{Item, Network, SeededSampling, Watch};

/// Where a picture grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
    Up,
    Down,
}

impl Side {
    const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Up, Self::Down];

    fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// Along which of width and height.
    fn axis(self) -> usize {
        usize::from(matches!(self, Self::Up | Self::Down))
    }

    /// Whether what is new comes first.
    fn in_front(self) -> bool {
        matches!(self, Self::Left | Self::Up)
    }
}

/// How far a picture grows to a side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Extension {
    side: Side,
    /// Its new width or height, in old ones.
    factor: f64,
}

impl FromStr for Extension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(name, factor)| {
            let side = Side::ALL.into_iter().find(|side| side.name() == name)?;
            let factor = factor.parse().ok().filter(|factor| *factor > 1.0 && *factor <= 64.0)?;
            Some(Self { side, factor })
        });
        parsed.ok_or_else(|| {
            "wanted is left, right, up or down = a factor over 1, at most 64: right=2.0".to_owned()
        })
    }
}

impl TryFrom<String> for Extension {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Extension> for String {
    fn from(extension: Extension) -> Self {
        extension.to_string()
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.side.name(), self.factor)
    }
}

impl Extension {
    /// Width and height of a picture that has grown.
    fn grown(self, mut size: [u32; 2]) -> [u32; 2] {
        let length = &mut size[self.side.axis()];
        *length = (f64::from(*length) * self.factor).round() as u32;
        size
    }
}

/// Width and height after all extensions; none where they are more than a picture may have.
pub fn grown(width: u32, height: u32, extensions: &[Extension]) -> Option<[u32; 2]> {
    let mut size = [width, height];
    for extension in extensions {
        size = extension.grown(size);
        if u64::from(size[0]) * u64::from(size[1]) > Limits::DECODE.pixels {
            return None;
        }
    }
    Some(size)
}

/// How many stripes the network makes for that.
pub fn stripes(width: u32, height: u32, extensions: &[Extension], network_side: u32) -> u32 {
    let mut size = [width, height];
    let mut sum = 0;
    for extension in extensions {
        let axis = extension.side.axis();
        let before = size[axis];
        size = extension.grown(size);
        sum += (size[axis] - before).div_ceil(stripe_length(network_side));
    }
    sum
}

fn stripe_length(network_side: u32) -> u32 {
    (network_side / 2).max(1)
}

/// A picture that grows.
pub struct Panorama {
    /// As far as it is.
    pub picture: RgbImage,
    /// Its name.
    pub key: String,
    /// Number of the output among those of the same input.
    pub sample: u32,
}

/// Lets pictures of one size grow. Where they were not extended nothing changes, and each depends on
/// (seed, key, sample) alone: the noise of a stripe on these, its side and its number.
///
/// # Errors
/// As [`Network::restore`].
pub fn extend(
    network: &Network,
    panoramas: &mut [Panorama],
    extensions: &[Extension],
    seeded: SeededSampling,
    watch: &mut Watch,
) -> Result<()> {
    // Counted through all extensions: the same side may grow twice, with other noise.
    let mut number = 0;
    for extension in extensions {
        let side = extension.side;
        let Some(first) = panoramas.first() else { break };
        let size = [first.picture.width(), first.picture.height()];
        let mut missing = extension.grown(size)[side.axis()] - size[side.axis()];
        while missing > 0 {
            let new = missing.min(stripe_length(network.image_size()));
            let stripes_beside: Vec<Stripe> = panoramas
                .iter()
                .map(|panorama| Stripe::new(&panorama.picture, side, new, network.image_size()))
                .collect();
            let items: Vec<Item> = panoramas
                .iter()
                .zip(&stripes_beside)
                .map(|(panorama, stripe)| Item {
                    task: Task::Uncropping,
                    degraded: stripe.degraded(&panorama.picture),
                    key: format!("{}/{}/{number}", panorama.key, side.name()),
                    sample: panorama.sample,
                })
                .collect();
            let made = network.restore(&items, seeded, watch)?;
            for ((panorama, stripe), made) in panoramas.iter_mut().zip(stripes_beside).zip(made) {
                panorama.picture = stripe.joined(&panorama.picture, &made);
            }
            missing -= new;
            number += 1;
        }
    }
    Ok(())
}

/// A stripe beside a picture, and what the network sees of the picture.
struct Stripe {
    side: Side,
    /// Width or height of the stripe.
    new: u32,
    /// The same of what is seen of the picture.
    seen: u32,
    /// Width and height of the picture.
    size: [u32; 2],
}

impl Stripe {
    fn new(picture: &RgbImage, side: Side, new: u32, network_side: u32) -> Self {
        let size = [picture.width(), picture.height()];
        let seen = size[side.axis()].min(network_side.saturating_sub(new).max(1));
        Self { side, new, seen, size }
    }

    /// Where something of `length` along the axis lies within `all`, at its front or at its end.
    fn at(&self, front: bool, length: u32, all: u32) -> [u32; 2] {
        let mut place = [0, 0];
        place[self.side.axis()] = if front { 0 } else { all - length };
        place
    }

    /// Width and height with this length along the axis.
    fn with(&self, length: u32) -> [u32; 2] {
        let mut size = self.size;
        size[self.side.axis()] = length;
        size
    }

    /// What is seen, and the stripe as a hole.
    fn degraded(&self, picture: &RgbImage) -> Degraded {
        let front = self.side.in_front();
        let all = self.seen + self.new;
        let [width, height] = self.with(all);
        let mut source = RgbImage::from_pixel(width, height, image::Rgb([HOLE; 3]));
        let mut mask = GrayImage::from_pixel(width, height, Luma([1]));
        let [x, y] = self.at(front, self.seen, self.size[self.side.axis()]);
        let [width, height] = self.with(self.seen);
        let seen = crop_imm(picture, x, y, width, height).to_image();
        let [x, y] = self.at(!front, self.seen, all).map(i64::from);
        replace(&mut source, &seen, x, y);
        replace(&mut mask, &GrayImage::new(width, height), x, y);
        Degraded { source, mask }
    }

    /// The picture with its stripe, which is cut out of what the network made.
    fn joined(&self, picture: &RgbImage, made: &RgbImage) -> RgbImage {
        let front = self.side.in_front();
        let length = self.size[self.side.axis()];
        let [x, y] = self.at(front, self.new, self.seen + self.new);
        let [width, height] = self.with(self.new);
        let stripe = crop_imm(made, x, y, width, height).to_image();
        let [width, height] = self.with(length + self.new);
        let mut joined = RgbImage::new(width, height);
        let [x, y] = self.at(front, self.new, length + self.new).map(i64::from);
        replace(&mut joined, &stripe, x, y);
        let [x, y] = self.at(!front, length, length + self.new).map(i64::from);
        replace(&mut joined, picture, x, y);
        joined
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn extensions_are_read_and_bad_ones_refused() {
        let right: Extension = "right=2.0".parse().unwrap();
        assert_eq!(right, Extension { side: Side::Right, factor: 2.0 });
        for bad in ["right", "right=1", "right=0.5", "right=NaN", "right=65", "north=2", ""] {
            assert!(bad.parse::<Extension>().unwrap_err().contains("right=2.0"), "{bad}");
        }
    }

    #[test]
    fn sizes_grow_by_their_factors_up_to_what_a_picture_may_have() {
        let extensions = ["right=2", "up=1.5"].map(|text| text.parse().unwrap());
        assert_eq!(grown(100, 60, &extensions), Some([200, 90]));
        assert_eq!(stripes(100, 60, &extensions, 64), 4 + 1);
        assert_eq!(grown(20_000, 4_000, &extensions), None);
    }

    #[test]
    fn a_stripe_lies_beside_what_is_seen_and_is_joined_there() {
        let picture = RgbImage::from_fn(10, 6, |x, y| Rgb([x as u8, y as u8, 0]));
        for side in Side::ALL {
            let stripe = Stripe::new(&picture, side, 3, 8);
            let degraded = stripe.degraded(&picture);
            assert_eq!(stripe.seen, 5, "with the stripe as long as the network's side");
            let marked = degraded.mask.pixels().filter(|pixel| pixel.0[0] == 1).count();
            let across = if side.axis() == 0 { 6 } else { 10 };
            assert_eq!(marked, 3 * across);
            // What is made: the source with another colour in the hole.
            let mut made = degraded.source.clone();
            for (pixel, mask) in made.pixels_mut().zip(degraded.mask.pixels()) {
                if mask.0[0] == 1 {
                    *pixel = Rgb([200, 200, 200]);
                }
            }
            let joined = stripe.joined(&picture, &made);
            let [x, y] = match side {
                Side::Left => [3, 0],
                Side::Up => [0, 3],
                Side::Right | Side::Down => [0, 0],
            };
            assert_eq!(crop_imm(&joined, x, y, 10, 6).to_image(), picture, "{side:?}");
            let new = joined.pixels().filter(|pixel| pixel == &&Rgb([200, 200, 200])).count();
            assert_eq!(new, 3 * across, "{side:?}");
            // The known pixel next to the stripe is the picture's own border.
            let last = match side {
                Side::Left => degraded.source.get_pixel(3, 0) == picture.get_pixel(0, 0),
                Side::Right => degraded.source.get_pixel(4, 0) == picture.get_pixel(9, 0),
                Side::Up => degraded.source.get_pixel(0, 3) == picture.get_pixel(0, 0),
                Side::Down => degraded.source.get_pixel(0, 4) == picture.get_pixel(0, 5),
            };
            assert!(last, "{side:?}");
        }
    }
}
