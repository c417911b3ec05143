//! Photographs that two datasets share, byte for byte as their sources had them: what is in the
//! training set must not be in the test set.

use std::collections::HashMap;

use super::Dataset;
use crate::Result;

/// Pairs of keys that a report names.
const NAMED: usize = 20;

/// What two datasets share.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Overlap {
    /// Address of the other dataset.
    pub with: String,
    /// Images of this dataset that the other has too.
    pub images: u64,
    /// The first of them: key here, key there.
    pub first: Vec<(String, String)>,
}

impl Dataset {
    /// Compares the digests of the sources' files.
    ///
    /// # Errors
    /// Where a shard of either cannot be read.
    pub fn overlap(&self, other: &Self) -> Result<Overlap> {
        const COLUMNS: [&str; 2] = ["sha256", "source_sha256"];
        let mut there = HashMap::new();
        other.scan(&COLUMNS, &mut |row| {
            there.entry(row.digest()?).or_insert(row.index);
            Some(())
        })?;
        let mut images = 0;
        let mut pairs = Vec::new();
        self.scan(&COLUMNS, &mut |row| {
            if let Some(&index) = there.get(&row.digest()?) {
                images += 1;
                if pairs.len() < NAMED {
                    pairs.push((row.index, index));
                }
            }
            Some(())
        })?;
        let first = pairs
            .into_iter()
            .map(|(here, there)| Ok((self.key(here)?, other.key(there)?)))
            .collect::<Result<_>>()?;
        Ok(Overlap { with: other.store.place().to_string(), images, first })
    }
}
