//! One command a file; what several of them share is here.

pub mod attempt;
pub mod bench;
pub mod run;
pub mod submit;

use contracts::DeviceChoice;
use contracts::sampling::Numbers;
use terminal::Usage;

use crate::network::Computing;

/// How a network is computed here, as the arguments say.
fn computing(numbers: Numbers) -> anyhow::Result<Computing> {
    let (precision, batch) = (numbers.precision(), numbers.batch());
    Ok(Computing { device: DeviceChoice::Auto.device()?, precision, batch })
}

/// An error of what the programs agree on, as wrong use where it is that.
fn told(error: contracts::Error) -> anyhow::Error {
    Usage::when(error.is_wrong_use(), error)
}

/// Marks what a place or the arguments are at fault for as wrong use: trying again helps nobody.
fn usage(error: anyhow::Error) -> anyhow::Error {
    let at_fault = error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(outputs::Error::is_usage)
            || cause.downcast_ref().is_some_and(pipeline::Error::is_usage)
            || cause.downcast_ref().is_some_and(storage::Error::is_usage)
            || cause.is::<storage::NoPlace>()
    });
    if at_fault { Usage::new(format!("{error:#}")).into() } else { error }
}
