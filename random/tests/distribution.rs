//! Whether the numbers are distributed as they say. Each bound is five standard deviations of what it
//! bounds or, for Kolmogorov and Smirnov's distance, a level of 10⁻⁵; the numbers are fixed, so that a
//! test either always passes or never does.

use random::{Rng, derive, key, normal, uniform};

const MANY: u64 = 1_000_000;

/// The standard normal distribution function, by its series (Marsaglia 2004), to 1e-14 within ±7.
fn phi(x: f64) -> f64 {
    let (mut sum, mut term, mut i) = (x, x, 1.0);
    while sum + term != sum {
        i += 2.0;
        term *= x * x / i;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// √n times the largest distance between the empirical distribution of values and `expected`.
fn kolmogorov_smirnov(mut values: Vec<f64>, expected: impl Fn(f64) -> f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let distance = values.iter().enumerate().map(|(below, &value)| {
        let p = expected(value);
        (p - below as f64 / count).max((below as f64 + 1.0) / count - p)
    });
    count.sqrt() * distance.fold(0.0, f64::max)
}

/// P(K > 2.47) = 10⁻⁵ in the limit.
const LEVEL: f64 = 2.47;

#[test]
fn a_million_normals_follow_their_distribution() {
    // Along one key, and the first number of many keys, as dropout or small tensors use them.
    let along = (0..MANY).map(|index| f64::from(normal(key(&[1]), index))).collect();
    let across = (0..MANY).map(|part| f64::from(normal(derive(9, part), 0))).collect();
    let neighbours = (0..MANY).map(|key| f64::from(normal(key, 3))).collect();
    for (name, values) in [("along", along), ("across", across), ("neighbours", neighbours)] {
        let found = kolmogorov_smirnov(values, phi);
        assert!(found < LEVEL, "{name}: {found}");
    }
}

#[test]
fn a_million_uniforms_follow_their_distribution() {
    let along = (0..MANY).map(|index| f64::from(uniform(key(&[2]), index))).collect();
    let neighbours = (0..MANY).map(|key| f64::from(uniform(key, 0))).collect();
    let mut rng = Rng::new(3);
    let walked = (0..MANY).map(|_| rng.unit()).collect();
    for (name, values) in [("along", along), ("neighbours", neighbours), ("walked", walked)] {
        let values: Vec<f64> = values;
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)), "{name}");
        let found = kolmogorov_smirnov(values, |x| x);
        assert!(found < LEVEL, "{name}: {found}");
    }
}

#[test]
fn moments_are_those_of_a_normal_distribution() {
    let count = 4 * MANY;
    let mut sums = [0.0; 6];
    for index in 0..count {
        let x = f64::from(normal(key(&[4]), index));
        let mut power = 1.0;
        for sum in &mut sums {
            power *= x;
            *sum += power / count as f64;
        }
    }
    // E x²ᵏ = (2k−1)!!, and Var xᵏ = E x²ᵏ − (E xᵏ)².
    let double = |k: i32| (1..=k).rev().step_by(2).map(f64::from).product::<f64>();
    for (power, found) in (1..).zip(sums) {
        let mean = if power % 2 == 0 { double(power - 1) } else { 0.0 };
        let deviation = ((double(2 * power - 1) - mean * mean) / count as f64).sqrt();
        assert!((found - mean).abs() < 5.0 * deviation, "moment {power}: {found}");
    }
}

#[test]
fn tails_are_as_heavy_as_they_should_be() {
    // Enough for 37 numbers beyond 5σ.
    let count = 64 * MANY;
    let mut beyond = [0_u32; 5];
    let mut above = 0;
    for index in 0..count {
        let x = normal(key(&[5]), index);
        beyond[..(x.abs() as usize).min(5)].iter_mut().for_each(|level| *level += 1);
        above += u32::from(x > 3.0);
    }
    let close = |found: u32, expected: f64, name: &str| {
        let off = (f64::from(found) - expected).abs();
        assert!(off < 5.0 * expected.sqrt(), "{name}: {found}, not {expected:.1}");
    };
    for (level, found) in (1..).zip(beyond) {
        close(found, 2.0 * count as f64 * phi(-f64::from(level)), &format!("beyond {level}σ"));
    }
    close(above, count as f64 * phi(-3.0), "above 3σ");
}

/// A function of a number, with its name.
type Named<'a, T> = (&'static str, Box<dyn Fn(u64) -> T + 'a>);

/// Means of products of standardised numbers, which are N(0, 1/n) where they are independent.
#[test]
fn neighbouring_indices_and_keys_are_independent() {
    let square = |x: f64| (x * x - 1.0) / 2.0_f64.sqrt();
    let n = |key: u64, index: u64| f64::from(normal(key, index));
    let pairs: [Named<'_, (f64, f64)>; 6] = [
        ("index + 1", Box::new(|i| (n(6, i), n(6, i + 1)))),
        ("index + 2", Box::new(|i| (n(6, i), n(6, i + 2)))),
        ("index + 4", Box::new(|i| (n(6, i), n(6, i + 4)))),
        ("key + 1", Box::new(|i| (n(i, 0), n(i + 1, 0)))),
        ("key + 2³²", Box::new(|i| (n(i, 0), n(i + (1 << 32), 0)))),
        ("part + 1", Box::new(|i| (n(derive(7, i), 5), n(derive(7, i + 1), 5)))),
    ];
    let bound = 5.0 / (MANY as f64).sqrt();
    for (name, pair) in pairs {
        let (mut product, mut squares) = (0.0, 0.0);
        for i in 0..MANY {
            let (x, y) = pair(i);
            product += x * y / MANY as f64;
            squares += square(x) * square(y) / MANY as f64;
        }
        assert!(product.abs() < bound, "{name}: correlation {product}");
        assert!(squares.abs() < bound, "{name}: correlation of squares {squares}");
    }
}

/// χ² over the cells of a grid of neighbouring uniforms, at five standard deviations.
#[test]
fn pairs_of_uniforms_fill_the_square_evenly() {
    const SIDE: usize = 32;
    let u = |key: u64, index: u64| (uniform(key, index) * SIDE as f32) as usize;
    let pairs: [Named<'_, (usize, usize)>; 3] = [
        ("indices", Box::new(|i| (u(8, 2 * i), u(8, 2 * i + 1)))),
        ("blocks", Box::new(|i| (u(8, 8 * i + 3), u(8, 8 * i + 4)))),
        ("keys", Box::new(|i| (u(2 * i, 0), u(2 * i + 1, 0)))),
    ];
    for (name, pair) in pairs {
        let mut cells = vec![0_u32; SIDE * SIDE];
        for i in 0..MANY {
            let (x, y) = pair(i);
            cells[x * SIDE + y] += 1;
        }
        let expected = MANY as f64 / cells.len() as f64;
        let chi: f64 = cells.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        let freedom = cells.len() as f64 - 1.0;
        let off = (chi - freedom).abs() / (2.0 * freedom).sqrt();
        assert!(off < 5.0, "{name}: χ² {chi} of {freedom}");
    }
}
