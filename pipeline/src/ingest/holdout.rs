//! Cuts one source into training and held-out images, by content: an image falls on the same side in
//! every ingest, and copies of it fall there with it.

use serde_json::{Value, json};

use crate::{Error, Result};

/// Side of the cut that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is not held out.
    Train,
    /// What is held out.
    HeldOut,
}

/// One side of a cut into training and held-out images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holdout {
    /// Which side.
    pub side: Side,
    /// Share of the images that is held out, about, above 0 and below 1.
    pub share: f64,
}

impl Holdout {
    pub(super) fn validate(&self) -> Result<()> {
        if self.share > 0.0 && self.share < 1.0 {
            return Ok(());
        }
        Err(Error::config("--holdout", self.share, "above 0 and below 1"))
    }

    /// Whether the image with this SHA-256 is on this side.
    pub(super) fn takes(&self, digest: &[u8; 32]) -> bool {
        let number = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let held_out = (number as f64) < self.share * u64::MAX as f64;
        held_out == (self.side == Side::HeldOut)
    }

    pub(super) fn json(&self) -> Value {
        let side = match self.side {
            Side::Train => "train",
            Side::HeldOut => "held-out",
        };
        json!({ "side": side, "held_out": self.share })
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn every_image_is_on_one_side_and_the_share_is_held_out() {
        let train = Holdout { side: Side::Train, share: 0.1 };
        let held_out = Holdout { side: Side::HeldOut, ..train };
        let mut count = 0;
        for image in 0..10_000_u32 {
            let digest = Sha256::digest(image.to_le_bytes()).into();
            assert_ne!(train.takes(&digest), held_out.takes(&digest));
            count += u32::from(held_out.takes(&digest));
        }
        // Binomial(10000, 0.1): sd 30.
        assert!((850..1150).contains(&count), "{count}");
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(Holdout { share, ..train }.validate().is_err());
        }
    }
}
