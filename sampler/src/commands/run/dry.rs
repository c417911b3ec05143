//! `sampler run --dry-run`: what would be made, and the holes as pictures.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use image::{Rgb, RgbImage};
use serde::Serialize;
use storage::named;

use super::{RunArgs, names};
use crate::extend;
use crate::inputs::{Input, Picture, Reader};

use super::said::{Said, Seen};

/// What would be made of a picture.
#[derive(Serialize)]
struct Plan<'a> {
    input: &'a Path,
    outputs: Vec<PathBuf>,
    width: u32,
    height: u32,
    /// Share that is made anew, 0 to 1.
    hole: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<PathBuf>,
}

pub(super) fn run(
    run: &RunArgs,
    reader: &Reader,
    inputs: &[Input],
    folder: &Path,
    mut said: Said,
) -> Result<()> {
    let mut plans = Vec::new();
    let mut failed = 0;
    for input in inputs {
        match reader.read(input) {
            Ok(picture) => {
                said.picture(&Seen::of(&input.path, &picture));
                plans.push(plan(run, input, &picture, folder)?);
            }
            Err(error) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                tracing::error!("{}: {}", input.path.display(), causes.join(": "));
                failed += 1;
            }
        }
    }
    said.finish();
    if run.json {
        terminal::print_json(&plans)?;
    } else {
        for plan in &plans {
            let samples = plan.outputs.len();
            let overlay = match &plan.overlay {
                Some(path) => format!("; the hole in {}", path.display()),
                None => String::new(),
            };
            terminal::print(&format!(
                "{}: {}×{}, {:.1} % made anew, {samples} {}{overlay}",
                plan.input.display(),
                plan.width,
                plan.height,
                100.0 * plan.hole,
                if samples == 1 { "output" } else { "outputs" },
            ))?;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} pictures cannot be restored", inputs.len());
    }
    Ok(())
}

fn plan<'a>(run: &RunArgs, input: &'a Input, picture: &Picture, folder: &Path) -> Result<Plan<'a>> {
    let mask = &picture.degraded.mask;
    let (width, height) = mask.dimensions();
    let [wide, high] = extend::grown(width, height, &run.extend).unwrap_or([width, height]);
    let overlay = match &picture.mask {
        None => None,
        Some(_) => {
            let path = names::overlay(folder, &input.key);
            if path.exists() && !run.overwrite {
                bail!("{} is there already: say --overwrite or another --out", path.display());
            }
            super::make(folder)?;
            named::write(&path, &pictures::png(&drawn(picture))?)?;
            Some(path)
        }
    };
    let marked = pipeline::degrade::area(mask) * f64::from(width) * f64::from(height);
    let grown = f64::from(wide) * f64::from(high);
    let hole = match run.extend.is_empty() {
        true => marked / grown,
        false => 1.0 - f64::from(width) * f64::from(height) / grown,
    };
    let outputs = (0..run.samples).map(|sample| names::output(folder, &input.key, sample));
    let outputs = outputs.collect();
    Ok(Plan { input: &input.path, outputs, width: wide, height: high, hole, overlay })
}

/// The picture with its hole in red, half laid over.
fn drawn(picture: &Picture) -> RgbImage {
    let mut shown = picture.framed.clone();
    for (pixel, mask) in shown.pixels_mut().zip(picture.degraded.mask.pixels()) {
        if mask.0[0] == 1 {
            let [r, g, b] = pixel.0;
            *pixel = Rgb([128 + r / 2, g / 2, b / 2]);
        }
    }
    shown
}
