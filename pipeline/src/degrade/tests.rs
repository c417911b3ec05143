//! Distributions of the degradations against the paper's numbers, from fixed seeds.

use super::inpainting::{BoxesConfig, Hole, Inpainting, StrokesConfig};
use super::jpeg::Jpeg;
use super::superresolution::Superresolution;
use super::uncropping::Uncropping;
use super::*;
use random::key;

fn photo(side: u32) -> RgbImage {
    crate::scenes::scene(11, side)
}

fn mean_sd(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

/// Against figures of an independent version of the reference code, 20,000 masks of 256×256.
#[test]
fn strokes_cover_what_the_reference_code_covers() {
    let config = StrokesConfig::default();
    for (side, masks) in [(256, 20_000), (64, 6000), (32, 6000)] {
        let areas: Vec<f64> = (0..masks)
            .map(|seed| 100.0 * area(&config.mask(side, side, &mut Rng::new(seed))))
            .collect();
        let (mean, sd) = mean_sd(&areas);
        let under_ten = areas.iter().filter(|&&a| a < 10.0).count() as f64 / areas.len() as f64;
        println!("{side}: mean {mean:.2}%, sd {sd:.2}, under 10%: {under_ten:.3}");
        // At 256 three standard errors of both means. Small sides are coarser: a pixel's centre is in or out.
        let tolerance = if side == 256 { 0.24 } else { 1.0 };
        assert!((mean - 15.28).abs() < tolerance, "{side}: mean {mean}");
        assert!((sd - 8.04).abs() < tolerance, "{side}: sd {sd}");
        let tolerance = if side == 256 { 0.014 } else { 0.04 };
        assert!((under_ten - 0.298).abs() < tolerance, "{side}: {under_ten}");
    }
}

#[test]
fn boxes_never_miss_their_range() {
    let config = BoxesConfig::default();
    for side in [8, 32, 64, 256] {
        let areas: Vec<f64> =
            (0..3000).map(|seed| area(&config.mask(side, side, &mut Rng::new(seed)))).collect();
        let (mean, _) = mean_sd(&areas);
        println!("{side}: mean {mean:.3}");
        assert!(areas.iter().all(|a| (0.10..=0.30).contains(a)), "{side}");
        assert!((0.15..0.25).contains(&mean), "{side}: {mean}");
    }
    let narrow = BoxesConfig { count: [5, 5], area: [0.90, 0.95] };
    for seed in 0..50 {
        let part = area(&narrow.mask(64, 64, &mut Rng::new(seed)));
        assert!((0.90..=0.95).contains(&part), "{part}");
    }
}

#[test]
fn six_in_ten_masks_are_free_form() {
    // Boxes that cover nearly everything tell themselves from strokes by their area.
    let boxes = BoxesConfig { area: [0.90, 0.95], ..BoxesConfig::default() };
    let config = Inpainting { boxes, ..Inpainting::default() };
    let free_form =
        (0..4000).filter(|&seed| area(&config.mask(32, 32, &mut Rng::new(seed))) < 0.9).count();
    assert!((free_form as f64 / 4000.0 - 0.6).abs() < 0.025, "{free_form}");
}

#[test]
fn uncropping_takes_half_and_the_sides_are_uniform() {
    let config = Uncropping::default();
    let mut kinds = [0u32; 5];
    for seed in 0..4000 {
        let mask = config.mask(256, 256, &mut Rng::new(seed));
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
        .map(|seed| config.mask(256, 256, &mut Rng::new(seed)))
        .find(|mask| mask.get_pixel(0, 0).0[0] == 1 && mask.get_pixel(255, 255).0[0] == 1)
        .unwrap();
    assert_eq!(around.as_raw().iter().filter(|&&v| v == 0).count(), 181 * 181);
}

#[test]
fn qualities_follow_the_exponential() {
    let config = Jpeg::default();
    let count = 100_000;
    let mut seen = [0u32; 101];
    for seed in 0..count {
        seen[usize::from(config.draw_quality(&mut Rng::new(key(&[seed]))))] += 1;
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
        let evaluation = Evaluation::Inpainting(Hole::FreeForm(bin));
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
    let marked = |text: &str| {
        let mask = text.parse::<Evaluation>().unwrap().apply(&target, 0, "k").unwrap().mask;
        mask.as_raw().iter().filter(|&&v| v == 1).count()
    };
    assert_eq!(marked("inpainting:center"), 128 * 128);
    assert_eq!(marked("uncropping:right-half"), 128 * 256);
    assert_eq!(marked("jpeg:5"), 256 * 256);
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
        "jpeg:10:jpeg-encoder",
        "superresolution:4",
    ];
    for text in texts {
        assert_eq!(text.parse::<Evaluation>().unwrap().to_string(), text);
    }
    for task in Task::ALL {
        assert_eq!(task.name().parse::<Evaluation>().unwrap().task(), task);
    }
    let first = "jpeg".parse::<Evaluation>().unwrap();
    assert_eq!(first.to_string(), "jpeg:10");
    assert_eq!("jpeg:10:libjpeg-turbo".parse::<Evaluation>().unwrap(), first);
    let wrong = [
        "jpeg:0",
        "jpeg:101",
        "jpeg:x",
        "jpeg:",
        "jpeg:10:turbo",
        "inpainting:free-form-30-20",
        "inpainting:free-form-0-20",
        "inpainting:center-0",
        "uncropping:left",
        "colorization:",
        "superresolution:1",
        "blur",
        "",
    ];
    for text in wrong {
        let error = text.parse::<Evaluation>().unwrap_err().to_string();
        assert!(error.contains("superresolution:N with N from 2 to 64"), "{text}: {error}");
    }
}

#[test]
fn factors_of_superresolution_are_uniform_and_only_detail_is_lost() {
    let config = Superresolution { factor: [2, 5] };
    let target = photo(63);
    let coarse: Vec<_> = (2..=5).map(|f| superresolution::coarse(&target, f).unwrap()).collect();
    let mut seen = [0u32; 4];
    for seed in 0..4000 {
        let source = config.train(&target, &mut Rng::new(key(&[seed]))).unwrap().source;
        seen[coarse.iter().position(|image| *image == source).unwrap()] += 1;
    }
    // Chi-squared with three degrees of freedom, under its 99.9% point.
    let chi: f64 = seen.iter().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
    assert!(chi < 16.27, "{seen:?}: {chi}");
    // The mean of the image stays, and the further down, the more is lost.
    let mean = |image: &RgbImage| {
        image.as_raw().iter().map(|&v| f64::from(v)).sum::<f64>() / image.as_raw().len() as f64
    };
    let lost = |image: &RgbImage| {
        let pairs = image.as_raw().iter().zip(target.as_raw());
        pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
    };
    for (less, more) in coarse.iter().zip(&coarse[1..]) {
        assert!(lost(less) < lost(more));
        assert!((mean(more) - mean(&target)).abs() < 1.0);
    }
    let flat = RgbImage::from_pixel(10, 7, image::Rgb([3, 90, 200]));
    assert_eq!(superresolution::coarse(&flat, 64).unwrap(), flat);
}

/// The same (image, seed) on 1, 2 and 8 threads.
#[test]
fn threads_change_nothing() {
    let target = photo(48);
    let work: Vec<_> =
        Task::ALL.into_iter().flat_map(|task| (0..24).map(move |seed| (task, seed))).collect();
    let one = |&(task, seed): &(Task, u64)| {
        train(task, &DegradationConfig::default(), &target, seed).unwrap()
    };
    let on = |threads: usize| -> Vec<Degraded> {
        std::thread::scope(|scope| {
            let part = work.len().div_ceil(threads);
            let parts: Vec<_> = work
                .chunks(part)
                .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        })
    };
    let alone = on(1);
    assert_eq!(alone.len(), work.len());
    assert!(alone == on(2) && alone == on(8));
}

/// What (image, seed) becomes, it becomes for good (since the one generator of decision 3).
#[test]
fn streams_are_fixed_for_good() {
    let target = photo(64);
    let digest = |parts: &[Degraded]| {
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|d| [d.source.as_raw().as_slice(), d.mask.as_raw().as_slice()].concat())
            .collect();
        storage::atomic::sha256(&bytes)[..16].to_owned()
    };
    let trained = [
        (Task::Colorization, "6cc870557bce565e"),
        (Task::Inpainting, "3ff0172c62d1e742"),
        (Task::Uncropping, "a25ed53e80411620"),
        (Task::Jpeg, "1d803126e09fbc61"),
    ];
    let found = trained.map(|(task, _)| {
        let drawn: Vec<_> = (0..16)
            .map(|seed| train(task, &DegradationConfig::default(), &target, seed).unwrap())
            .collect();
        (task, digest(&drawn))
    });
    assert_eq!(found, trained.map(|(task, digest)| (task, digest.to_owned())));
    let evaluated = [
        ("inpainting:free-form-10-20", "b1d43b17218a2b91"),
        ("inpainting:center", "18bf808b65fdfd4a"),
        ("uncropping", "75c1f7aaa5d2563c"),
        ("jpeg:10", "0f6803fc4bccd062"),
    ];
    let found = evaluated.map(|(text, _)| {
        let evaluation: Evaluation = text.parse().unwrap();
        let drawn: Vec<_> =
            (0..4).map(|seed| evaluation.apply(&target, seed, "a/1.png").unwrap()).collect();
        (text, digest(&drawn))
    });
    assert_eq!(found, evaluated.map(|(text, digest)| (text, digest.to_owned())));
}
