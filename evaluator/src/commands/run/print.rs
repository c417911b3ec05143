//! Scores for people: a table a task, and what they depend on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use pictures::Chart;
use terminal::Usage;

use super::Report;
use crate::scores::{Estimate, Interval};
use crate::scoring::{BARS, Scores};

pub fn print(report: &Report) -> Result<()> {
    terminal::print(&report.outputs)?;
    for (task, scores) in &report.tasks {
        let mut table = terminal::Table::new(&["score", "value", "95 %", "of"]);
        for line in lines(scores) {
            table.row(line);
        }
        let Scores { outputs, inputs, .. } = scores;
        terminal::print(&format!("\n{task}: {outputs} outputs of {inputs} inputs"))?;
        table.print()?;
    }
    terminal::print("")?;
    for line in depends(report) {
        terminal::print(&line)?;
    }
    Ok(())
}

/// A line for each score that there is.
fn lines(scores: &Scores) -> Vec<[String; 4]> {
    let mut lines = Vec::new();
    let mut plain = |name: &str, value: Option<f64>, of: &str| {
        if let Some(value) = value {
            lines.push([name.into(), format!("{value:.2}"), String::new(), of.into()]);
        }
    };
    let generated = "generated pixels, levels of 0 to 255";
    plain("error", scores.mean_absolute_error, generated);
    plain("error of the input", scores.input_mean_absolute_error, generated);
    plain("PSNR", scores.psnr, "generated pixels, dB");
    plain("diversity", scores.diversity, generated);
    let mut interval = |name: &str, value: Option<Interval>, digits: usize, of: &str| {
        if let Some(Interval { value, low, high }) = value {
            let range = format!("{low:.digits$} to {high:.digits$}");
            lines.push([name.into(), format!("{value:.digits$}"), range, of.into()]);
        }
    };
    let scales = scores.scales.map_or(String::new(), |scales| format!("{scales} of 5 scales"));
    interval("PSNR of pictures", scores.picture_psnr, 2, "whole pictures, dB");
    interval("SSIM", scores.ssim, 4, "whole pictures");
    interval("MS-SSIM", scores.ms_ssim, 4, &format!("whole pictures, {scales}"));
    interval("FID", scores.fid, 3, "first outputs");
    interval("CA (%)", scores.accuracy.map(|one| one.times(100.0)), 2, "top-1");
    interval("PD", scores.perceptual, 3, "L2 of features");
    interval("PD squared", scores.perceptual_squared, 3, "L2 of features, squared");
    interval("LPIPS-like", scores.lpips, 4, "feature maps, unweighted");
    let diversity = scores.diversity_ms_ssim.as_ref().map(|one| one.mean);
    interval("MS-SSIM of outputs", diversity, 4, &format!("first and others, {scales}"));
    let mut estimate = |name: &str, value: Option<Estimate>, digits: usize, of: &str| {
        if let Some(Estimate { mean, deviation }) = value {
            let value = format!("{mean:.digits$} ± {deviation:.digits$}");
            lines.push([name.into(), value, String::new(), of.into()]);
        }
    };
    estimate("IS", scores.inception, 3, "first outputs, deviation over splits");
    estimate("KID", scores.kid, 5, "first outputs, deviation over subsets");
    lines
}

fn depends(report: &Report) -> Vec<String> {
    let depends = &report.depends;
    let mut lines = vec![match &depends.distribution {
        Some(one) => {
            let digest = one.digest.get(..12).unwrap_or(&one.digest);
            format!("FID and KID against {} images of {} (sha256 {digest})", one.images, one.uri)
        }
        None => "FID and KID against the references".to_owned(),
    }];
    lines.push(match depends.size {
        Some(side) => format!("pictures brought to {side}x{side}, antialiased bicubic, middle"),
        None => "pictures at their own size, photographs brought to that of the output".to_owned(),
    });
    let (splits, subset) = (depends.splits, depends.kid_subset);
    lines.push(format!("IS over {splits} splits in order, KID over subsets of at most {subset}"));
    for one in &depends.extractors {
        let (name, scores, rule) = (&one.name, one.scores.join(", "), &one.rule);
        let digest = one.sha256.get(..12).unwrap_or(&one.sha256);
        lines.push(format!("{name} (sha256 {digest}) for {scores}; pictures: {rule}"));
    }
    let timing = &report.timing;
    lines.push(format!(
        "{:.1} outputs/s, extractors busy {:.0} % of {:.1} s, then {:.1} s",
        timing.outputs_per_second,
        100.0 * timing.extractor_share,
        timing.seconds,
        timing.closing_seconds
    ));
    if depends.extractors.is_empty() {
        // Nothing but pixels: neither FID nor an extractor has anything to depend on.
        lines = vec![lines.swap_remove(1)];
    }
    lines.extend(report.matching.note());
    lines
}

/// The histogram of the diversity of each task, in hundredths.
pub fn histogram(file: &Path, tasks: &BTreeMap<String, Scores>) -> Result<()> {
    let mut chart = Chart::default();
    let mut any = false;
    for (task, scores) in tasks {
        let Some(diversity) = &scores.diversity_ms_ssim else { continue };
        any = true;
        let width = 100 / BARS as u64;
        let counts = (0..).map(|bar| bar * width).zip(diversity.histogram.iter().copied());
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        chart.panel(&format!("{task}, MS-SSIM of outputs"), "/100", &counts);
    }
    if !any {
        bail!(Usage::new("--histogram: no input has more than one output to compare"));
    }
    Ok(storage::atomic::write(file, &chart.png()?)?)
}
