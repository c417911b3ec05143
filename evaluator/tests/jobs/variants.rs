//! Outputs of two evaluations of one task: two in everything.

use std::fs;

use image::{Rgb, RgbImage};
use outputs::{OutputRow, OutputWriter};
use serde_json::{Value, json};
use testkit::House;

/// Outputs of five inputs under two evaluations, of which the first is better; `told` is what the rows say
/// they are of.
fn outputs(house: &House, name: &str, told: [&str; 2]) {
    let png = |level: u8| pictures::png(&RgbImage::from_pixel(16, 16, Rgb([level; 3]))).unwrap();
    let row = |input: u8, (told, apart): (&str, u8)| OutputRow {
        source: png(0),
        mask: png(255),
        output: png(100 + input + apart * (input + 1)),
        reference: png(100 + input),
        key: format!("input-{input}"),
        seed: 0,
        sample: 0,
        task: told.parse().unwrap(),
    };
    let each = [(told[0], 2), (told[1], 9)];
    let rows = (0..5).flat_map(|input| each.map(|one| row(input, one)));
    let place = house.path(name).to_str().unwrap().parse().unwrap();
    let writer = OutputWriter::open(&place, "samples", 1).unwrap();
    writer.write_chunk(0, &rows.collect::<Vec<_>>()).unwrap();
    // As the manifest of a sampling job says what was asked for.
    let options = json!({ "asked": { "evaluations": ["jpeg:20", "jpeg:5"] } });
    writer.finish(options).unwrap();
}

#[test]
fn two_evaluations_of_one_task_have_two_scores() {
    let house = House::new();
    outputs(&house, "new", ["jpeg:20", "jpeg:5"]);
    // As an earlier version wrote them, whose manifest had version 1.
    outputs(&house, "old", ["jpeg", "jpeg"]);
    let manifest = house.path("old/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let older = text.replace("\"version\": 2", "\"version\": 1");
    assert_ne!(older, text);
    fs::write(&manifest, older).unwrap();
    let mut all = Vec::new();
    for name in ["new", "old"] {
        let details = format!("{name}.csv");
        let arguments = ["run", "--outputs", name, "--details", &details, "--dry-run", "--json"];
        let scored = house.json("evaluator", &arguments)["tasks"].clone();
        assert_eq!(scored.as_object().unwrap().len(), 2, "{scored}");
        let error = |task: &str| {
            assert_eq!(scored[task]["outputs"], 5, "{scored}");
            scored[task]["mean_absolute_error"].as_f64().unwrap()
        };
        assert_eq!((error("jpeg:20"), error("jpeg:5")), (6.0, 27.0));
        let ssim = &scored["jpeg:5"]["picture_psnr"];
        assert!(ssim["low"].is_f64() && ssim["high"].is_f64(), "{scored}");
        let lines = fs::read_to_string(house.path(&details)).unwrap();
        assert_eq!(lines.matches(",0,jpeg:5,").count(), 5, "{lines}");
        all.push(scored);
    }
    assert_eq!(all[0], all[1]);
    // A later version is refused with what to do.
    fs::write(&manifest, text.replace("\"version\": 2", "\"version\": 3")).unwrap();
    let said = house.fails(2, "evaluator", &["run", "--outputs", "old", "--dry-run"]);
    assert!(said.contains("versions up to 2: update it"), "{said}");
}

#[test]
fn perfect_outputs_count_and_few_have_no_interval() {
    let house = House::new();
    let write = |folder: &str, perfect: usize, count: usize| {
        fs::create_dir_all(house.path(folder)).unwrap();
        for number in 0..count {
            let level = 100 + number as u8 + if number < perfect { 0 } else { 40 };
            let picture = RgbImage::from_pixel(16, 16, Rgb([level; 3]));
            picture.save(house.path(folder).join(format!("{number}.png"))).unwrap();
        }
    };
    let psnr = |perfect: usize, count: usize| -> Value {
        let folder = format!("outputs-{perfect}-{count}");
        write(&folder, perfect, count);
        let arguments = ["run", "--outputs", &folder, "--reference", "reference", "--json"];
        house.json("evaluator", &arguments)["tasks"]["pictures"].clone()
    };
    write("reference", 8, 8);
    let means: Vec<f64> =
        [0, 4, 8].map(|one| psnr(one, 8)["picture_psnr"]["value"].as_f64().unwrap()).into();
    assert!(means[0] < means[1] && means[1] < means[2], "{means:?}");
    assert_eq!((psnr(4, 8)["perfect"].clone(), means[2]), (json!(4), 100.0));
    let few = psnr(0, 2);
    assert!(few["picture_psnr"]["low"].is_null(), "{few}");
    let said = house.ok(
        "evaluator",
        &["run", "--outputs", "outputs-4-8", "--reference", "reference", "--dry-run"],
    );
    assert!(said.contains("4 of 8 outputs equal their reference"), "{said}");
}
