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
    /// Reverse process: ancestral (the paper's Algorithm 2), posterior, ddim, dpmpp-2m, dpmpp-2m-sde
    /// or heun.
    #[arg(long, default_value = "dpmpp-2m")]
    process: String,
    /// Steps of the reverse process [default: those of the schedule, 1000 in the paper, for ancestral
    /// and posterior; 10 for dpmpp-2m, 20 for ddim, 50 for dpmpp-2m-sde and heun].
    #[arg(long)]
    steps: Option<u32>,
    /// How the noise levels of the steps lie: linear (in time) or log-snr.
    #[arg(long, default_value = "linear")]
    spacing: String,
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
    /// Numbers that the network is computed in: fp32, tf32 or bf16 [default: on a GPU those that it was
    /// trained in, on the CPU fp32].
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
        tracing::warn!("the GPU of this machine is not used: {reason}");
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
        let method = serde_json::from_value(self.process.clone().into()).map_err(|_| {
            let known = Method::ALL.map(Method::name).join(", ");
            Usage::new(format!("--process {}: wanted is one of {known}", self.process))
        })?;
        let spacing: Spacing =
            serde_json::from_value(self.spacing.clone().into()).map_err(|_| {
                Usage::new(format!("--spacing {}: wanted is linear or log-snr", self.spacing))
            })?;
        let config = SamplingConfig {
            method,
            steps: self.steps,
            spacing,
            eta: self.eta,
            ..SamplingConfig::default()
        };
        config.validate().map_err(|error| Usage::new(error.to_string()))?;
        Ok(config)
    }
}
