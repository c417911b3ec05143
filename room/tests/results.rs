//! Results: the pictures behind scores, and what is said where there are none.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use outputs::{OutputRow, OutputWriter};
use testkit::{House, until};

/// Outputs of four inputs with two samples each, the later ones the worse.
fn outputs(house: &House) {
    let place = storage::Place::folder(house.path("outputs")).unwrap();
    let reference = pipeline::scenes::scene(1, 32);
    let png = |picture: &_| pictures::png(picture).unwrap();
    let row = |number: u32| {
        let mut output = reference.clone();
        output.iter_mut().for_each(|value| *value = value.saturating_add(number as u8 * 4));
        let mask = pipeline::Degraded::whole(output.clone()).mask;
        OutputRow {
            source: png(&pipeline::scenes::scene(2, 32)),
            mask: png(&pictures::from_mask(&mask)),
            output: png(&output),
            reference: png(&reference),
            key: format!("<img src=x>/{}.png", number / 2),
            seed: 0,
            sample: number % 2,
            task: "jpeg:10".parse().unwrap(),
        }
    };
    let writer = OutputWriter::open(&place, "outputs", 1).unwrap();
    writer.write_chunk(0, &(0..8).map(row).collect::<Vec<_>>()).unwrap();
    writer.finish(serde_json::Value::Null).unwrap();
}

#[test]
fn each_number_opens_its_pictures_best_and_worst_first() {
    let house = House::new();
    house.ok("scheduler", &["up"]);
    outputs(&house);
    let record = |id: &str, label: &str, place: &str| {
        house.sql(&format!(
            "insert into evaluations (id, label, task, outputs_uri, scores) values
             ('{id}', '{label}', 'jpeg:10', '{place}',
              '{{\"outputs\": 8, \"psnr\": 21.5, \"fid\": {{\"value\": 12.5, \"low\": 11, \"high\": 14}}}}')"
        ));
    };
    let (id, gone) =
        ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222");
    record(id, "<script>alert(1)</script>", house.path("outputs").to_str().unwrap());
    record(gone, "gone", "/nowhere/at/all");
    let room = house.room(&[]);
    let all = room.json("/api/v1/evaluations");
    let one = all.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
    assert_eq!((&one["scores"]["fid"]["low"], &one["count"]), (&11.0.into(), &8.into()), "{one}");

    let pictures = |order: &str| {
        let path = format!("/api/v1/evaluations/{id}/pictures?order={order}");
        until("the errors are computed", || room.get(&path).status == 200);
        room.json(&path)
    };
    let keys = |order: &str| -> Vec<String> {
        let shown = pictures(order)["shown"].clone();
        shown
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["key"].as_str().unwrap().to_owned())
            .collect()
    };
    let best = keys("best");
    assert_eq!((best.len(), best[0].as_str()), (4, "<img src=x>/0.png"));
    assert_eq!(keys("worst"), best.iter().rev().cloned().collect::<Vec<_>>());
    let first = &pictures("best")["shown"][0];
    assert_eq!(first["outputs"][0]["psnr"], 100.0, "it equals its reference");
    assert!(first["outputs"][1]["error"].as_f64().unwrap() > 3.0, "{first}");
    let address = first["outputs"][1]["pictures"]["output"].as_str().unwrap();
    let answer = room.get(address);
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"));

    for (path, status) in [
        (format!("/results/pictures/{id}/8/output"), 404),
        (format!("/results/pictures/{id}/18446744073709551615/output"), 404),
        (format!("/results/pictures/{id}/0/key"), 404),
        (format!("/results/pictures/{gone}/0/output"), 409),
        ("/results/pictures/33333333-3333-4333-8333-333333333333/0/output".into(), 404),
        ("/results/scores/..%2F..%2Fetc".into(), 400),
        (format!("/results/scores/{id}?order=sideways"), 200),
        (format!("/results/scores/{gone}"), 200),
        (format!("/results/histograms?id={id}&id={gone}"), 200),
        ("/results/histograms".into(), 400),
        ("/results/studies/none".into(), 404),
        ("/results".into(), 200),
    ] {
        let answer = room.get(&path);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(!text.contains("<script>alert") && !text.contains("<img src=x"), "{path}: {text}");
    }
    let page = String::from_utf8(room.get(&format!("/results/scores/{gone}")).body).unwrap();
    assert!(page.contains("evaluator report"), "{page}");
}

#[test]
fn without_tables_and_studies_the_page_says_what_makes_them() {
    let house = House::new();
    let room = house.room(&[]);
    let page = String::from_utf8(room.get("/results").body).unwrap();
    for command in ["scheduler room --tables", "evaluator run --outputs", "evaluator study create"]
    {
        assert!(page.contains(command), "{page}");
    }
    assert_eq!(room.json("/api/v1/tables"), serde_json::json!([]));
}
