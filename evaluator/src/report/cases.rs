//! Which inputs are shown: some over the whole set, and those that a system did best and worst.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cells;
use crate::pictures::is_of_task;

/// An input with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Key of the input.
    pub key: String,
    /// What is written beside it.
    pub label: String,
}

/// Keys of `count` inputs of a task, evenly over the details of an evaluation; none where there are no
/// details.
///
/// # Errors
/// For damaged details.
pub fn spread(details: &Path, task: &str, count: usize) -> Result<Vec<String>> {
    let Some(rows) = read(details, task)? else { return Ok(Vec::new()) };
    let inputs = inputs(&rows);
    let count = count.min(inputs.len());
    Ok((0..count).map(|at| inputs[at * inputs.len() / count].0.to_owned()).collect())
}

/// The `count` best inputs of a task, then the `count` worst, each once, by the mean over its outputs: by
/// perceptual distance, or by PSNR where that was not taken. None without details or either score.
///
/// # Errors
/// For damaged details.
pub fn extremes(details: &Path, task: &str, count: usize) -> Result<Option<Vec<Case>>> {
    let Some(rows) = read(details, task)? else { return Ok(None) };
    let perceptual = rows.iter().any(|row| row.perceptual.is_some());
    let score = |row: &&Detail| if perceptual { row.perceptual } else { row.psnr };
    let mut ranked: Vec<Ranked> = inputs(&rows)
        .into_iter()
        .filter_map(|(key, rows)| {
            Ranked::of(key, &rows.iter().filter_map(score).collect::<Vec<_>>())
        })
        .collect();
    // Of distances the lower is the better.
    ranked.sort_by(|a, b| match perceptual {
        true => a.mean.total_cmp(&b.mean),
        false => b.mean.total_cmp(&a.mean),
    });
    let count = count.min(ranked.len() / 2);
    if count == 0 {
        return Ok(None);
    }
    let unit = if perceptual { "PD" } else { "PSNR" };
    let best = ranked[..count].iter().map(|one| one.case("best", unit));
    let worst = ranked[ranked.len() - count..].iter().rev().map(|one| one.case("worst", unit));
    Ok(Some(best.chain(worst).collect()))
}

/// An input with the mean and the range over its outputs.
struct Ranked<'a> {
    key: &'a str,
    mean: f64,
    range: Option<[f64; 2]>,
}

impl<'a> Ranked<'a> {
    fn of(key: &'a str, values: &[f64]) -> Option<Self> {
        let mean = statistics::mean(values)?;
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { key, mean, range: (values.len() > 1).then_some([low, high]) })
    }

    fn case(&self, what: &str, unit: &str) -> Case {
        let Self { key, mean, range } = self;
        let range = range.map(|[low, high]| format!("\n{low:.2} to {high:.2}"));
        let label = format!("{what}\n{key}\n{unit} {mean:.2}{}", range.unwrap_or_default());
        Case { key: (*key).to_owned(), label }
    }
}

/// The rows of each input, in the order of the inputs.
fn inputs(rows: &[Detail]) -> Vec<(&str, Vec<&Detail>)> {
    let mut inputs: Vec<(&str, Vec<&Detail>)> = Vec::new();
    for row in rows {
        match inputs.last_mut() {
            Some((key, own)) if *key == row.key => own.push(row),
            _ => inputs.push((&row.key, vec![row])),
        }
    }
    inputs
}

/// A line of a details file, as far as it is needed here.
#[derive(Deserialize)]
struct Detail {
    key: String,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    psnr: Option<f64>,
    #[serde(default)]
    perceptual: Option<f64>,
}

/// A details file has a few hundred bytes per output.
const LARGEST_DETAILS: u64 = 1 << 30;
/// Most lines of it that are kept, each of which takes more memory than a short line takes of the file.
const MOST_DETAILS: usize = 8 << 20;

/// The lines of a details file that are of a task; none where it is gone.
fn read(path: &Path, task: &str) -> Result<Option<Vec<Detail>>> {
    let bytes = match storage::limited::read(path, LARGEST_DETAILS) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let mut details = Vec::new();
    for row in reader.deserialize() {
        let mut row: Detail = row.with_context(|| format!("{} is damaged", path.display()))?;
        row.key = cells::plain(&row.key).to_owned();
        row.task = row.task.as_deref().map(|task| cells::plain(task).to_owned());
        if !is_of_task(row.task.as_deref(), task) {
            continue;
        }
        if details.len() == MOST_DETAILS {
            bail!("{} has more than {MOST_DETAILS} lines", path.display());
        }
        details.push(row);
    }
    Ok(Some(details))
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let of = |count| extremes(&file, "jpeg:5", count).unwrap().unwrap();
        let keys: Vec<String> = of(2).into_iter().map(|case| case.key).collect();
        assert_eq!(keys, ["k,0", "k,7", "k,2", "k,4"]);
        assert_eq!(of(2)[2].label, "worst\nk,2\nPD 8.00");
        assert_eq!(spread(&file, "jpeg:5", 3).unwrap(), ["k,0", "k,3", "k,6"]);
        assert_eq!(extremes(&folder.path().join("none"), "jpeg:5", 2).unwrap(), None);
        fs::write(&file, "key,sample\n\"open,0\n").unwrap();
        let error = format!("{:#}", spread(&file, "jpeg:5", 1).unwrap_err());
        assert!(error.contains("is damaged"), "{error}");
    }

    #[test]
    fn an_input_is_one_case_by_the_mean_of_its_outputs_of_the_task() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("details.csv");
        let mut text = "key,sample,task,psnr,perceptual\n".to_owned();
        for (key, values) in [("a", [1.0, 9.0]), ("b", [4.0, 4.5]), ("c", [8.0, 8.5])] {
            for (sample, value) in values.into_iter().enumerate() {
                text.push_str(&format!("{key},{sample},jpeg:5,20,{value}\n"));
                text.push_str(&format!("{key},{sample},jpeg:20,20,{}\n", 100.0 - value));
            }
        }
        fs::write(&file, text).unwrap();
        let labels = |task| -> Vec<String> {
            extremes(&file, task, 4).unwrap().unwrap().into_iter().map(|one| one.label).collect()
        };
        assert_eq!(
            labels("jpeg:5"),
            ["best\nb\nPD 4.25\n4.00 to 4.50", "worst\nc\nPD 8.25\n8.00 to 8.50"]
        );
        assert_eq!(labels("jpeg:20")[0], "best\nc\nPD 91.75\n91.50 to 92.00");
        assert_eq!(spread(&file, "jpeg:5", 9).unwrap(), ["a", "b", "c"]);
    }
}
