//! The scores against numbers of pytorch-fid, torch-fidelity and torchmetrics (`golden/` of the fixtures).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::extractor::Extractor;
use crate::pictures::{Pairs, Set, Sizes};
use crate::scores::maths::{InceptionScore, Moments, frechet, structure};
use crate::scores::{self, Interval, Score, Statistics};
use crate::scoring::{self, Options, Scores};

/// The folder of golden numbers, or `None` with a line that says so.
fn folder() -> Option<PathBuf> {
    match std::env::var_os("PALETTE_FIXTURES") {
        Some(fixtures) => Some(PathBuf::from(fixtures).join("golden")),
        None => {
            println!("skipped: PALETTE_FIXTURES is not set");
            None
        }
    }
}

struct Golden {
    tensors: Vec<(String, Tensor)>,
    numbers: Value,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join("metrics.json")).unwrap();
        let tensors = Tensor::read_safetensors(folder.join("metrics.safetensors")).unwrap();
        Self { tensors, numbers: serde_json::from_slice(&text).unwrap() }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors.iter().find(|(other, _)| other == name).unwrap().1
    }

    fn number(&self, name: &str) -> f64 {
        self.numbers[name].as_f64().unwrap()
    }

    fn images(&self, name: &str) -> Vec<RgbImage> {
        let images = self.tensor(name).permute([0, 2, 3, 1]).contiguous();
        let (height, width) = (images.size()[1] as u32, images.size()[2] as u32);
        (0..images.size()[0])
            .map(|number| {
                let bytes: Vec<u8> = Vec::try_from(images.get(number).view([-1])).unwrap();
                RgbImage::from_raw(width, height, bytes).unwrap()
            })
            .collect()
    }
}

fn interval(of: &Scores, score: Score) -> Interval {
    match of.get(score) {
        Some(scores::Value::Interval(interval)) => *interval,
        other => panic!("{score}: {other:?}"),
    }
}

fn near(got: f64, expected: f64, relative: f64, what: &str) {
    let apart = (got - expected).abs() / expected.abs().max(1e-12);
    assert!(apart <= relative, "{what}: {got}, expected {expected} (off by {apart:e})");
}

#[test]
fn frechet_distances_are_those_of_pytorch_fid() {
    let Some(golden) = folder().map(|folder| Golden::read(&folder)) else { return };
    for (name, tolerance) in [("fid.tall", 1e-6), ("fid.rank_deficient", 1e-3)] {
        let moments = |side: &str| Moments::of(golden.tensor(&format!("{name}.{side}"))).unwrap();
        let got = frechet::Reference::new(&moments("a")).unwrap().distance(&moments("b")).unwrap();
        near(got, golden.number(name), tolerance, name);
    }
}

#[test]
fn the_inception_score_is_that_of_torch_fidelity() {
    let Some(golden) = folder().map(|folder| Golden::read(&folder)) else { return };
    let logits = golden.tensor("is.logits");
    let mut score = InceptionScore::new(1000, 50, 10);
    for number in 0..1000 {
        score.add(&Vec::try_from(logits.get(number)).unwrap(), false);
    }
    let estimate = score.estimate().unwrap();
    near(estimate.mean, golden.number("is.mean"), 1e-6, "mean");
    near(estimate.deviation.unwrap(), golden.number("is.std"), 1e-6, "deviation");
}

#[test]
fn likeness_is_that_of_torchmetrics() {
    let Some(golden) = folder().map(|folder| Golden::read(&folder)) else { return };
    let pairs = golden.images("images.jpeg").into_iter().zip(golden.images("images.reference"));
    for (number, (jpeg, reference)) in pairs.enumerate() {
        let like = structure::structure(&jpeg, &reference).unwrap();
        assert_eq!(like.scales, 5);
        let psnr = structure::psnr(&jpeg, &reference).unwrap();
        for (name, got) in [("psnr", psnr), ("ssim", like.ssim), ("ms_ssim", like.ms_ssim)] {
            let expected = golden.numbers[name][number].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-4, "{name} of {number}: {got}, {expected}");
        }
    }
}

/// The golden extractor's configuration with some changes, beside a link to its file.
pub fn configuration(golden: &Path, folder: &Path, changes: &[(&str, &str)]) -> PathBuf {
    let file = golden.join("extractor.pt");
    let (sha256, _) = storage::atomic::sha256_file(&file).unwrap();
    let mut text = format!(
        r#"
        name = "golden"
        file = "{}"
        sha256 = "{sha256}"
        scores = ["fid", "kid", "is", "ca", "pd"]
        input = "uint8"
        [features]
        output = 0
        width = 64
        [logits]
        output = 1
        width = 1000
        "#,
        file.display()
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = folder.join("extractor.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_extractor_sees_what_it_saw_in_python() {
    let Some(golden) = folder() else { return };
    let temporary = tempfile::tempdir().unwrap();
    let extractor = Extractor::open(&configuration(&golden, temporary.path(), &[])).unwrap();
    assert!(extractor.config().gives(Score::Ca) && !extractor.config().gives(Score::Lpips));
    let golden = Golden::read(&golden);
    let seen = extractor.look(&golden.images("images.reference")).unwrap();
    for (name, got) in [("features", seen.features), ("logits", seen.logits)] {
        let expected = golden.tensor(&format!("extractor.{name}"));
        let apart = (got.unwrap() - expected).abs().max().double_value(&[]);
        assert!(apart < 1e-4, "{name}: {apart}");
    }
}

#[test]
fn folders_are_scored_as_in_python_whatever_the_batch_and_the_threads() {
    let Some(golden) = folder() else { return };
    let temporary = tempfile::tempdir().unwrap();
    let numbers = Golden::read(&golden);
    for side in ["reference", "jpeg"] {
        let folder = temporary.path().join(side);
        std::fs::create_dir(&folder).unwrap();
        for (number, image) in numbers.images(&format!("images.{side}")).into_iter().enumerate() {
            image.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    let set = |side: &str| Set::open(temporary.path().join(side).to_str().unwrap()).unwrap();
    let mut all = Vec::new();
    for (batch, threads) in [(1, 1), (3, 2), (64, 4)] {
        let batch = format!("input = \"uint8\"\nbatch = {batch}");
        let changes = [("input = \"uint8\"", batch.as_str())];
        let config = configuration(&golden, temporary.path(), &changes);
        let extractors = [Extractor::open(&config).unwrap()];
        let pairs = Pairs::open(set("jpeg"), Some(set("reference"))).unwrap();
        let options = Options { sizes: Sizes::Own, splits: 2, subset: 5, structure: true, threads };
        let mut watch = |_: &str, _, _| ControlFlow::Continue(());
        let scored = scoring::score(&pairs, &extractors, vec![None], options, &mut watch);
        let scored = scored.unwrap().unwrap();
        let scores = scored.tasks["pictures"].clone();
        near(interval(&scores, Score::Fid).value, numbers.number("extractor.fid"), 1e-3, "fid");
        let pd = interval(&scores, Score::Pd);
        near(pd.value, numbers.number("extractor.pd_l2_mean"), 1e-5, "pd");
        let squared = interval(&scores, Score::PdSquared).value;
        near(squared, numbers.number("extractor.pd_l2_squared_mean"), 1e-5, "pd squared");
        let [low, high] = pd.ends().unwrap();
        assert!(low < pd.value && pd.value < high);
        let ssim: Vec<f64> = serde_json::from_value(numbers.numbers["ssim"].clone()).unwrap();
        let mean = ssim.iter().sum::<f64>() / ssim.len() as f64;
        near(interval(&scores, Score::Ssim).value, mean, 1e-4, "ssim");
        all.push(scores);
    }
    for other in &all[1..] {
        for score in [Score::Fid, Score::Kid, Score::Is] {
            let number = |of: &Scores| of.number(score).unwrap();
            near(number(other), number(&all[0]), 1e-6, score.name());
        }
    }
}

#[test]
fn statistics_are_computed_once_and_again_where_they_are_damaged() {
    let Some(golden) = folder() else { return };
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("pictures");
    std::fs::create_dir(&folder).unwrap();
    for (number, image) in Golden::read(&golden).images("images.reference").into_iter().enumerate()
    {
        image.save(folder.join(format!("{number}.png"))).unwrap();
    }
    let home = home::Home::at(&temporary.path().join("home")).unwrap();
    let extractor = Extractor::open(&configuration(&golden, temporary.path(), &[])).unwrap();
    let of = || {
        let set = Set::open(folder.to_str().unwrap()).unwrap();
        let mut watch = |_: &str, _, _| ControlFlow::Continue(());
        let statistics = scoring::statistics_of(set, &extractor, Sizes::Own, 2, &home, &mut watch);
        statistics.unwrap().unwrap()
    };
    let first = of();
    let kept: Vec<PathBuf> =
        std::fs::read_dir(home.statistics()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!((first.moments.count(), kept.len()), (8, 1));
    let equal = |other: &Statistics| {
        let same = |a: &Tensor, b: &Tensor| a.to_kind(Kind::Double).equal(&b.to_kind(Kind::Double));
        same(first.moments.scatter(), other.moments.scatter())
            && same(&first.sketch.tensor().unwrap(), &other.sketch.tensor().unwrap())
    };
    assert!(equal(&of()));
    std::fs::write(&kept[0], b"no statistics").unwrap();
    assert!(equal(&of()));
    std::fs::remove_file(folder.join("7.png")).unwrap();
    assert_eq!(of().moments.count(), 7);
    assert_eq!(std::fs::read_dir(home.statistics()).unwrap().count(), 2);
}

#[test]
fn what_contradicts_the_configuration_is_refused() {
    let Some(golden) = folder() else { return };
    let temporary = tempfile::tempdir().unwrap();
    let probe = {
        let open = Extractor::open(&configuration(&golden, temporary.path(), &[])).unwrap();
        let picture = crate::extractor::probe(64);
        let seen = open.look(&[picture]).unwrap().features.unwrap();
        Vec::<f64>::try_from(seen.get(0).to_kind(Kind::Double)).unwrap()
    };
    let check = format!("width = 1000\n[check]\nside = 64\nfeatures = {:?}", &probe[..8]);
    let good = configuration(&golden, temporary.path(), &[("width = 1000", &check)]);
    assert!(Extractor::open(&good).is_ok());
    let sha256 = storage::atomic::sha256_file(&golden.join("extractor.pt")).unwrap().0;
    for (changes, words) in [
        (vec![(sha256.as_str(), "00".repeat(32).as_str())], "another network"),
        (vec![("width = 64", "width = 65")], "features of golden have the shape [2, 64]"),
        (vec![("output = 1", "output = 2")], "gives 2 outputs, none has place 2"),
        (vec![("width = 1000", "width = 999")], "the configuration says [2, 999]"),
        (vec![("\"uint8\"", "\"byte\"")], "input is \"byte\", allowed: uint8"),
        (vec![("\"pd\"]", "\"pd\", \"lpips\"]")], "needs a section [maps]"),
        (vec![("\"pd\"]", "\"pd-squared\"]")], "pd-squared comes with pd"),
        (vec![("\"pd\"]", "\"ssim\"]")], "ssim needs no extractor"),
        (vec![("\"pd\"]", "\"fib\"]")], "is \"fib\", allowed: one of psnr"),
        (vec![("\"pd\"]", "\"pd\"]\nsize = 3")], "size is not a known key"),
        (vec![("width = 1000", &check), ("\"uint8\"", "\"unit\"")], "the probe picture gives"),
        (vec![("extractor.pt", "metrics.json")], "another network"),
    ] {
        let path = configuration(&golden, temporary.path(), &changes);
        let error = format!("{:#}", Extractor::open(&path).err().expect(words));
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.contains("extractor.toml"), "{error}");
    }
}
