//! Which inputs are shown: some over the whole set, and those that a system did best and worst.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// An output with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Key of the input.
    pub key: String,
    /// Number of the output.
    pub sample: u32,
    /// What is written beside it.
    pub label: String,
}

/// Keys of `count` inputs, evenly over the details of an evaluation; none where there are no details.
pub fn spread(details: &Path, count: usize) -> Result<Vec<String>> {
    let Some(rows) = read(details)? else { return Ok(Vec::new()) };
    let firsts: Vec<&Detail> = rows.iter().filter(|row| row.sample == 0).collect();
    let count = count.min(firsts.len());
    Ok((0..count).map(|at| firsts[at * firsts.len() / count].key.clone()).collect())
}

/// The `count` best outputs, then the `count` worst: by perceptual distance, or by PSNR where that was
/// not taken. None without details or either score.
pub fn extremes(details: &Path, count: usize) -> Result<Option<Vec<Case>>> {
    let Some(rows) = read(details)? else { return Ok(None) };
    let perceptual = rows.iter().any(|row| row.perceptual.is_some());
    // The lower, the better.
    let score = |row: &Detail| if perceptual { row.perceptual } else { row.psnr.map(|psnr| -psnr) };
    let mut ranked: Vec<(f64, &Detail)> =
        rows.iter().filter_map(|row| Some((score(row)?, row))).collect();
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let count = count.min(ranked.len() / 2);
    if count == 0 {
        return Ok(None);
    }
    let unit = if perceptual { "PD" } else { "PSNR" };
    let case = |what: &str, (score, row): &(f64, &Detail)| Case {
        key: row.key.clone(),
        sample: row.sample,
        label: format!("{what}\n{unit} {:.2}", score.abs()),
    };
    let best = ranked[..count].iter().map(|one| case("best", one));
    let worst = ranked[ranked.len() - count..].iter().rev().map(|one| case("worst", one));
    Ok(Some(best.chain(worst).collect()))
}

/// A line of a details file, as far as it is needed here.
#[derive(Deserialize)]
struct Detail {
    key: String,
    sample: u32,
    #[serde(default)]
    psnr: Option<f64>,
    #[serde(default)]
    perceptual: Option<f64>,
}

/// The lines of a details file; none where it is gone.
fn read(path: &Path) -> Result<Option<Vec<Detail>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let details = reader.deserialize().collect::<Result<Vec<_>, _>>();
    details.with_context(|| format!("{} is damaged", path.display())).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_the_worst_of_all_after_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("details.csv");
        let mut text = "key,sample,psnr,perceptual\n".to_owned();
        for number in 0..9 {
            text.push_str(&format!("\"k,{number}\",0,{number}.5,{}\n", (number * 4) % 9));
        }
        fs::write(&file, text).unwrap();
        let cases = extremes(&file, 2).unwrap().unwrap();
        let keys: Vec<&str> = cases.iter().map(|case| case.key.as_str()).collect();
        assert_eq!(keys, ["k,0", "k,7", "k,2", "k,4"]);
        assert_eq!(cases[2].label, "worst\nPD 8.00");
        assert_eq!(spread(&file, 3).unwrap(), ["k,0", "k,3", "k,6"]);
        assert_eq!(extremes(&folder.path().join("none"), 2).unwrap(), None);
        fs::write(&file, "key,sample\n\"open,0\n").unwrap();
        let error = format!("{:#}", spread(&file, 1).unwrap_err());
        assert!(error.contains("is damaged"), "{error}");
    }
}
