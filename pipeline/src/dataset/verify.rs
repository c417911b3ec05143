//! `pipeline verify`: every shard and every image against its digest.

use sha2::{Digest, Sha256};

use super::Dataset;
use crate::{Result, atomic};

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
    /// Never for damage, which is a finding.
    pub fn verify(&self, seen: impl Fn()) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut first = 0;
        for entry in &self.manifest.shards {
            let mut find = |message: String| {
                verified.findings.push(Finding { shard: entry.file.clone(), message });
            };
            match atomic::sha256_file(&self.folder.join(&entry.file)) {
                Ok((sha256, bytes)) if sha256 == entry.sha256 && bytes == entry.bytes => {}
                Ok((sha256, _)) => {
                    find(format!("has sha256 {sha256}, the manifest says {}", entry.sha256));
                }
                Err(error) => find(error.to_string()),
            }
            for row in 0..entry.rows {
                match self.record(first + row) {
                    Ok(record) => {
                        let sha256 = atomic::hex(&Sha256::digest(&record.bytes));
                        if sha256 != record.sha256 {
                            let key = &record.key;
                            find(format!(
                                "row {row} ({key}) has sha256 {sha256}, not {}",
                                record.sha256
                            ));
                        }
                    }
                    Err(error) => find(error.to_string()),
                }
                verified.images += 1;
                seen();
            }
            first += entry.rows;
            verified.shards += 1;
        }
        Ok(verified)
    }
}
