//! Which inputs are shown: some over the whole set, and those that a system did best and worst.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::csv;

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
    let firsts: Vec<&Row> = rows.iter().filter(|row| row.sample == 0).collect();
    let count = count.min(firsts.len());
    Ok((0..count).map(|at| firsts[at * firsts.len() / count].key.clone()).collect())
}

/// The `count` best outputs, then the `count` worst: by perceptual distance, or by PSNR where that was
/// not taken. None without details or either score.
pub fn extremes(details: &Path, count: usize) -> Result<Option<Vec<Case>>> {
    let Some(rows) = read(details)? else { return Ok(None) };
    let perceptual = rows.iter().any(|row| row.perceptual.is_some());
    // The lower, the better.
    let score = |row: &Row| if perceptual { row.perceptual } else { row.psnr.map(|psnr| -psnr) };
    let mut ranked: Vec<(f64, &Row)> =
        rows.iter().filter_map(|row| Some((score(row)?, row))).collect();
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let count = count.min(ranked.len() / 2);
    if count == 0 {
        return Ok(None);
    }
    let unit = if perceptual { "PD" } else { "PSNR" };
    let case = |what: &str, (score, row): &(f64, &Row)| Case {
        key: row.key.clone(),
        sample: row.sample,
        label: format!("{what}\n{unit} {:.2}", score.abs()),
    };
    let best = ranked[..count].iter().map(|one| case("best", one));
    let worst = ranked[ranked.len() - count..].iter().rev().map(|one| case("worst", one));
    Ok(Some(best.chain(worst).collect()))
}

struct Row {
    key: String,
    sample: u32,
    psnr: Option<f64>,
    perceptual: Option<f64>,
}

/// Rows of a details file; none where it is gone.
fn read(path: &Path) -> Result<Option<Vec<Row>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut lines = text.lines();
    let headings = csv::cells(lines.next().unwrap_or_default());
    let place = |name: &str| headings.iter().position(|heading| heading == name);
    let columns = ["key", "sample", "psnr", "perceptual"].map(place);
    let row = |line: &str| {
        let cells = csv::cells(line);
        let cell = |column: Option<usize>| cells.get(column?).map(|cell| cell.as_ref());
        Some(Row {
            key: cell(columns[0])?.to_owned(),
            sample: cell(columns[1])?.parse().ok()?,
            psnr: cell(columns[2]).and_then(|cell| cell.parse().ok()),
            perceptual: cell(columns[3]).and_then(|cell| cell.parse().ok()),
        })
    };
    let rows = lines.map(row).collect::<Option<Vec<_>>>();
    rows.with_context(|| format!("{} is damaged", path.display())).map(Some)
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
    }
}
