//! Which system is best in a column, and which are within noise of it: their intervals overlap.

use serde::Serialize;

use super::filled::{Cell, Filled};
use crate::scores::{Better, Interval, Score};

/// The systems of a block in one column of a group, as far as they were scored here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Heading of the block.
    pub block: String,
    /// The group of columns.
    pub group: String,
    /// The column.
    pub score: Score,
    /// The system with the best value.
    pub best: String,
    /// Systems whose intervals overlap with that of the best: the difference may be chance.
    pub within_noise: Vec<String>,
    /// Systems without an interval, or all where the best has none: nobody can tell.
    pub unknown: Vec<String>,
}

/// The comparisons of a table, in its order; the photographs take part in none.
pub fn compare(table: &Filled) -> Vec<Comparison> {
    let mut blocks: Vec<&str> = Vec::new();
    for line in &table.lines {
        if !blocks.contains(&line.block.as_str()) {
            blocks.push(&line.block);
        }
    }
    let mut comparisons = Vec::new();
    for block in blocks {
        for (group, columns) in &table.groups {
            for &score in columns {
                let of_block = table.lines.iter().filter(|line| line.block == block);
                let systems: Vec<(&str, Interval)> = of_block
                    .filter_map(|line| Some((line.system.as_str(), line.cells.get(group)?)))
                    .filter_map(|(system, cell)| Some((system, taking_part(cell, score)?)))
                    .collect();
                comparisons.extend(compared(block, group, score, &systems));
            }
        }
    }
    comparisons
}

fn taking_part(cell: &Cell, score: Score) -> Option<Interval> {
    let here = cell.here.as_ref().filter(|here| !here.is_photographs());
    cell.studied.get(&score).or_else(|| here?.numbers.get(&score)).copied()
}

/// The comparison of these systems; none of fewer than two.
fn compared(
    block: &str,
    group: &str,
    score: Score,
    systems: &[(&str, Interval)],
) -> Option<Comparison> {
    let better = score.about().column?.better;
    let order = |a: &&(&str, Interval), b: &&(&str, Interval)| match better {
        Better::Higher => b.1.value.total_cmp(&a.1.value),
        Better::Lower => a.1.value.total_cmp(&b.1.value),
    };
    let sound = systems.iter().filter(|(_, one)| one.value.is_finite());
    let best = sound.min_by(order).filter(|_| systems.len() >= 2)?;
    let others = |overlaps: Option<bool>| -> Vec<String> {
        let others = systems.iter().filter(|one| one.0 != best.0);
        let others = others.filter(|one| one.1.overlaps(&best.1) == overlaps);
        others.map(|one| one.0.to_owned()).collect()
    };
    Some(Comparison {
        block: block.to_owned(),
        group: group.to_owned(),
        score,
        best: best.0.to_owned(),
        within_noise: others(Some(true)),
        unknown: others(None),
    })
}

impl Comparison {
    /// What a table shows behind a system's value: `*` the best, `≈` within noise of it.
    pub fn mark(&self, system: &str) -> &'static str {
        match system {
            _ if system == self.best => " *",
            _ if self.within_noise.iter().any(|one| one == system) => " ≈",
            _ => "",
        }
    }

    /// A line for people; none where the best is clearly the best.
    pub fn note(&self) -> Option<String> {
        let Self { block, group, score, best, within_noise, unknown } = self;
        let parts = [block.as_str(), group.as_str(), score.about().column?.text];
        let name: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let name = name.join(", ");
        let mut says = Vec::new();
        if !within_noise.is_empty() {
            says.push(format!("within noise of {best}: {}", within_noise.join(", ")));
        }
        if !unknown.is_empty() {
            let unknown = unknown.join(", ");
            says.push(format!("no interval by which {unknown} and {best} could be told apart"));
        }
        (!says.is_empty()).then(|| format!("{name}: {}", says.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(value: f64, reach: f64) -> Interval {
        Interval::new(value, Some([value - reach, value + reach]))
    }

    #[test]
    fn what_overlaps_with_the_best_is_within_noise() {
        let systems = [
            ("A", interval(21.0, 1.0)),
            ("B", interval(22.0, 0.5)),
            ("C", interval(19.0, 0.5)),
            ("D", Interval::new(21.9, None)),
        ];
        let higher = compared("", "test", Score::Psnr, &systems).unwrap();
        assert_eq!(
            higher.note().unwrap(),
            "test, PSNR: within noise of B: A; no interval by which D and B could be told apart"
        );
        assert_eq!(["A", "B", "C", "D"].map(|system| higher.mark(system)), [" ≈", " *", "", ""]);
        let lower = compared("", "", Score::Fid, &systems).unwrap();
        assert_eq!((lower.best.as_str(), lower.within_noise.len()), ("C", 0));
        assert_eq!(compared("", "", Score::Fid, &systems[..1]), None);
        let clear = compared("", "", Score::Fid, &systems[1..3]).unwrap();
        assert_eq!(clear.note(), None);
        // The best has no interval: of nobody it can be told.
        let unknown = compared("", "", Score::Psnr, &[systems[2], systems[3]]).unwrap();
        assert_eq!((unknown.best.as_str(), unknown.unknown.len()), ("D", 1));
    }
}
