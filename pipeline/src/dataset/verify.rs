//! `pipeline verify`: every shard and every image against its digest.

use super::Dataset;
use crate::Result;

/// Something that is not as the manifest or a record says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Shard below the dataset's folder.
    pub shard: String,
    /// What is wrong, with row and digest where it is a row.
    pub message: String,
}

/// Result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Shards read.
    pub shards: u64,
    /// Images read.
    pub images: u64,
    /// Everything that is wrong; empty for a sound dataset.
    pub findings: Vec<Finding>,
}

impl Dataset {
    /// Reads everything and compares it with every digest; `seen` is called for every image.
    ///
    /// # Errors
    /// Never for damage, which is a finding; where open files run out or a store does not answer.
    pub fn verify(&self, seen: impl Fn()) -> Result<Verified> {
        let mut verified = Verified::default();
        let used = self.used();
        for (entry, _) in self.manifest.shards.iter().zip(&used).filter(|(_, used)| **used) {
            let mut find = |message: String| {
                verified.findings.push(Finding { shard: entry.file.clone(), message });
            };
            match self.shards_in.digest(&entry.file, entry.bytes) {
                Ok(sha256) if sha256 == entry.sha256 => {}
                Ok(sha256) => {
                    find(format!("has sha256 {sha256}, the manifest says {}", entry.sha256));
                }
                // What the machine or the store cannot give now says nothing of the dataset.
                Err(error) if error.is_shortage() => return Err(error.into()),
                Err(error) => find(error.to_string()),
            }
            verified.shards += 1;
        }
        for index in 0..self.len() {
            if let Err(error) = self.record(index) {
                if error.is_shortage() {
                    return Err(error);
                }
                let (number, _) = self.row(self.base_row(index));
                let shard = self.manifest.shards[number].file.clone();
                verified.findings.push(Finding { shard, message: error.to_string() });
            }
            verified.images += 1;
            seen();
        }
        Ok(verified)
    }
}
