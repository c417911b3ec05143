//! One command a file; what several of them share is here.

pub mod attempt;
pub mod bench;
pub mod run;
pub mod serve;
pub mod share;
pub mod submit;

use contracts::DeviceChoice;
use contracts::sampling::ComputeArgs;

use crate::network::Computing;

/// How a network is computed here, as the arguments say.
fn computing(numbers: ComputeArgs) -> anyhow::Result<Computing> {
    let (precision, batch) = (numbers.precision(), numbers.batch());
    Ok(Computing { device: DeviceChoice::Auto.device()?, precision, batch, sharing: 1 })
}
