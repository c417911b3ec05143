//! Every output's own scores as a CSV file, which tables, worst cases and anyone's own analysis read.

use std::path::Path;

use anyhow::Result;

use super::Row;
use crate::csv::quoted;

/// The columns.
pub const COLUMNS: &str =
    "key,sample,task,error,psnr,ssim,ms_ssim,perceptual,lpips,label,found,likeness_to_first";

/// Writes the scores of all outputs.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_details(path: &Path, rows: &[Row]) -> Result<()> {
    let mut text = format!("{COLUMNS}\n");
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    let whole = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    for row in rows {
        let one = &row.compared;
        let cells = [
            quoted(&one.key),
            one.sample.to_string(),
            one.task.clone(),
            number(one.errors.and_then(|[output, _]| output.mean_absolute_error())),
            number(one.psnr.filter(|psnr| psnr.is_finite())),
            number(one.structure.map(|structure| structure.ssim)),
            number(one.structure.map(|structure| structure.ms_ssim)),
            number(row.perceptual),
            number(row.lpips),
            whole(one.label),
            whole(row.found),
            number(one.diversity.map(|structure| structure.ms_ssim)),
        ];
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(storage::atomic::write(path, text.as_bytes())?)
}
