//! Procedural landscapes: sky by the time of day with sun, moon and clouds, mountains, sea or hills,
//! trees, houses, flowers. Colour follows from shape, brightness and place, so that even a small
//! network can learn to bring it back; each picture is a function of (seed, size).

mod canvas;

use image::RgbImage;

use canvas::{Canvas, Color, mix, shade};
use random::{Rng, key};

/// Colours of a time of day.
struct Light {
    zenith: Color,
    horizon: Color,
    sun: Color,
    cloud: Color,
    haze: Color,
    tint: Color,
    night: bool,
    low: bool,
}

const DAY: Light = Light {
    zenith: [0.16, 0.42, 0.82],
    horizon: [0.72, 0.87, 0.97],
    sun: [1.0, 0.96, 0.70],
    cloud: [0.99, 0.99, 1.0],
    haze: [0.62, 0.75, 0.90],
    tint: [1.0, 1.0, 1.0],
    night: false,
    low: false,
};
const EVENING: Light = Light {
    zenith: [0.33, 0.20, 0.47],
    horizon: [1.0, 0.68, 0.30],
    sun: [1.0, 0.90, 0.45],
    cloud: [0.98, 0.55, 0.48],
    haze: [0.75, 0.42, 0.45],
    tint: [0.98, 0.82, 0.74],
    night: false,
    low: true,
};
const NIGHT: Light = Light {
    zenith: [0.03, 0.05, 0.16],
    horizon: [0.16, 0.22, 0.44],
    sun: [0.98, 0.97, 0.84],
    cloud: [0.22, 0.26, 0.42],
    haze: [0.12, 0.16, 0.34],
    tint: [0.46, 0.54, 0.82],
    night: true,
    low: false,
};

/// The landscape of a seed, `size`×`size` pixels RGB.
pub fn scene(seed: u64, size: u32) -> RgbImage {
    let rng = &mut Rng::new(key(&[seed, 0x7363_656e]));
    let light = match rng.unit() {
        t if t < 0.62 => DAY,
        t if t < 0.88 => EVENING,
        _ => NIGHT,
    };
    let mut canvas = Canvas::new(size.max(1));
    let horizon = range(rng, 0.42, 0.62);
    let sun = sky(&mut canvas, rng, &light, horizon);
    if rng.chance(0.65) {
        mountains(&mut canvas, rng, &light, horizon);
    }
    match rng.unit() {
        t if t < 0.30 => sea(&mut canvas, rng, &light, horizon, sun),
        _ => country(&mut canvas, rng, &light, horizon),
    }
    canvas.finish([1.0; 3])
}

fn range(rng: &mut Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.unit() as f32
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize]
}

/// What is not the sky takes on the light of the hour.
fn lit(color: Color, light: &Light) -> Color {
    std::array::from_fn(|c| color[c] * light.tint[c])
}

/// Smooth noise of one variable, about -1 to 1.
fn ridge(rng: &mut Rng, waves: &[(f32, f32)]) -> impl Fn(f32) -> f32 + use<> {
    let waves: Vec<_> = waves
        .iter()
        .map(|&(rate, height)| {
            (rate * range(rng, 0.8, 1.25), height, range(rng, 0.0, std::f32::consts::TAU))
        })
        .collect();
    move |u| waves.iter().map(|(rate, height, phase)| height * (u * rate + phase).sin()).sum()
}

/// Grain that is fixed to the place, -1 to 1.
fn grain(u: f32, v: f32, cells: f32) -> f32 {
    let cell = key(&[(u * cells) as u64, (v * cells) as u64]);
    (cell >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Gradient, stars, sun or moon with its glow, clouds. Returns where the sun stands.
fn sky(canvas: &mut Canvas, rng: &mut Rng, light: &Light, horizon: f32) -> [f32; 2] {
    let high = if light.low { horizon - range(rng, 0.02, 0.12) } else { range(rng, 0.10, 0.26) };
    let sun = [range(rng, 0.15, 0.85), high];
    let glow = if light.night { 0.25 } else { 0.55 };
    canvas.paint([0.0, 0.0, 1.0, horizon + 0.1], |u, v| {
        let height = (v / horizon).min(1.0);
        let base = mix(light.zenith, light.horizon, height * height * (3.0 - 2.0 * height));
        let far = ((u - sun[0]).powi(2) + (v - sun[1]).powi(2)).sqrt();
        Some((mix(base, light.sun, glow * (-far * 9.0).exp()), 1.0))
    });
    if light.night {
        for _ in 0..40 {
            let at = [range(rng, 0.0, 1.0), range(rng, 0.0, horizon)];
            let (r, bright) = (range(rng, 0.002, 0.006), range(rng, 0.5, 1.0));
            canvas.ellipse(at, [r, r], |_, _| [bright, bright, bright * 0.9]);
        }
    }
    let radius = if light.low { range(rng, 0.07, 0.10) } else { range(rng, 0.045, 0.065) };
    // A moon is the disc without a smaller one.
    let disc = [sun[0] - radius, sun[1] - radius, sun[0] + radius, sun[1] + radius];
    canvas.paint(disc, |u, v| {
        let (a, b) = ((u - sun[0]) / radius, (v - sun[1]) / radius);
        let dark = light.night && (a - 0.45).powi(2) + (b + 0.15).powi(2) < 0.72;
        (a * a + b * b <= 1.0 && !dark).then_some((light.sun, 1.0))
    });
    for _ in 0..rng.integer(0, 3) {
        let at = [range(rng, 0.05, 0.95), range(rng, 0.08, horizon * 0.62)];
        let wide = range(rng, 0.05, 0.09);
        for puff in 0..5 {
            let shift = (puff as f32 - 2.0) * wide * 0.8;
            let r = wide * range(rng, 0.55, 0.9) * (1.0 - 0.13 * (puff as f32 - 2.0).abs());
            let y = at[1] - r * 0.25;
            let bottom = mix(light.cloud, light.horizon, 0.55);
            canvas.ellipse([at[0] + shift, y], [r, r * 0.62], |_, b| {
                mix(light.cloud, bottom, (b * 0.5 + 0.5).clamp(0.0, 1.0))
            });
        }
    }
    sun
}

/// One or two blue ranges; the higher one with snow.
fn mountains(canvas: &mut Canvas, rng: &mut Rng, light: &Light, horizon: f32) {
    let snowy = rng.chance(0.6);
    for layer in 0..2 {
        let near = layer as f32;
        let height = range(rng, 0.16, 0.24) * (1.0 - 0.5 * near);
        let peaks = ridge(rng, &[(7.0, 0.5), (17.0, 0.3), (41.0, 0.12)]);
        let rock = mix(light.haze, lit([0.24, 0.32, 0.50], light), 0.45 + 0.35 * near);
        let snow = lit([0.95, 0.96, 1.0], light);
        let edge = ridge(rng, &[(37.0, 0.012), (83.0, 0.008)]);
        let top = |u: f32| horizon - height * (0.55 + 0.45 * peaks(u)).max(0.0);
        canvas.below(top, horizon + 0.02, |u, v, under| {
            let lean = ((peaks(u + 0.01) - peaks(u - 0.01)) * 0.4).clamp(-0.12, 0.06);
            if snowy && layer == 0 && v < horizon - height * 0.62 + edge(u) {
                return shade(snow, 1.0 + lean);
            }
            shade(mix(rock, light.haze, under / height * 0.5), 1.0 + lean)
        });
    }
}

/// Water with a path of light, waves, an island, boats, a beach.
fn sea(canvas: &mut Canvas, rng: &mut Rng, light: &Light, horizon: f32, sun: [f32; 2]) {
    let deep = lit([0.04, 0.30, 0.50], light);
    let waves = ridge(rng, &[(23.0, 0.5), (61.0, 0.4)]);
    canvas.paint([0.0, horizon, 1.0, 1.0], |u, v| {
        let near = ((v - horizon) / (1.0 - horizon)).max(0.0);
        let far = mix(light.horizon, lit([0.16, 0.52, 0.66], light), 0.55);
        let water = mix(far, deep, near.sqrt());
        let ripple = (v * (160.0 - 90.0 * near) + 1.5 * waves(u + v)).sin();
        let water = shade(water, 1.0 + 0.07 * ripple);
        let path = 0.03 + 0.10 * near;
        let shine = (-((u - sun[0]) / path).powi(2)).exp() * (0.35 + 0.4 * ripple.max(0.0));
        Some((mix(water, light.sun, shine.min(1.0) * if light.low { 0.9 } else { 0.5 }), 1.0))
    });
    for _ in 0..rng.integer(0, 3) {
        let (x, y) = (range(rng, 0.1, 0.9), range(rng, horizon + 0.04, horizon + 0.22));
        let size = 0.05 + 0.35 * (y - horizon);
        let sail = pick(rng, &[[0.97, 0.96, 0.92], [0.90, 0.28, 0.20], [0.97, 0.96, 0.92]]);
        let sail = lit(sail, light);
        canvas.triangle([x, y - size], size * 0.42, y - size * 0.14, [shade(sail, 0.82), sail]);
        let hull = lit([0.40, 0.22, 0.13], light);
        canvas.ellipse([x, y - size * 0.06], [size * 0.45, size * 0.11], |_, _| hull);
    }
    if rng.chance(0.6) {
        let shore = ridge(rng, &[(4.0, 0.04), (9.0, 0.015)]);
        let line = range(rng, 0.84, 0.92);
        let sand = lit([0.93, 0.82, 0.58], light);
        canvas.paint([0.0, 0.7, 1.0, 1.0], |u, v| {
            let over = v - line - shore(u);
            if over < -0.02 {
                return None;
            }
            if over < 0.0 {
                return Some((lit([0.95, 0.98, 1.0], light), 0.75));
            }
            Some((shade(sand, 1.0 - over * 0.5 + 0.05 * grain(u, v, 96.0)), 1.0))
        });
        if rng.chance(0.5) {
            let x = range(rng, 0.12, 0.88);
            palm(canvas, rng, light, [x, line + 0.06]);
        }
    }
}

fn palm(canvas: &mut Canvas, rng: &mut Rng, light: &Light, foot: [f32; 2]) {
    let (height, lean) = (range(rng, 0.28, 0.40), range(rng, -0.10, 0.10));
    let bark = lit([0.48, 0.33, 0.20], light);
    for step in 0..24 {
        let t = step as f32 / 23.0;
        let at = [foot[0] + lean * t * t, foot[1] - height * t];
        canvas.ellipse(at, [0.016 - 0.006 * t, 0.014], |a, _| shade(bark, 0.95 - 0.2 * a));
    }
    let leaf = lit([0.13, 0.50, 0.20], light);
    for frond in 0..7 {
        let angle = std::f32::consts::PI * (1.0 + frond as f32 / 6.0) + range(rng, -0.1, 0.1);
        for step in 1..12 {
            let t = step as f32 / 11.0;
            let x = foot[0] + lean + 0.15 * t * angle.cos();
            let y = foot[1] - height + 0.10 * t * angle.sin() + 0.10 * t * t;
            let r = 0.018 * (1.0 - t * 0.7);
            canvas.ellipse([x, y], [r * 1.2, r], |_, b| shade(leaf, 1.0 - 0.25 * b));
        }
    }
}

/// Rolling hills: meadows, wheat, lavender; houses, trees, flowers.
fn country(canvas: &mut Canvas, rng: &mut Rng, light: &Light, horizon: f32) {
    let layers = rng.integer(2, 3);
    for layer in 0..layers {
        let near = layer as f32 / (layers - 1) as f32;
        let line = horizon + (1.0 - horizon) * (0.02 + 0.50 * near);
        let rolls = ridge(rng, &[(5.0, 0.035), (11.0, 0.014)]);
        let top = move |u: f32| line + rolls(u);
        let crop = if layer == 0 { 0 } else { pick(rng, &[0u8, 0, 0, 1, 2]) };
        field(canvas, rng, light, &top, crop, near);
        let size = 0.09 + 0.17 * near;
        if layer + 1 < layers || rng.chance(0.5) {
            for _ in 0..rng.integer(1, 4) {
                let x = range(rng, 0.02, 0.98);
                let height = size * range(rng, 0.8, 1.25);
                tree(canvas, rng, light, [x, top(x) + 0.012], height);
            }
        }
        if rng.chance(0.55) {
            let x = range(rng, 0.15, 0.85);
            house(canvas, rng, light, [x, top(x) + 0.05 + 0.04 * near], size * 0.85);
        }
    }
}

fn field(
    canvas: &mut Canvas,
    rng: &mut Rng,
    light: &Light,
    top: &impl Fn(f32) -> f32,
    crop: u8,
    near: f32,
) {
    let color = match crop {
        0 => mix([0.38, 0.60, 0.28], [0.24, 0.52, 0.14], near),
        1 => [0.90, 0.74, 0.28],
        _ => [0.52, 0.38, 0.70],
    };
    let base = mix(lit(color, light), light.haze, 0.45 * (1.0 - near));
    let tilt = range(rng, -0.6, 0.6);
    let rows = if crop == 0 { 0.0 } else { 0.13 };
    canvas.below(top, 1.0, |u, v, depth| {
        let furrow = ((u + tilt * depth) * (70.0 - 90.0 * depth.min(0.5))).sin();
        let rim = 0.14 * (-depth * 40.0).exp();
        let noise = 0.05 * grain(u, v, 80.0);
        shade(base, 1.0 + rim - 0.55 * depth + rows * furrow + noise)
    });
    if crop == 0 && near > 0.4 && rng.chance(0.6) {
        let petals = pick(rng, &[[0.90, 0.14, 0.12], [0.98, 0.86, 0.20], [0.97, 0.96, 0.96]]);
        let petals = lit(petals, light);
        for _ in 0..rng.integer(20, 60) {
            let (x, down) = (range(rng, 0.0, 1.0), range(rng, 0.05, 0.45));
            let r = 0.005 + 0.022 * down;
            let y = top(x) + down;
            canvas.ellipse([x, y], [r, r * 0.8], |_, b| shade(petals, 1.0 - 0.15 * b));
        }
    }
}

fn tree(canvas: &mut Canvas, rng: &mut Rng, light: &Light, foot: [f32; 2], size: f32) {
    let bark = lit([0.36, 0.24, 0.14], light);
    let [x, y] = foot;
    let trunk = size * 0.06;
    canvas.rectangle([x - trunk, y - size * 0.45, x + trunk, y], bark);
    if rng.chance(0.45) {
        let dark = lit([0.07, 0.30, 0.18], light);
        for tier in 0..3 {
            let up = tier as f32;
            let peak = y - size * (0.62 + 0.22 * up);
            let base = y - size * (0.16 + 0.22 * up);
            let half = size * (0.30 - 0.07 * up);
            canvas.triangle([x, peak], half, base, [shade(dark, 1.25), shade(dark, 0.85)]);
        }
        return;
    }
    let crown = match light.low {
        false => pick(rng, &[[0.20, 0.50, 0.13], [0.30, 0.56, 0.16], [0.86, 0.46, 0.12]]),
        true => [0.26, 0.46, 0.14],
    };
    let crown = lit(crown, light);
    for (dx, dy, r) in
        [(0.0, 0.72, 0.27), (-0.20, 0.55, 0.20), (0.20, 0.56, 0.20), (0.02, 0.50, 0.22)]
    {
        let at = [x + dx * size, y - dy * size];
        canvas.ellipse(at, [r * size, r * size], |a, b| {
            shade(crown, 1.05 - 0.22 * b - 0.14 * a + 0.06 * grain(a + 2.0, b + 2.0, 6.0))
        });
    }
}

fn house(canvas: &mut Canvas, rng: &mut Rng, light: &Light, foot: [f32; 2], size: f32) {
    let [x, y] = foot;
    let half = size * range(rng, 0.42, 0.60);
    let wall = size * 0.48;
    let plaster = lit([0.95, 0.90, 0.78], light);
    let roof = lit([0.74, 0.24, 0.15], light);
    let timber = lit([0.36, 0.21, 0.12], light);
    canvas.rectangle([x - half, y - wall, x + half, y], plaster);
    canvas.rectangle([x + half * 0.55, y - wall, x + half, y], shade(plaster, 0.84));
    canvas
        .rectangle([x + half * 0.35, y - size * 1.02, x + half * 0.55, y - wall], shade(roof, 0.7));
    let peak = [x, y - size * 0.98];
    canvas.triangle(peak, half * 1.25, y - wall * 0.96, [roof, shade(roof, 0.78)]);
    canvas.rectangle([x - half * 0.18, y - wall * 0.6, x + half * 0.18, y], timber);
    let pane = if light.night || light.low { [1.0, 0.83, 0.42] } else { [0.36, 0.56, 0.72] };
    for side in [-0.62, 0.62] {
        let at = x + half * side;
        let window = [at - half * 0.17, y - wall * 0.68, at + half * 0.17, y - wall * 0.32];
        canvas.rectangle(window, pane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_a_function_of_its_seed() {
        assert_eq!(scene(3, 32), scene(3, 32));
        assert_ne!(scene(3, 32), scene(4, 32));
        for seed in 0..50 {
            assert_eq!(scene(seed, 24).dimensions(), (24, 24));
        }
    }
}
