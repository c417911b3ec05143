//! One command a file; the options of the reverse process are shared.

pub mod attempt;
pub mod bench;
pub mod run;
pub mod submit;

use clap::Args;
use diffusion::{Method, Precision, SamplingConfig, Spacing};
use pipeline::masks::MaskOptions;
use terminal::Usage;

use crate::network::Computing;

/// The reverse process.
#[derive(Args)]
pub struct Process {
    /// Reverse process, with its steps where --steps gives no other number.
    #[arg(long, default_value_t = Method::Dpmpp2m, value_enum)]
    process: Method,
    /// Steps of the reverse process [default: as --process says].
    #[arg(long)]
    steps: Option<u32>,
    /// How the noise levels of the steps lie.
    #[arg(long, default_value = "linear")]
    spacing: Spacing,
    /// Noise of ddim: 0 for none, 1 for as much as the ancestral process has.
    #[arg(long, default_value_t = 0.0)]
    eta: f64,
}

/// How the network is computed.
#[derive(Args, Clone, Copy)]
pub struct Numbers {
    /// Images that go through the network at once [default: as many as make it faster and as memory
    /// allows].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Numbers that the network is computed in [default: on a GPU those that it was trained in, on the
    /// CPU fp32].
    #[arg(long)]
    precision: Option<Precision>,
}

impl Numbers {
    fn computing(self) -> Computing {
        let batch = self.batch.map(|batch| batch as usize);
        Computing { device: computing_device(), precision: self.precision, batch }
    }
}

/// The device of this machine; a GPU that lies idle is mentioned.
fn computing_device() -> tch::Device {
    if let Some(reason) = torch_ext::idle_gpu() {
        eprintln!("warning: the GPU of this machine is not used: {reason}");
    }
    torch_ext::device()
}

/// How mask files are read.
#[derive(Args, Clone, Copy)]
pub struct MaskReading {
    /// Grey (BT.601 luma) from which a pixel of a mask file is to be made anew.
    #[arg(long, value_name = "LEVEL", default_value_t = 128)]
    mask_threshold: u8,
    /// What is dark in a mask file is to be made anew.
    #[arg(long)]
    mask_invert: bool,
}

impl From<MaskReading> for MaskOptions {
    fn from(reading: MaskReading) -> Self {
        Self { threshold: reading.mask_threshold, invert: reading.mask_invert }
    }
}

impl Process {
    fn config(&self) -> Result<SamplingConfig, Usage> {
        let config = SamplingConfig {
            method: self.process,
            steps: self.steps,
            spacing: self.spacing,
            eta: self.eta,
            ..SamplingConfig::default()
        };
        config.validate().map_err(|error| Usage::new(error.to_string()))?;
        Ok(config)
    }
}
