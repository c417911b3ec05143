//! What an order promises, for every kind of shuffle.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const KINDS: [Shuffle; 3] = [Shuffle::Full, Shuffle::Window, Shuffle::None];

fn rows(order: &Order, epoch: u64, count: u64) -> Vec<u64> {
    (epoch * count..(epoch + 1) * count)
        .map(|position| {
            let sample = order.sample(position);
            assert_eq!((sample.dataset, sample.epoch), (0, epoch));
            sample.index
        })
        .collect()
}

proptest! {
    #[test]
    fn every_image_comes_once_an_epoch(
        groups in proptest::collection::vec(0u64..60, 1..40),
        extra in 1u64..9,
        window in 1usize..12,
        epoch in 0u64..1000,
        seed: u64,
    ) {
        let groups = [groups, vec![extra]].concat();
        let count: u64 = groups.iter().sum();
        for shuffle in KINDS {
            let order = Order::new(seed, shuffle, window, &[(&groups, 1.0)]);
            let mut seen = rows(&order, epoch, count);
            seen.sort_unstable();
            prop_assert!(seen == (0..count).collect::<Vec<_>>(), "{shuffle:?}");
        }
    }

    #[test]
    fn a_position_does_not_depend_on_what_was_asked_before(
        positions in proptest::collection::vec(0u64..100_000, 1..30),
        seed: u64,
    ) {
        let groups = [7, 120, 0, 33, 64];
        for shuffle in KINDS {
            let order = Order::new(seed, shuffle, 2, &[(&groups, 1.0), (&[50], 2.0)]);
            for &position in &positions {
                let fresh = Order::new(seed, shuffle, 2, &[(&groups, 1.0), (&[50], 2.0)]);
                prop_assert_eq!(order.sample(position), fresh.sample(position));
            }
        }
    }
}

#[test]
fn epochs_and_seeds_differ_and_neighbours_part() {
    let groups = [50; 20];
    for shuffle in [Shuffle::Full, Shuffle::Window] {
        let order = Order::new(3, shuffle, 8, &[(&groups, 1.0)]);
        let other = Order::new(4, shuffle, 8, &[(&groups, 1.0)]);
        let first = rows(&order, 0, 1000);
        for second in [rows(&order, 1, 1000), rows(&other, 0, 1000)] {
            let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
            assert!(same < 15, "{shuffle:?}: {same} of 1000 stay in place");
        }
        let neighbours = first.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
        assert!(neighbours < 15, "{shuffle:?}: {neighbours} of 1000 keep their neighbour");
    }
    let none = Order::new(3, Shuffle::None, 8, &[(&groups, 1.0)]);
    assert_eq!(rows(&none, 5, 1000), (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_window_opens_few_groups_and_each_but_once() {
    let groups: Vec<u64> = (0..40).map(|group| 20 + group % 7).collect();
    let group_of: Vec<usize> =
        groups.iter().enumerate().flat_map(|(group, &n)| vec![group; n as usize]).collect();
    let order = Order::new(1, Shuffle::Window, 4, &[(&groups, 1.0)]);
    let walk: Vec<_> = rows(&order, 2, group_of.len() as u64)
        .into_iter()
        .map(|row| group_of[row as usize])
        .collect();
    for group in 0..40 {
        let first = walk.iter().position(|&g| g == group).unwrap();
        let last = walk.iter().rposition(|&g| g == group).unwrap();
        assert!(last - first < 4 * 26, "group {group} is open from {first} to {last}");
    }
}

#[test]
fn mixtures_keep_weights_and_whole_epochs() {
    for shuffle in KINDS {
        let order = Order::new(9, shuffle, 2, &[(&[60, 40], 3.0), (&[50], 1.0), (&[7], 0.0)]);
        let mut seen = [vec![0u32; 100], vec![0; 50], vec![0; 7]];
        for position in 0..BLOCK {
            let sample = order.sample(position);
            seen[sample.dataset][sample.index as usize] += 1;
        }
        let sums = seen.clone().map(|counts| counts.iter().sum::<u32>());
        assert_eq!(sums, [49152, 16384, 0]);
        for counts in &seen[..2] {
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= 1);
        }
    }
}

#[test]
fn a_position_far_away_costs_nothing() {
    let groups = vec![600; 16_667];
    for shuffle in KINDS {
        let order = Order::new(1, shuffle, 8, &[(&groups, 1.0)]);
        assert!(order.sample(u64::MAX / 2).index < 10_000_200);
    }
}

#[test]
fn substitutes_are_fixed_and_spread() {
    let order = Order::new(5, Shuffle::Full, 8, &[(&[1000], 1.0), (&[10], 1.0)]);
    let position = (12_345..).find(|&position| order.sample(position).dataset == 0).unwrap();
    let drawn: Vec<_> = (1..=64).map(|attempt| order.substitute(position, attempt)).collect();
    assert!(drawn.iter().all(|p| (p.dataset, p.epoch) == (0, order.sample(position).epoch)));
    let again = Order::new(5, Shuffle::Full, 8, &[(&[1000], 1.0), (&[10], 1.0)]);
    assert!((1..=64).all(|n| again.substitute(position, n) == drawn[n as usize - 1]));
    assert!(drawn.iter().map(|sample| sample.index).collect::<HashSet<_>>().len() > 50);
}
