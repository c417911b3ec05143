//! Random tensors against the numbers of the crate `random`, bit by bit. Whether these are distributed
//! as they should be is tested there.
#![allow(clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use torch_ext::{rand_keyed, randn_keyed};

/// Two pairs of keys that share half of their bits.
const KEYS: [u64; 5] = [5, 6, 5 + (1 << 32), u64::MAX, 0x0123_4567_89ab_cdef];

type Draw = fn(&[u64], &[i64], Device) -> Result<Tensor, torch_ext::Error>;
/// The scalar version: number `index` of a key.
type Number = fn(u64, u64) -> f32;

const DRAWS: [(&str, Draw, Number); 2] =
    [("uniform", rand_keyed, random::uniform), ("normal", randn_keyed, random::normal)];

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers: Vec<f32> = Vec::try_from(tensor.to_device(Device::Cpu).flatten(0, -1)).unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

fn expected(number: fn(u64, u64) -> f32, keys: &[u64], per_row: u64) -> Vec<u32> {
    let row = |&key: &u64| (0..per_row).map(move |i| number(key, i).to_bits());
    keys.iter().flat_map(row).collect()
}

/// Around a block, a group of a vector unit's blocks and a thread's piece, and with a rest.
const LENGTHS: [i64; 12] = [1, 2, 3, 4, 5, 31, 32, 33, 1000, 4096, 4097, 3 * 65 * 67];

#[test]
fn tensors_hold_the_numbers_of_their_keys() {
    for (name, draw, number) in DRAWS {
        for length in LENGTHS {
            let drawn = draw(&KEYS, &[length], Device::Cpu).unwrap();
            assert_eq!(drawn.size(), [5, length]);
            assert_eq!(drawn.kind(), Kind::Float);
            let expected = expected(number, &KEYS, length as u64);
            assert!(bits(&drawn) == expected, "{name} of {length}");
        }
    }
}

#[test]
fn rows_depend_on_nothing_but_their_key() {
    let shape = [3, 64, 64];
    for (name, draw, _) in DRAWS {
        // Many enough for several threads.
        let keys: Vec<u64> = (0..48).map(|part| random::derive(1, part)).collect();
        let all = draw(&keys, &shape, Device::Cpu).unwrap();
        for (row, &key) in keys.iter().enumerate() {
            let alone = draw(&[key], &shape, Device::Cpu).unwrap();
            assert!(bits(&alone) == bits(&all.get(row as i64)), "{name}, row {row}");
        }
        let threads = tch::get_num_threads();
        for other in [1, 3] {
            tch::set_num_threads(other);
            assert!(draw(&keys, &shape, Device::Cpu).unwrap() == all, "{name}, {other} threads");
        }
        tch::set_num_threads(threads);
    }
}

#[test]
fn nothing_is_drawn_for_nothing_and_shapes_are_checked() {
    for (_, draw, _) in DRAWS {
        assert_eq!(draw(&[], &[3, 2], Device::Cpu).unwrap().size(), [0, 3, 2]);
        assert_eq!(draw(&[1, 2], &[0], Device::Cpu).unwrap().size(), [2, 0]);
        assert_eq!(bits(&draw(&[7], &[], Device::Cpu).unwrap()).len(), 1);
        assert!(draw(&[1], &[-3], Device::Cpu).is_err());
    }
}

/// The device of PALETTE_TEST_DEVICE against the CPU.
#[test]
fn every_device_draws_the_same_bits() {
    let named = std::env::var("PALETTE_TEST_DEVICE").unwrap_or_default();
    if !named.starts_with("cuda") {
        eprintln!("skipped: PALETTE_TEST_DEVICE names no GPU");
        return;
    }
    let device = torch_ext::device_named(&named).unwrap();
    for (name, draw, _) in DRAWS {
        for length in LENGTHS.into_iter().chain([3 * 256 * 256]) {
            let (gpu, cpu) = (draw(&KEYS, &[length], device), draw(&KEYS, &[length], Device::Cpu));
            assert!(bits(&gpu.unwrap()) == bits(&cpu.unwrap()), "{name} of {length}");
        }
        // More rows than one launch takes.
        let keys: Vec<u64> = (0..1001).collect();
        let (gpu, cpu) = (draw(&keys, &[1021], device), draw(&keys, &[1021], Device::Cpu));
        assert!(bits(&gpu.unwrap()) == bits(&cpu.unwrap()), "{name} of 1001 rows");
        // Far more numbers than a million, so that rare values of the polynomials are met.
        let shape = [64, 1 << 18];
        let (gpu, cpu) = (draw(&KEYS[..1], &shape, device), draw(&KEYS[..1], &shape, Device::Cpu));
        assert!(bits(&gpu.unwrap()) == bits(&cpu.unwrap()), "{name} of 2²⁴");
    }
}
