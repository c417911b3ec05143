//! Distributions of the degradations against the paper's numbers, from fixed seeds.

use super::*;

fn photo(side: u32) -> RgbImage {
    crate::scenes::scene(11, side)
}

fn mean_sd(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

#[test]
fn strokes_cover_what_the_reference_code_covers() {
    let config = StrokesConfig::default();
    for side in [256, 64, 32] {
        let areas: Vec<f64> = (0..6000)
            .map(|seed| 100.0 * area(&strokes::mask(&config, side, side, &mut Rng::new(seed))))
            .collect();
        let (mean, sd) = mean_sd(&areas);
        let under_ten = areas.iter().filter(|&&a| a < 10.0).count() as f64 / areas.len() as f64;
        println!("{side}: mean {mean:.2}%, sd {sd:.2}, under 10%: {under_ten:.3}");
        // Small sides are coarser: a pixel's centre is in or out.
        let tolerance = if side == 256 { 0.5 } else { 1.0 };
        assert!((mean - 14.8).abs() < tolerance, "{side}: mean {mean}");
        assert!((sd - 7.7).abs() < tolerance, "{side}: sd {sd}");
        assert!((under_ten - 1.0 / 3.0).abs() < 0.04, "{side}: {under_ten}");
    }
}

#[test]
fn boxes_never_miss_their_range() {
    let config = BoxesConfig::default();
    for side in [8, 32, 64, 256] {
        let areas: Vec<f64> = (0..3000)
            .map(|seed| area(&boxes::mask(&config, side, side, &mut Rng::new(seed))))
            .collect();
        let (mean, _) = mean_sd(&areas);
        println!("{side}: mean {mean:.3}");
        assert!(areas.iter().all(|a| (0.10..=0.30).contains(a)), "{side}");
        assert!((0.15..0.25).contains(&mean), "{side}: {mean}");
    }
    let narrow = BoxesConfig { count: [5, 5], area: [0.90, 0.95] };
    for seed in 0..50 {
        let part = area(&boxes::mask(&narrow, 64, 64, &mut Rng::new(seed)));
        assert!((0.90..=0.95).contains(&part), "{part}");
    }
}

#[test]
fn six_in_ten_masks_are_free_form() {
    // Boxes that cover nearly everything tell themselves from strokes by their area.
    let boxes = BoxesConfig { area: [0.90, 0.95], ..BoxesConfig::default() };
    let config = DegradationConfig { boxes, ..DegradationConfig::default() };
    let free_form = (0..4000)
        .filter(|&seed| area(&inpainting_mask(&config, 32, 32, &mut Rng::new(seed))) < 0.9)
        .count();
    assert!((free_form as f64 / 4000.0 - 0.6).abs() < 0.025, "{free_form}");
}

#[test]
fn uncropping_takes_half_and_the_sides_are_uniform() {
    let config = UncropConfig::default();
    let mut kinds = [0u32; 5];
    for seed in 0..4000 {
        let mask = uncrop::mask(&config, 256, 256, &mut Rng::new(seed));
        let part = area(&mask);
        assert!((part - 0.5).abs() < 0.005, "{part}");
        let corner = |x, y| mask.get_pixel(x, y).0[0];
        let corners = [corner(0, 0), corner(255, 0), corner(0, 255), corner(255, 255)];
        kinds[match corners {
            [1, 1, 1, 1] => 0,
            [1, 0, 1, 0] => 1,
            [0, 1, 0, 1] => 2,
            [1, 1, 0, 0] => 3,
            [0, 0, 1, 1] => 4,
            other => panic!("{other:?}"),
        }] += 1;
    }
    // Chi-squared with four degrees of freedom, under its 99.9% point.
    let expected = [2000.0, 500.0, 500.0, 500.0, 500.0];
    let chi: f64 = kinds.iter().zip(expected).map(|(&k, e)| (f64::from(k) - e).powi(2) / e).sum();
    assert!(chi < 18.47, "{kinds:?}: {chi}");
    let around = (0..200)
        .map(|seed| uncrop::mask(&config, 256, 256, &mut Rng::new(seed)))
        .find(|mask| mask.get_pixel(0, 0).0[0] == 1 && mask.get_pixel(255, 255).0[0] == 1)
        .unwrap();
    assert_eq!(around.as_raw().iter().filter(|&&v| v == 0).count(), 181 * 181);
}

#[test]
fn qualities_follow_the_exponential() {
    let config = JpegConfig::default();
    let count = 100_000;
    let mut seen = [0u32; 101];
    for seed in 0..count {
        seen[usize::from(draw_quality(&config, &mut Rng::new(key(&[seed]))))] += 1;
    }
    let weight = |q: usize| (-(q as f64) / 10.0).exp();
    let sum: f64 = (6..=29).map(weight).sum();
    let chi: f64 = (6..=29)
        .map(|q| {
            let expected = count as f64 * weight(q) / sum;
            (f64::from(seen[q]) - expected).powi(2) / expected
        })
        .sum();
    assert_eq!(seen[6..=29].iter().sum::<u32>() as u64, count);
    // 23 degrees of freedom, 99.9% point.
    assert!(chi < 49.73, "{chi}");
}

#[test]
fn known_pixels_stay_and_holes_are_grey() {
    let target = photo(64);
    for task in Task::ALL {
        for seed in 0..20 {
            let degraded = train(task, &DegradationConfig::default(), &target, seed).unwrap();
            let again = train(task, &DegradationConfig::default(), &target, seed).unwrap();
            assert_eq!(degraded, again);
            for (x, y, pixel) in target.enumerate_pixels() {
                let masked = degraded.mask.get_pixel(x, y).0[0];
                let source = degraded.source.get_pixel(x, y);
                match (task.has_hole(), masked) {
                    (true, 0) => assert_eq!(source, pixel),
                    (true, 1) => assert_eq!(source.0, [HOLE; 3]),
                    (false, 1) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn evaluation_masks_fall_into_their_bins() {
    let target = photo(64);
    for bin in [[10, 20], [20, 30], [30, 40]] {
        let evaluation = Evaluation::FreeForm { bin };
        for number in 0..40 {
            let name = format!("image-{number}");
            let degraded = evaluation.apply(&target, 5, &name).unwrap();
            let part = 100.0 * area(&degraded.mask);
            assert!(part >= f64::from(bin[0]) && part < f64::from(bin[1]), "{part}");
            assert_eq!(degraded, evaluation.apply(&target, 5, &name).unwrap());
            assert_ne!(degraded, evaluation.apply(&target, 6, &name).unwrap());
        }
    }
    let target = photo(256);
    let marked = |evaluation: Evaluation| {
        let mask = evaluation.apply(&target, 0, "k").unwrap().mask;
        mask.as_raw().iter().filter(|&&v| v == 1).count()
    };
    assert_eq!(marked(Evaluation::Center { size: 128 }), 128 * 128);
    assert_eq!(marked(Evaluation::RightHalf), 128 * 256);
    assert_eq!(marked(Evaluation::Jpeg { quality: 5 }), 256 * 256);
}

#[test]
fn evaluations_are_written_as_text() {
    let texts = [
        "colorization",
        "inpainting:free-form-10-20",
        "inpainting:center",
        "inpainting:center-96",
        "uncropping:right-half",
        "jpeg:10",
    ];
    for text in texts {
        assert_eq!(text.parse::<Evaluation>().unwrap().to_string(), text);
    }
    for task in Task::ALL {
        assert_eq!(task.name().parse::<Evaluation>().unwrap().task(), task);
    }
    for text in ["jpeg:0", "jpeg:x", "inpainting:free-form-30-20", "uncropping", "blur", "jpeg:"] {
        let parsed = text.parse::<Evaluation>();
        assert_eq!(parsed.is_ok(), text == "uncropping", "{text}");
    }
}
