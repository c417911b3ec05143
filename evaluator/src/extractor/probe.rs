//! Whether a network takes and gives what its configuration says: it looks at a probe picture, and
//! where the configuration knows what must come out, that is compared. A network that is fed another
//! range of values, or channels in another order, answers too; only this tells.

use anyhow::{Result, bail};
use image::{Rgb, RgbImage};
use tch::Tensor;

use super::Extractor;

/// Side where the configuration names none.
const SIDE: u32 = 64;
/// Relative to the largest of the numbers: what other versions and devices round differently.
const TOLERANCE: f64 = 5e-3;

/// Least size of the largest number that is compared.
const LEAST: f64 = 1e-30;

/// The probe: the value of channel c at column x, row y is (7x + 13y + 29c + xy) mod 256.
pub fn picture(side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        Rgb([0, 1, 2].map(|channel| ((7 * x + 13 * y + 29 * channel + x * y) % 256) as u8))
    })
}

/// Lets the network look at the probe.
///
/// # Errors
/// Where it refuses it, gives other shapes, or other numbers than the configuration knows.
pub fn check(extractor: &Extractor) -> Result<()> {
    let config = extractor.config();
    let side = config.check.as_ref().map(|check| check.side);
    if side.is_some_and(|side| !(8..=2048).contains(&side)) {
        bail!("check.side is out of range: 8 to 2048 pixels");
    }
    let side = side.or(config.crop).or(config.resize).unwrap_or(SIDE);
    let probe = picture(side);
    let seen = extractor.look(&[probe.clone(), probe])?;
    let Some(check) = &config.check else { return Ok(()) };
    compare("features", seen.features.as_ref(), &check.features)?;
    compare("logits", seen.logits.as_ref(), &check.logits)
}

fn compare(name: &str, seen: Option<&Tensor>, expected: &[f64]) -> Result<()> {
    if expected.is_empty() {
        return Ok(());
    }
    let Some(seen) = seen else { bail!("check.{name} is given, but no section [{name}]") };
    if seen.size()[1] < expected.len() as i64 {
        bail!("check.{name} has more numbers than the network gives");
    }
    let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    // Written by a script that rounds, such numbers would be equal to those of any picture.
    if !largest.is_finite() || largest < LEAST {
        bail!("check.{name} has no number that is not 0: it would check nothing; write it anew");
    }
    for (place, expected) in expected.iter().enumerate() {
        let got = seen.f_double_value(&[0, place as i64])?;
        if (got - expected).abs() > TOLERANCE * largest {
            bail!(
                "the probe picture gives {name}[{place}] = {got:e}, expected is {expected:e}: another \
                 input range (`input`), order of channels or `forward` argument was meant"
            );
        }
    }
    Ok(())
}
