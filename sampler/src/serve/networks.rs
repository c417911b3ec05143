//! The networks that were used last, on the device.

use anyhow::Result;
use contracts::DeviceChoice;

use crate::commands::run::order::Order;
use crate::network::Network;

/// So many are kept.
const KEPT: usize = 2;

/// Networks by the digest of their weights, the one that was used last at the end.
#[derive(Default)]
pub struct Networks(Vec<(String, Network)>);

impl Networks {
    /// The network of an order: one that is there, or it is loaded, for which the others go if memory runs out.
    ///
    /// # Errors
    /// When the weights are damaged, or memory does not suffice.
    pub fn of(&mut self, order: &Order) -> Result<&Network> {
        let at = self.0.iter().position(|(digest, _)| *digest == order.digest);
        let found = match at {
            Some(at) => self.0.remove(at),
            None => {
                self.0.drain(..(self.0.len() + 1).saturating_sub(KEPT));
                torch_ext::release_memory();
                (order.digest.clone(), self.load(order)?)
            }
        };
        self.0.push(found);
        // It was pushed just now.
        let last = self.0.last().map(|(_, network)| network);
        last.ok_or_else(|| anyhow::anyhow!("no network"))
    }

    fn load(&mut self, order: &Order) -> Result<Network> {
        let device = DeviceChoice::Auto.device()?;
        match order.network(device, 1) {
            Err(error)
                if !self.0.is_empty() && torch_ext::is_out_of_memory(&format!("{error:#}")) =>
            {
                self.0.clear();
                torch_ext::release_memory();
                order.network(device, 1)
            }
            loaded => loaded,
        }
    }
}
