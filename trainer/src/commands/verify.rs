//! `trainer verify`: is this network computed as its reference computes it?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use diffusion::weights::{self, Difference, Tolerance};
use diffusion::{Execution, Precision, UNet};
use serde::Serialize;
use tch::nn;
use torch_ext::Numerics;

use super::import::Reading;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer verify --weights 256x256_diffusion_uncond.pt --format adm --reference io.safetensors")]
pub struct Verify {
    /// The weights: .pth, .pt or safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Inputs and outputs that a reference implementation wrote, safetensors: `x`, `timestep`
    /// and `y` (and `activation.BLOCK`), or `cond`, `denoise.*` and `restore.*`.
    #[arg(long, value_name = "IO")]
    reference: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Precision that the network is computed in.
    #[arg(long, default_value = "fp32")]
    precision: Precision,
    /// Largest difference that is allowed; in tf32 and bf16 as a share of the tensor's largest value
    /// where that is above 1 [default: 1e-4 in fp32, 8e-3 in tf32, 6e-2 in bf16].
    #[arg(long, value_name = "X")]
    tolerance: Option<f64>,
    /// First and last β of the linear schedule of `restore.*`.
    #[arg(long, value_names = ["FIRST", "LAST"], num_args = 2, default_values_t = [1e-4, 0.09])]
    betas: Vec<f64>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verdict {
    agrees: bool,
    device: String,
    precision: Precision,
    tolerance: f64,
    /// Whether the tolerance is a share of each tensor's largest value where that is above 1.
    relative: bool,
    largest_difference: f64,
    compared: Vec<Difference>,
}

impl Verify {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let imported = self.reading.import(&self.weights)?;
        super::import::fits(&imported, &self.weights)?;
        let (device, precision) = (torch_ext::device_named(&self.device)?, self.precision);
        Numerics { tf32: precision == Precision::Tf32, deterministic: false }.set()?;
        let variables = nn::VarStore::new(device);
        let [height, width] = imported.image_size;
        let network = UNet::new(&variables.root(), &imported.model, height.min(width))?
            .executed(Execution { precision, recompute: false });
        weights::assign(&variables, &imported.weights, &self.weights)?;
        let betas = [self.betas[0], self.betas[1]];
        let compared = weights::verify(&network, &self.reference, betas)?;
        // A difference that is no number is the largest of all.
        let largest = compared.iter().map(|one| one.difference).fold(0.0, |most: f64, one| {
            if one.is_nan() || most.is_nan() { f64::NAN } else { most.max(one) }
        });
        let Tolerance { most, relative } = Tolerance::of(precision);
        let tolerance = Tolerance { most: self.tolerance.unwrap_or(most), relative };
        let agrees = compared.iter().all(|one| tolerance.holds(one));
        let verdict = Verdict {
            agrees,
            device: format!("{device:?}"),
            precision,
            tolerance: tolerance.most,
            relative,
            largest_difference: largest,
            compared,
        };
        if self.json {
            terminal::print_json(&verdict)?
        } else {
            verdict.print()?
        }
        Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Verdict {
    fn print(&self) -> anyhow::Result<()> {
        let mut table = terminal::Table::new(&["tensor", "largest difference", "largest value"]);
        for one in &self.compared {
            table.row([
                one.name.clone(),
                format!("{:.1e}", one.difference),
                format!("{:.3}", one.largest),
            ]);
        }
        table.print()?;
        let verdict = if self.agrees { "agrees" } else { "does NOT agree" };
        let of = if self.relative { " of a tensor's largest value" } else { "" };
        terminal::print(&format!(
            "the network {verdict} on {} in {}: largest difference {:.1e}, allowed {:.1e}{of}",
            self.device, self.precision, self.largest_difference, self.tolerance
        ))
    }
}
