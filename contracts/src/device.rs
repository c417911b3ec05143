//! Which device a program computes on.

use serde::{Deserialize, Serialize};
use tch::Device;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU; an error if the machine has no usable GPU.
    Cuda,
}

impl DeviceChoice {
    /// The device of this machine. Where a GPU is there and is not used, a warning says why.
    ///
    /// # Errors
    /// Where a GPU must be there and is not; another machine may have one.
    pub fn device(self) -> Result<Device, torch_ext::Error> {
        match self {
            Self::Auto => {
                if let Some(reason) = torch_ext::idle_gpu() {
                    tracing::warn!("the GPU of this machine is not used: {reason}");
                }
                Ok(torch_ext::device())
            }
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => torch_ext::device_named("cuda"),
        }
    }
}

/// A device as people name it: `cpu`, or the card, such as `NVIDIA H200`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => {
            torch_ext::card_name(index).unwrap_or_else(|| format!("cuda:{index}"))
        }
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_cpu() {
        assert_eq!(DeviceChoice::Cpu.device().unwrap(), Device::Cpu);
        assert_eq!(name(Device::Cpu), "cpu");
    }
}
