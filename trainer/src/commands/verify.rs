//! `trainer verify`: is this network computed as its reference computes it?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use diffusion::UNet;
use diffusion::weights::{self, Difference};
use serde::Serialize;
use tch::{Device, nn};

use super::import::Reading;

#[derive(Args)]
pub struct Verify {
    /// The weights: .pth, .pt or safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Inputs and outputs that a reference implementation has written down, safetensors: `x`, `timestep`
    /// and `y` (and `activation.BLOCK`), or `cond`, `denoise.*` and `restore.*`.
    #[arg(long, value_name = "IO")]
    reference: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Largest absolute difference that is allowed.
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    tolerance: f64,
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
    tolerance: f64,
    largest_difference: f64,
    compared: Vec<Difference>,
}

impl Verify {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let imported = self.reading.import(&self.weights)?;
        let variables = nn::VarStore::new(Device::Cpu);
        let network = UNet::new(&variables.root(), &imported.model, self.reading.image_size())?;
        weights::assign(&variables, &imported.weights)?;
        let betas = [self.betas[0], self.betas[1]];
        let compared = weights::verify(&network, &self.reference, betas)?;
        // A difference that is no number is the largest of all.
        let largest = compared.iter().map(|one| one.difference).fold(0.0, |most: f64, one| {
            if one.is_nan() || most.is_nan() { f64::NAN } else { most.max(one) }
        });
        let agrees = largest <= self.tolerance;
        let verdict =
            Verdict { agrees, tolerance: self.tolerance, largest_difference: largest, compared };
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
        terminal::print(&format!(
            "the network {verdict}: largest difference {:.1e}, allowed {:.1e}",
            self.largest_difference, self.tolerance
        ))
    }
}
