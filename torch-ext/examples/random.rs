//! What drawing noise costs: [`torch_ext::randn_keyed`] and `rand_keyed` against libtorch's own generator,
//! seeded for each row and filling it, which is the least that gives every image noise of its own there.
//! In turns, on the CPU, of images 3×32×32 and 3×256×256.
//!
//!     cargo run --release --workspace --example random
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::hint::black_box;
use std::time::Instant;

use tch::{Device, Kind, Tensor};
use torch_ext::{rand_keyed, randn_keyed};

const ROUNDS: usize = 31;
/// Numbers drawn in a round at least.
const ENOUGH: i64 = 1_000_000;

fn main() {
    println!(
        "threads  image      batch  numbers   libtorch, ns   ours, ns   ratio (least to most)"
    );
    for threads in [1, 2] {
        tch::set_num_threads(threads);
        for side in [32, 256] {
            for batch in [1, 32] {
                for normal in [true, false] {
                    measure(threads, side, batch, normal);
                }
            }
        }
    }
}

fn measure(threads: i32, side: i64, batch: i64, normal: bool) {
    let shape = [3, side, side];
    let keys: Vec<u64> = (0..batch as u64).map(|row| random::derive(1, row)).collect();
    let numbers = batch * 3 * side * side;
    let times = (ENOUGH / numbers).max(1);
    let each = |draw: &dyn Fn() -> Tensor| {
        let start = Instant::now();
        for _ in 0..times {
            let _ = black_box(draw());
        }
        start.elapsed().as_secs_f64() * 1e9 / (times * numbers) as f64
    };
    let theirs = || {
        let all = Tensor::empty([batch, 3, side, side], (Kind::Float, Device::Cpu));
        for (row, &key) in keys.iter().enumerate() {
            tch::manual_seed(key.cast_signed());
            let mut row = all.get(row as i64);
            let _ = if normal { row.normal_(0.0, 1.0) } else { row.uniform_(0.0, 1.0) };
        }
        all
    };
    let draw = if normal { randn_keyed } else { rand_keyed };
    let ours = || draw(&keys, &shape, Device::Cpu).unwrap();
    let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| [each(&theirs), each(&ours)]).collect();
    let quantile = |share, value: &dyn Fn(&[f64; 2]) -> f64| {
        let values: Vec<f64> = rounds.iter().map(value).collect();
        statistics::quantile(&values, share).unwrap_or(f64::NAN)
    };
    let [theirs, ours] = [0, 1].map(|which| quantile(0.5, &|one| one[which]));
    let ratio = |share| quantile(share, &|one| one[1] / one[0]);
    println!(
        "{threads:<8} 3×{side:<3}×{side:<3}  {batch:<6} {:<9} {theirs:<14.2} {ours:<10.2} {:.2} ({:.2} to {:.2})",
        if normal { "normal" } else { "uniform" },
        ratio(0.5),
        ratio(0.0),
        ratio(1.0),
    );
}
