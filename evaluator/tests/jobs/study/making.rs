//! Making a study and inviting to it: what is refused, and in what words.

use std::collections::BTreeSet;

use pipeline::Task;

use super::{Shown, Studio, picture, png};

/// Creates a study of four images with these arguments, which must be refused.
fn refused(house: &Studio, arguments: &[&str], status: i32, words: &[&str]) {
    let create = ["study", "create", "other", "--images", "4"];
    let line = house.fails(status, "evaluator", &[&create[..], arguments].concat());
    for word in words {
        assert!(line.contains(word), "`{word}` is not in: {line}");
    }
}

#[test]
fn what_would_spoil_a_study_is_refused_in_one_line() {
    let house = Studio::new();
    house.study("3,5");
    house.outputs("both", 4, &[Task::Colorization, Task::Inpainting]);
    house.outputs("few", 3, &[Task::Colorization]);
    house.folder("photographs", 4, Shown::Photograph);
    house.folder("small", 4, Shown::Palette);
    let cut = image::imageops::crop_imm(&picture(2, Shown::Palette), 0, 0, 64, 64).to_image();
    std::fs::write(house.path("small/kept-secret-2.png"), png(&cut)).unwrap();
    house.folder("damaged", 4, Shown::Palette);
    std::fs::write(house.path("damaged/kept-secret-1.png"), b"\x89PNG or not").unwrap();
    std::fs::create_dir(house.path("empty")).unwrap();

    refused(&house, &["--system", "A=both"], 2, &["colorization, inpainting", "--task"]);
    refused(&house, &["--system", "A=outputs", "--task", "jpeg"], 2, &["no outputs of jpeg"]);
    refused(&house, &["--system", "A=others"], 2, &["--reference"]);
    let few = ["3 of the 4 records", "4 images are wanted", "B lacks 1", "secret-3", "--images"];
    refused(&house, &["--system", "A=outputs", "--system", "B=few"], 1, &few);
    let sizes = ["A", "secret-2", "64x64", "96x64"];
    refused(&house, &["--system", "A=small", "--reference", "photographs"], 1, &sizes);
    let damaged = ["A: 1 of 4 pictures", "kept-secret-1", "damaged"];
    refused(&house, &["--system", "A=damaged", "--reference", "photographs"], 1, &damaged);
    refused(&house, &["--system", "A=empty"], 2, &["empty", "holds no pictures"]);
    refused(&house, &["--system", "A=nowhere"], 2, &["nowhere", "no such folder"]);
    let twice = ["--system", "A=outputs", "--system", "A=others"];
    refused(&house, &twice, 2, &["two systems are called A"]);
    let fewer = ["study", "create", "faces", "--system", "A=outputs", "--images", "3"];
    house.fails(2, "evaluator", &fewer);
    let again = ["study", "create", "faces", "--system", "A=outputs", "--images", "4"];
    assert!(house.fails(1, "evaluator", &again).contains("there is a study `faces` already"));
    for (status, command, word) in [
        (1, &["study", "invite", "none"][..], "evaluator study list"),
        (2, &["study", "invite", "faces", "--seconds", "4"], "3 s, 5 s"),
        (2, &["study", "serve", "faces", "--bind", "0.0.0.0:0"], "--public"),
        (2, &["study", "serve", "faces", "--bind", "nonsense"], "HOST:PORT"),
        (1, &["study", "results", "none"], "no study `none`"),
    ] {
        assert!(house.fails(status, "evaluator", command).contains(word), "{command:?}");
    }
    assert_eq!(house.json("evaluator", &["study", "list", "--json"]).as_array().unwrap().len(), 1);

    // A folder of photographs and one task of several: together all that there is to say.
    let systems = ["--system", "A=both", "--system", "B=others", "--reference", "photographs"];
    let create = ["study", "create", "more", "--images", "2", "--task", "inpainting", "--json"];
    let made = house.json("evaluator", &[&create[..], &systems].concat());
    assert_eq!((&made["images"], &made["left_out"]), (&2.into(), &0.into()));
}

#[test]
fn links_are_spread_over_sets_and_times_and_are_secrets() {
    let house = Studio::new();
    house.study("3,5");
    let links = house.json("evaluator", &["study", "invite", "faces", "--raters", "8", "--json"]);
    let links = links.as_array().unwrap();
    let count = |set: i64, seconds: f64| {
        links.iter().filter(|link| link["set"] == set && link["seconds"] == seconds).count()
    };
    assert_eq!([count(1, 3.0), count(1, 5.0), count(2, 3.0), count(2, 5.0)], [2; 4]);
    let tokens: BTreeSet<&str> = links
        .iter()
        .map(|link| link["link"].as_str().unwrap().rsplit('/').next().unwrap())
        .collect();
    assert_eq!(tokens.len(), 8);
    assert!(tokens.iter().all(|token| token.len() == 32));

    let more = ["study", "invite", "faces", "--raters", "3", "--set", "2", "--seconds", "5"];
    let base = ["--url-base", "https://lab.example/a/", "--json"];
    let more = house.json("evaluator", &[&more[..], &base].concat());
    for (place, link) in (2..).zip(more.as_array().unwrap()) {
        assert_eq!((&link["set"], &link["seconds"]), (&2.into(), &5.0.into()));
        assert_eq!(link["number"], place);
        assert!(link["link"].as_str().unwrap().starts_with("https://lab.example/a/r/"));
    }
    let list = house.json("evaluator", &["study", "list", "--json"]);
    assert_eq!((&list[0]["raters"], &list[0]["answers"]), (&11.into(), &0.into()));
    assert!(
        house.ok("evaluator", &["study", "results", "faces"]).contains("nothing was answered yet")
    );
}

#[test]
fn files_of_results_may_be_devices_fifos_and_links() {
    let house = Studio::new();
    house.study("0.1");
    let results = |option: &'static str| {
        let house = &house;
        move |path: &std::path::Path| {
            let mut command = house.command("evaluator", &["study", "results", "faces", option]);
            command.arg(path);
            command
        }
    };
    testkit::named::check(b"system,set", ".csv", true, results("--csv"));
    testkit::named::check(b"rater,set", ".csv", true, results("--details"));
}
