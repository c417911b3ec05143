//! What is drawn in a study: by its seed which images; by its secret who sees which pair, in what order, with the
//! photograph on which side.
//!
//! A rater sees each image of their set once, so that no photograph comes back. Which system they see of
//! it goes round: rater *r* (their place among those of their set and time) sees of the *p*-th image
//! system (*p* + *r*) mod *S*. Every rater so sees all systems equally often (as far as the images
//! divide), and any *S* raters that follow each other see every pair of an image and a system once: a
//! Latin square.

use std::collections::BTreeMap;

use random::{Rng, key};
use registry::{NewTrial, RaterRow, Side};

/// What is drawn, so that no two draws share their numbers.
const IMAGES: u64 = 1;
const TRIALS: u64 = 2;

/// A place for a rater.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seat {
    /// Their set, 1 or 2.
    pub set: i16,
    /// For how many seconds they see each pair.
    pub seconds: f64,
    /// Their place among those of their set and time, from 0.
    pub number: i32,
}

/// Draws `count` of the keys, in random order; what is drawn does not hang on their order.
pub fn choose<'a>(keys: &[&'a str], count: usize, seed: u64) -> Vec<&'a str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    shuffle(&mut keys, &mut Rng::new(key(&[seed, IMAGES])));
    keys.truncate(count);
    keys
}

/// Seats for `count` more raters, each in the cell of set and time that has the fewest; `invited` are
/// the raters that the study has already.
pub fn seats(sets: &[i16], seconds: &[f64], invited: &[RaterRow], count: usize) -> Vec<Seat> {
    let mut cells: Vec<Seat> = sets
        .iter()
        .flat_map(|&set| seconds.iter().map(move |&seconds| Seat { set, seconds, number: 0 }))
        .collect();
    for cell in &mut cells {
        let own = |rater: &&RaterRow| (rater.set, rater.seconds) == (cell.set, cell.seconds);
        cell.number = invited.iter().filter(own).count() as i32;
    }
    let mut seats = Vec::new();
    while seats.len() < count
        && let Some(cell) = cells.iter_mut().min_by_key(|cell| cell.number)
    {
        seats.push(*cell);
        cell.number += 1;
    }
    seats
}

/// What the rater of a seat is shown, in this order: `images` are the numbers of their set's images, `draw` is that of
/// the study ([`registry::Database::study_draw`]).
pub fn trials(draw: &[u64], seat: Seat, images: &[i32], systems: usize) -> Vec<NewTrial> {
    let place = [TRIALS, seat.set as u64, seat.seconds.to_bits(), seat.number as u64];
    let mut rng = Rng::new(key(&[draw, &place].concat()));
    let mut trials: Vec<NewTrial> = images
        .iter()
        .enumerate()
        .map(|(position, &image)| NewTrial {
            image,
            system: ((position + seat.number as usize) % systems.max(1)) as i16,
            reference_side: if rng.chance(0.5) { Side::Left } else { Side::Right },
        })
        .collect();
    shuffle(&mut trials, &mut rng);
    trials
}

/// The images of each set, by number.
pub fn images_of(images: &[registry::StudyImage]) -> BTreeMap<i16, Vec<i32>> {
    let mut sets: BTreeMap<i16, Vec<i32>> = BTreeMap::new();
    for image in images {
        sets.entry(image.set).or_default().push(image.number);
    }
    sets
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn seat(number: i32) -> Seat {
        Seat { set: 1, seconds: 3.0, number }
    }

    #[test]
    fn images_are_drawn_by_the_seed_and_not_by_their_order() {
        let names: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut turned = keys.clone();
        turned.reverse();
        let drawn = choose(&keys, 10, 7);
        assert_eq!(drawn, choose(&turned, 10, 7));
        assert_ne!(drawn, choose(&keys, 10, 8));
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 10);
    }

    #[test]
    fn raters_fill_the_emptiest_cell() {
        let seats = seats(&[1, 2], &[3.0, 5.0], &[], 6);
        let count = |set, seconds| {
            seats.iter().filter(|seat| (seat.set, seat.seconds) == (set, seconds)).count()
        };
        assert_eq!([count(1, 3.0), count(1, 5.0), count(2, 3.0), count(2, 5.0)], [2, 2, 1, 1]);
        assert_eq!(seats.last().unwrap().number, 1);
    }

    #[test]
    fn a_rater_sees_each_image_once_and_all_systems_equally_often() {
        let images: Vec<i32> = (10..22).collect();
        let mut pairs = BTreeMap::new();
        for number in 0..4 {
            let trials = trials(&[5], seat(number), &images, 4);
            assert_eq!(trials, self::trials(&[5], seat(number), &images, 4));
            let seen: BTreeSet<i32> = trials.iter().map(|trial| trial.image).collect();
            assert_eq!(seen, images.iter().copied().collect());
            for system in 0..4 {
                assert_eq!(trials.iter().filter(|trial| trial.system == system).count(), 3);
            }
            for trial in trials {
                *pairs.entry((trial.image, trial.system)).or_insert(0) += 1;
            }
        }
        // Four raters in a row: every pair once.
        assert_eq!(pairs.len(), 48);
        assert!(pairs.values().all(|count| *count == 1));
    }

    #[test]
    fn sides_and_orders_are_random() {
        let images: Vec<i32> = (0..50).collect();
        let (mut left, mut first) = (0, BTreeSet::new());
        for number in 0..40 {
            let trials = trials(&[1], seat(number), &images, 2);
            left += trials.iter().filter(|trial| trial.reference_side == Side::Left).count();
            first.insert(trials[0].image);
        }
        // 2000 tosses: within five standard deviations.
        assert!((888..=1112).contains(&left), "{left}");
        assert!(first.len() > 15, "{first:?}");
    }
}
