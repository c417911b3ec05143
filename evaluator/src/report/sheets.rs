//! Sheets like the paper's figures: input, systems side by side, reference; several outputs of one input;
//! best and worst cases.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::Result;
use image::RgbImage;
use pictures::Sheet;

use super::cases::Case;
use crate::pictures::{Pairs, Set, Sizes};
use crate::protocol::Here;

/// Outputs of one input that are shown at most.
const SAMPLES: usize = 5;

/// What is shown of an input.
#[derive(Default)]
struct Shown {
    given: Option<RgbImage>,
    reference: Option<RgbImage>,
    outputs: BTreeMap<u32, RgbImage>,
}

/// Input, one output of every system, reference; none where nothing is to be seen.
///
/// # Errors
/// For outputs that cannot be read.
pub fn side_by_side(
    systems: &[(&str, &Here)],
    keys: &[String],
    size: u32,
) -> Result<Option<RgbImage>> {
    let all: Vec<BTreeMap<String, Shown>> =
        systems.iter().map(|(_, here)| collect(here, keys, size)).collect::<Result<_>>()?;
    let mut headings = vec!["input"];
    headings.extend(systems.iter().map(|(system, _)| *system));
    headings.push("reference");
    let mut sheet = Sheet::new(&headings);
    let mut any = false;
    for key in keys {
        let of = || all.iter().filter_map(|shown| shown.get(key));
        let Some(reference) = of().find_map(|shown| shown.reference.clone()) else { continue };
        let (width, height) = reference.dimensions();
        let empty = || RgbImage::from_pixel(width, height, image::Rgb([235, 235, 232]));
        let mut row = vec![of().find_map(|shown| shown.given.clone()).unwrap_or_else(empty)];
        row.extend(all.iter().map(|shown| {
            let output = shown.get(key).and_then(|shown| shown.outputs.values().next());
            output.cloned().unwrap_or_else(empty)
        }));
        row.push(reference);
        sheet.row("", row);
        any = true;
    }
    if any { Ok(Some(sheet.draw()?)) } else { Ok(None) }
}

/// Input, several outputs of it, reference.
///
/// # Errors
/// For outputs that cannot be read.
pub fn samples(here: &Here, keys: &[String], size: u32) -> Result<Option<RgbImage>> {
    let mut shown = collect(here, keys, size)?;
    let most = shown.values().map(|one| one.outputs.len().min(SAMPLES)).max().unwrap_or(0);
    let mut headings = vec!["input".to_owned()];
    headings.extend((1..=most).map(|number| format!("output {number}")));
    headings.push("reference".to_owned());
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut sheet = Sheet::new(&headings);
    let mut any = false;
    for key in keys {
        let Some(one) = shown.remove(key) else { continue };
        let mut row: Vec<RgbImage> = one.given.into_iter().collect();
        row.extend(one.outputs.into_values().take(SAMPLES));
        row.extend(one.reference);
        any |= !row.is_empty();
        sheet.row("", row);
    }
    if any { Ok(Some(sheet.draw()?)) } else { Ok(None) }
}

/// Input, output, reference of these cases.
///
/// # Errors
/// For outputs that cannot be read.
pub fn extremes(here: &Here, cases: &[Case], size: u32) -> Result<Option<RgbImage>> {
    let keys: Vec<String> = cases.iter().map(|case| case.key.clone()).collect();
    let shown = collect(here, &keys, size)?;
    let given = shown.values().any(|one| one.given.is_some());
    let headings: &[&str] =
        if given { &["input", "output", "reference"] } else { &["output", "reference"] };
    let mut sheet = Sheet::new(headings);
    let mut any = false;
    for case in cases {
        let Some(one) = shown.get(&case.key) else { continue };
        let Some(output) = one.outputs.get(&case.sample) else { continue };
        let mut row: Vec<RgbImage> = one.given.iter().cloned().collect();
        row.push(output.clone());
        row.extend(one.reference.clone());
        sheet.row(case.label.clone(), row);
        any = true;
    }
    if any { Ok(Some(sheet.draw()?)) } else { Ok(None) }
}

/// The pictures of some inputs, in one pass over the outputs.
fn collect(here: &Here, keys: &[String], size: u32) -> Result<BTreeMap<String, Shown>> {
    let wanted: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let (reference, sizes) = match here.sampled {
        true => (None, Sizes::Own),
        false => (here.reference.as_deref().map(Set::open).transpose()?, Sizes::Square(size)),
    };
    let pairs = Pairs::open(Set::open(&here.outputs)?, reference)?;
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    let mut failed = None;
    pairs.each(&mut |pair| {
        let pair = match pair {
            Ok(pair) if wanted.contains(pair.key.as_str()) => pair,
            Ok(_) => return ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        };
        match pair.decode(sizes) {
            Ok(decoded) => {
                let one = shown.entry(pair.key).or_default();
                one.given = one.given.take().or(decoded.given.map(|(given, _)| given));
                one.reference = one.reference.take().or(decoded.reference);
                one.outputs.insert(pair.sample, decoded.output);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(shown),
    }
}
