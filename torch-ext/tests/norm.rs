//! The fused norm in all its forms against the same formula in f64: on the CPU, in the blocks of the
//! CUDA kernels run on the CPU, and on the GPU where `PALETTE_TEST_DEVICE` names one.
#![allow(clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use torch_ext::{Norm, add_with_bias, norm, norm_in_blocks, randn_keyed};

fn value(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn drawn(key: u64, shape: &[i64]) -> Tensor {
    randn_keyed(&[key], shape, Device::Cpu).unwrap().squeeze_dim(0)
}

/// The GPU that the tests are to use, if any.
fn gpu() -> Option<Device> {
    let device = torch_ext::test_device();
    device.is_cuda().then_some(device)
}

/// Where and how the norm is computed.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The CPU's own kernel.
    Cpu,
    /// The blocks of the CUDA kernels on the CPU.
    Blocks,
    /// The CUDA kernels.
    Gpu(Device),
}

impl Way {
    fn device(self) -> Device {
        if let Way::Gpu(device) = self { device } else { Device::Cpu }
    }

    fn run(self, x: &Tensor, how: &Norm) -> Tensor {
        match self {
            Way::Blocks => norm_in_blocks(x, how),
            Way::Cpu | Way::Gpu(_) => norm(x, how),
        }
        .unwrap()
    }
}

/// What a call has beside x.
#[derive(Clone, Copy, Debug)]
struct Options {
    modulated: bool,
    added: bool,
    silu: bool,
}

/// x, weight, bias, scale, shift, added.
type Inputs = [Tensor; 6];

/// f64 values that are exact in `kind` (x) and f32 (the others).
fn inputs(shape: [i64; 4], key: u64, kind: Kind) -> Inputs {
    let [b, c, h, w] = shape;
    // Far from 0 beside its spread, by other amounts in each channel: where statistics in bf16 fail.
    let x = drawn(key, &[b, c, h, w]) * 0.7 + drawn(key + 1, &[1, c, 1, 1]) * 3.0 + 2.0;
    let drawn = |n: u64, shape: &[i64]| drawn(key + 2 + n, shape);
    [
        x.to_kind(kind),
        drawn(0, &[c]),
        drawn(1, &[c]),
        drawn(2, &[b, c]),
        drawn(3, &[b, c]),
        drawn(4, &[c]),
    ]
    .map(|tensor| tensor.to_kind(Kind::Double))
}

/// Output and gradients of all that is used, f64 on the CPU.
fn gradients(y: &Tensor, above: &Tensor, inputs: &[Tensor]) -> Vec<Tensor> {
    let f64_on_cpu = |t: &Tensor| t.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    (y * above.to_device(y.device()).to_kind(y.kind())).sum(Kind::Float).backward();
    let gradients = inputs.iter().map(Tensor::grad).filter(Tensor::defined);
    std::iter::once(f64_on_cpu(y)).chain(gradients.map(|t| f64_on_cpu(&t))).collect()
}

fn reference(inputs: &Inputs, groups: i64, options: Options, above: &Tensor) -> Vec<Tensor> {
    let leaves = inputs.each_ref().map(|t| t.copy().set_requires_grad(true));
    let [x, weight, bias, scale, shift, added] = &leaves;
    let pixel = |t: &Tensor| t.unsqueeze(-1).unsqueeze(-1);
    let x = if options.added { x + added.view([1, -1, 1, 1]) } else { x.shallow_clone() };
    let y = x.group_norm(groups, Some(weight), Some(bias), 1e-5, false);
    let y = if options.modulated { y * (pixel(scale) + 1.0) + pixel(shift) } else { y };
    let y = if options.silu { y.silu() } else { y };
    gradients(&y, above, &leaves)
}

fn found(
    way: Way,
    kind: Kind,
    inputs: &Inputs,
    groups: i64,
    options: Options,
    above: &Tensor,
) -> Vec<Tensor> {
    let mut leaves = inputs.each_ref().map(|t| t.to_device(way.device()).to_kind(Kind::Float));
    leaves[0] = leaves[0].to_kind(kind);
    let leaves = leaves.map(|t| t.set_requires_grad(true));
    let [x, weight, bias, scale, shift, added] = &leaves;
    let how = Norm {
        weight,
        bias,
        groups,
        epsilon: 1e-5,
        modulation: options.modulated.then_some((scale, shift)),
        added: options.added.then_some(added),
        silu: options.silu,
    };
    gradients(&way.run(x, &how), above, &leaves)
}

/// How far numbers may be off, of the largest of their tensor. bf16 rounds to 2⁻⁹ of a number; sums over
/// pixels average that out but keep some of it.
fn tolerance(kind: Kind) -> f64 {
    if kind == Kind::BFloat16 { 6e-3 } else { 3e-5 }
}

fn check(way: Way, kind: Kind) {
    // Vectors of 8, 4, 2 and 1 channels; few and many groups; more channels than a block has threads for;
    // sides that do not divide into blocks; one pixel; a group of more channels than joining threads.
    let shapes = [
        ([2, 256, 16, 16], 32),
        ([1, 64, 5, 7], 16),
        ([2, 64, 9, 9], 32),
        ([3, 9, 33, 65], 3),
        ([2, 96, 1, 1], 4),
        ([1, 2048, 4, 4], 32),
        ([2, 512, 6, 5], 2),
        ([1, 32, 70, 70], 4),
    ];
    for (index, (shape, groups)) in shapes.into_iter().enumerate() {
        for modulated in [false, true] {
            for (added, silu) in [(false, true), (true, true), (true, false)] {
                if matches!(way, Way::Cpu) && (added || kind != Kind::Float) {
                    continue;
                }
                let options = Options { modulated, added, silu };
                let key = 100 * index as u64;
                let inputs = inputs(shape, key, kind);
                let above = drawn(key + 50, &shape).to_kind(kind).to_kind(Kind::Double);
                let expected = reference(&inputs, groups, options, &above);
                let found = found(way, kind, &inputs, groups, options, &above);
                assert_eq!(expected.len(), found.len(), "gradients of what was used");
                for (part, (expected, found)) in expected.iter().zip(&found).enumerate() {
                    let size = value(&expected.abs().max()).max(1.0);
                    let off = value(&(expected - found).abs().max()) / size;
                    assert!(
                        off < tolerance(kind),
                        "{way:?}, {kind:?}, shape {shape:?}, {options:?}, part {part}: {off}"
                    );
                }
            }
        }
    }
}

#[test]
fn on_the_cpu_it_is_group_norm_scale_shift_and_silu() {
    check(Way::Cpu, Kind::Float);
}

#[test]
fn in_the_blocks_of_a_gpu_it_is_the_same() {
    check(Way::Blocks, Kind::Float);
    check(Way::Blocks, Kind::BFloat16);
}

#[test]
fn on_a_gpu_it_is_the_same() {
    let Some(device) = gpu() else {
        eprintln!("skipped: PALETTE_TEST_DEVICE names no GPU");
        return;
    };
    check(Way::Gpu(device), Kind::Float);
    check(Way::Gpu(device), Kind::BFloat16);
}

/// An image has the same bits in any batch, and so has every other number of its own.
#[test]
fn an_image_has_the_same_bits_in_any_batch() {
    let ways = [Some(Way::Cpu), Some(Way::Blocks), gpu().map(Way::Gpu)];
    for way in ways.into_iter().flatten() {
        let x = drawn(1, &[5, 64, 20, 20]).to_device(way.device());
        let one = Tensor::ones([64], (Kind::Float, way.device()));
        let how = Norm {
            weight: &one,
            bias: &one,
            groups: 8,
            epsilon: 1e-5,
            modulation: None,
            added: None,
            silu: true,
        };
        let all = way.run(&x, &how);
        let alone = way.run(&x.narrow(0, 3, 1), &how);
        assert_eq!(all.narrow(0, 3, 1), alone, "{way:?}");
    }
}

/// Scale and shift as the network has them: halves of one tensor, and one row for all images.
#[test]
fn scale_and_shift_may_be_parts_and_one_for_all() {
    let x = drawn(1, &[3, 32, 6, 6]);
    let (weight, bias) = (drawn(2, &[32]), drawn(3, &[32]));
    let both = drawn(4, &[1, 64]).set_requires_grad(true);
    let run = |way: Way, parts: &[Tensor]| {
        let how = Norm {
            weight: &weight,
            bias: &bias,
            groups: 8,
            epsilon: 1e-5,
            modulation: Some((&parts[0], &parts[1])),
            added: None,
            silu: true,
        };
        let y = way.run(&x, &how);
        y.sum(Kind::Float).backward();
        let gradient = both.grad().copy();
        let _ = both.grad().zero_();
        (y.detach(), gradient)
    };
    let wide = both.expand([3, -1], false).chunk(2, 1);
    let copied: Vec<Tensor> = wide.iter().map(|t| t.contiguous()).collect();
    for way in [Way::Cpu, Way::Blocks] {
        let (y, gradient) = run(way, &wide);
        let (same, again) = run(way, &copied);
        assert_eq!(y, same, "{way:?}");
        assert_eq!(gradient, again, "{way:?}");
    }
}

/// The same numbers on one thread and on two, not a number stays one, extremes stay finite; what does
/// not fit is refused.
#[test]
fn it_is_well_behaved() {
    let one = Tensor::ones([16], tch::kind::FLOAT_CPU);
    let x = randn_keyed(&[1, 2, 3], &[16, 64, 64], Device::Cpu).unwrap();
    let plain = |weight, bias, groups| Norm {
        weight,
        bias,
        groups,
        epsilon: 1e-5,
        modulation: None,
        added: None,
        silu: true,
    };
    let run = |threads| {
        tch::set_num_threads(threads);
        norm(&x, &plain(&one, &one, 4)).unwrap()
    };
    assert_eq!(run(1), run(2));
    let large = &one * 1e4;
    let h = x.group_norm(4, Some(&large), Some(&one), 1e-5, false).silu();
    for way in [Way::Cpu, Way::Blocks] {
        let lost = way.run(&(&x * f64::NAN), &plain(&one, &one, 4));
        assert!(lost.isnan().all().int64_value(&[]) == 1, "{way:?}");
        let far = way.run(&x, &plain(&large, &one, 4));
        assert!(far.isfinite().all().int64_value(&[]) == 1, "{way:?}");
        assert!(value(&(far - &h).abs().max()) < 0.1, "{way:?}: of numbers up to 50,000");
    }
    let x = drawn(1, &[2, 6, 4, 4]);
    let six = drawn(2, &[6]);
    assert!(norm(&x, &plain(&six, &six, 4)).is_err(), "6 channels in 4 groups");
    let five = six.narrow(0, 0, 5);
    assert!(norm(&x, &plain(&five, &six, 2)).is_err());
    assert!(norm(&six, &plain(&six, &six, 2)).is_err());
}

#[test]
fn a_sum_takes_the_bias_along() {
    for device in [Some(Device::Cpu), gpu()].into_iter().flatten() {
        for (kind, channels) in [(Kind::Float, 24), (Kind::BFloat16, 24), (Kind::BFloat16, 9)] {
            let draw = |key, shape: &[i64]| drawn(key, shape).to_device(device);
            let shape = [2, channels, 5, 7];
            let leaf =
                |key, shape: &[i64], kind| draw(key, shape).to_kind(kind).set_requires_grad(true);
            let (x, h) = (leaf(1, &shape, kind), leaf(2, &shape, kind));
            let bias = leaf(3, &[channels], Kind::Float);
            let sum = add_with_bias(&x, &h, &bias).unwrap();
            let f32 = |t: &Tensor| t.detach().to_kind(Kind::Float);
            let expected = f32(&x) + f32(&h) + f32(&bias).view([1, -1, 1, 1]);
            let off = value(&(f32(&sum) - expected).abs().max());
            assert!(
                off < if kind == Kind::Float { 1e-6 } else { 0.05 },
                "{device:?} {kind:?}: {off}"
            );
            let above = draw(4, &shape).to_kind(kind);
            (&sum * &above).sum(Kind::Float).backward();
            assert_eq!(x.grad(), above);
            assert_eq!(h.grad(), above);
            let expected = f32(&above).sum_dim_intlist([0, 2, 3].as_slice(), false, Kind::Float);
            let off = value(&(bias.grad() - expected).abs().max());
            assert!(
                off < if kind == Kind::Float { 1e-4 } else { 0.1 },
                "{device:?} {kind:?}: {off}"
            );
        }
    }
}

/// Half and twice the size, forward and backward, as libtorch has them in f64.
#[test]
fn half_and_twice_are_pooling_and_nearest_neighbour() {
    for device in [Some(Device::Cpu), gpu()].into_iter().flatten() {
        for (kind, channels) in [(Kind::Float, 12), (Kind::Float, 3), (Kind::BFloat16, 40)] {
            let x = drawn(1, &[3, channels, 6, 10]).to_kind(kind);
            let run = |x: &Tensor, halve: bool, device: Device, kind: Kind| {
                let x = x.detach().to_device(device).to_kind(kind);
                let x = x.copy().set_requires_grad(true);
                let y = match (kind, halve) {
                    (Kind::Double, true) => x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None),
                    (Kind::Double, false) => x.upsample_nearest2d([12, 20], None, None),
                    (_, true) => torch_ext::half(&x).unwrap(),
                    (_, false) => torch_ext::twice(&x).unwrap(),
                };
                let above = drawn(2, &y.size()).to_kind(Kind::BFloat16);
                let above = above.to_device(device).to_kind(kind);
                (&y * above).sum(Kind::Float).backward();
                [y.detach(), x.grad()].map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double))
            };
            for halve in [true, false] {
                let expected = run(&x, halve, Device::Cpu, Kind::Double);
                let found = run(&x, halve, device, kind);
                for (expected, found) in expected.iter().zip(&found) {
                    let off = value(&(expected - found).abs().max());
                    let most = if kind == Kind::Float { 1e-6 } else { 2e-2 };
                    assert!(off < most, "{device:?} {kind:?} half {halve}: {off}");
                }
            }
        }
    }
}

/// The checked-in PTX is what its source compiles to, where the compiler is (`scripts/ptx.sh --setup`).
#[test]
fn the_kernels_are_not_stale() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache = std::env::var_os("PALETTE_CACHE").map_or_else(
        || {
            let base = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
            let home = std::env::var_os("HOME").unwrap_or_default();
            base.unwrap_or_else(|| std::path::Path::new(&home).join(".cache")).join("palette")
        },
        std::path::PathBuf::from,
    );
    let there = std::fs::read_dir(cache)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("nvcc-"));
    if !there || !root.join("scripts/ptx.sh").is_file() {
        eprintln!("skipped: CUDA's compiler is not there (scripts/ptx.sh --setup)");
        return;
    }
    let checked = std::process::Command::new("sh")
        .arg(root.join("scripts/ptx.sh"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
