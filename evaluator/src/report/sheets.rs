//! Sheets like the paper's figures: input, systems side by side, reference; several outputs of one input;
//! best and worst cases. A column that no row has a picture for is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::Result;
use image::RgbImage;
use pictures::Sheet;

use super::cases::Case;
use crate::pictures::{Pairs, Set, Sizes, is_of_task};
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

/// Pictures of some inputs of a system, by key.
pub struct Collected(BTreeMap<String, Shown>);

/// Input, one output of every system, reference, on some pages; none where nothing is to be seen.
///
/// # Errors
/// For pictures that cannot be drawn.
pub fn side_by_side(systems: &[(&str, &Collected)], keys: &[String]) -> Result<Vec<RgbImage>> {
    let mut headings = vec!["input"];
    headings.extend(systems.iter().map(|(system, _)| *system));
    headings.push("reference");
    let rows = keys.iter().filter_map(|key| {
        let of = || systems.iter().filter_map(|(_, collected)| collected.0.get(key));
        let mut row = vec![of().find_map(|shown| shown.given.clone())];
        row.extend(systems.iter().map(|(_, collected)| {
            collected.0.get(key).and_then(|shown| shown.outputs.values().next().cloned())
        }));
        let reference = of().find_map(|shown| shown.reference.clone());
        let any = row.iter().skip(1).any(Option::is_some);
        row.push(reference);
        any.then(|| (key.clone(), row))
    });
    draw(&headings, rows.collect())
}

/// Input, several outputs of it, reference, on some pages.
///
/// # Errors
/// For pictures that cannot be drawn.
pub fn samples(collected: &Collected, keys: &[String]) -> Result<Vec<RgbImage>> {
    let labelled = keys.iter().map(|key| (key, key.clone()));
    of_samples(collected, labelled)
}

/// Input, outputs, reference of these cases, on some pages.
///
/// # Errors
/// For pictures that cannot be drawn.
pub fn extremes(collected: &Collected, cases: &[Case]) -> Result<Vec<RgbImage>> {
    of_samples(collected, cases.iter().map(|case| (&case.key, case.label.clone())))
}

fn of_samples<'a>(
    collected: &Collected,
    labelled: impl Iterator<Item = (&'a String, String)>,
) -> Result<Vec<RgbImage>> {
    let most = collected.0.values().map(|one| one.outputs.len().min(SAMPLES)).max().unwrap_or(0);
    let mut headings = vec!["input".to_owned()];
    headings.extend((1..=most).map(|number| match most {
        1 => "output".to_owned(),
        _ => format!("output {number}"),
    }));
    headings.push("reference".to_owned());
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let rows = labelled.filter_map(|(key, label)| {
        let one = collected.0.get(key)?;
        let mut row = vec![one.given.clone()];
        let mut outputs = one.outputs.values().take(most).cloned();
        row.extend((0..most).map(|_| outputs.next()));
        row.push(one.reference.clone());
        Some((label, row))
    });
    draw(&headings, rows.collect())
}

/// Draws rows of pictures, grey where one lacks and others of its column are there.
fn draw(headings: &[&str], rows: Vec<(String, Vec<Option<RgbImage>>)>) -> Result<Vec<RgbImage>> {
    let there =
        |column: usize| rows.iter().any(|(_, row)| matches!(row.get(column), Some(Some(_))));
    let columns: Vec<usize> = (0..headings.len()).filter(|&column| there(column)).collect();
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let kept: Vec<&str> = columns.iter().map(|&column| headings[column]).collect();
    let mut sheet = Sheet::new(&kept);
    for (label, mut row) in rows {
        let size = row.iter().flatten().next().map_or((1, 1), RgbImage::dimensions);
        let empty = || RgbImage::from_pixel(size.0, size.1, image::Rgb([235, 235, 232]));
        let pictures = columns
            .iter()
            .map(|&column| row.get_mut(column).and_then(Option::take).unwrap_or_else(empty));
        let pictures = pictures.collect();
        sheet.row(label, pictures);
    }
    Ok(sheet.pages()?)
}

/// The pictures of some inputs of a system, in one pass over its outputs.
///
/// # Errors
/// For outputs that cannot be read, or are gone.
pub fn collect(here: &Here, keys: &BTreeSet<&str>, size: u32) -> Result<Collected> {
    let (reference, sizes) = match here.sampled {
        true => (None, Sizes::Own),
        false => (here.reference.as_deref().map(Set::open).transpose()?, Sizes::Square(size)),
    };
    let pairs = Pairs::open(Set::open(&here.outputs)?, reference)?;
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    let mut failed = None;
    pairs.each(&mut |pair| {
        let decoded = pair.and_then(|pair| {
            let task = pair.variant.map(|variant| variant.to_string());
            let shown = pair.sample < SAMPLES as u32 && keys.contains(pair.key.as_str());
            if !shown || !is_of_task(task.as_deref(), &here.task) {
                return Ok(None);
            }
            let decoded = pair.decode(sizes)?;
            Ok(Some((pair, decoded)))
        });
        match decoded {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some((pair, decoded))) => {
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
        None => Ok(Collected(shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(given: bool, samples: u32) -> Collected {
        let picture = || RgbImage::from_pixel(32, 32, image::Rgb([9, 90, 9]));
        let shown = |outputs| Shown {
            given: given.then(picture),
            reference: Some(picture()),
            outputs: (0..outputs).map(|sample| (sample, picture())).collect(),
        };
        // The second input has one output fewer.
        let all = [("a", shown(samples)), ("b", shown(samples - 1))];
        Collected(all.map(|(key, shown)| (key.to_owned(), shown)).into())
    }

    fn cells(page: &RgbImage, colour: [u8; 3]) -> usize {
        page.pixels().filter(|pixel| pixel.0 == colour).count() / (128 * 128)
    }

    #[test]
    fn a_column_of_nothing_is_left_out_and_a_gap_is_grey() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let of = |given| samples(&collected(given, 3), &keys).unwrap().remove(0);
        let (with, without) = (of(true), of(false));
        assert_eq!(with.width() - without.width(), 128 + 8);
        assert_eq!((cells(&with, [9, 90, 9]), cells(&with, [235, 235, 232])), (9, 1));
        assert_eq!((cells(&without, [9, 90, 9]), cells(&without, [235, 235, 232])), (7, 1));
        // A system whose outputs are gone has no column.
        let (there, gone) = (collected(true, 2), Collected(BTreeMap::new()));
        let both = side_by_side(&[("A", &there), ("B", &gone)], &keys).unwrap();
        let one = side_by_side(&[("A", &there)], &keys).unwrap();
        assert_eq!(both[0].width(), one[0].width());
        assert!(side_by_side(&[("B", &gone)], &keys).unwrap().is_empty());
    }
}
