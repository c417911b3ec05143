//! Tables from queue to report, with a classifier trained on the way, and other systems' folders.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testkit::House;

/// A dataset of two classes, a classifier of it, a table and a profile.
pub fn laboratory() -> House {
    let house = House::new();
    for (class, seed) in [("day", "1"), ("night", "100")] {
        let out = format!("scenes/{class}");
        house.ok(
            "pipeline",
            &["scenes", "--out", &out, "--count", "12", "--size", "32", "--seed", seed],
        );
    }
    house.ok(
        "pipeline",
        &["ingest", "scenes", "--layout", "folder", "--name", "scenes", "--out", "data"],
    );
    house.ok(
        "evaluator",
        &[
            "classifier",
            "--train",
            "data",
            "--held-out",
            "data",
            "--size",
            "16",
            "--epochs",
            "1",
            "--channels",
            "4",
            "--out",
            "classifier.pt",
        ],
    );
    let table = r#"
        title = "Colorization"
        [[group]]
        columns = ["fid", "is", "ca", "pd", "kid", "likeness"]
        [[part]]
        set = "test"
        task = "colorization"
        samples = 2
        [[part.row]]
        system = "Elsewhere (2020)"
        paper = { fid = 12.5 }
        [[part.row]]
        system = "Other"
        outputs = "other"
        [[part.row]]
        system = "Palette"
        run = "palette"
        paper = { fid = 15.78, is = 200.8 }
        [[part.row]]
        system = "Reference"
        reference = true
    "#;
    fs::write(house.path("table-x.toml"), table).unwrap();
    let profile = r#"
        out = "evaluation"
        size = 16
        splits = 2
        extractors = ["classifier.toml"]
        sampler = ["--process", "ddim", "--steps", "2"]
        [sets]
        test = "data"
        [runs]
        palette = "scored"
    "#;
    fs::write(house.path("profile.toml"), profile).unwrap();
    house
}

pub const PROTOCOL: [&str; 3] = ["table-x.toml", "--profile", "profile.toml"];

fn evaluator(house: &House, command: &str, more: &[&str]) -> String {
    let arguments: Vec<&str> =
        [command].into_iter().chain(PROTOCOL).chain(more.iter().copied()).collect();
    house.ok("evaluator", &arguments)
}

/// The cell of a system in the table's only group.
fn cell<'a>(table: &'a Value, system: &str) -> &'a Value {
    let lines = table[0]["lines"].as_array().unwrap();
    &lines.iter().find(|line| line["system"] == system).unwrap()["cells"][""]
}

#[test]
fn a_table_is_sampled_scored_printed_and_drawn() {
    let house = laboratory();
    let config = house.config("scored", 3);
    house.ok("trainer", &["submit", &config]);

    let planned: Value =
        serde_json::from_str(&evaluator(&house, "submit", &["--dry-run", "--json"])).unwrap();
    let states: Vec<&str> =
        planned.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states[0], "the paper's numbers only");
    assert!(states[1].contains("no place for the outputs `other`"), "{states:?}");
    assert_eq!(states[2..], ["would be sampled and scored", "would be scored"]);

    // Sampling waits for training, scoring for sampling; asked twice, nothing is queued twice.
    let first = evaluator(&house, "submit", &["--json"]);
    assert_eq!(evaluator(&house, "submit", &["--json"]), first);
    house.ok("scheduler", &["worker", "--drain"]);
    let jobs = house.json("scheduler", &["jobs", "--json"]);
    let jobs = jobs.as_array().unwrap();
    assert_eq!(jobs.len(), 4, "{jobs:?}");
    assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
    let again = evaluator(&house, "submit", &["--json"]);
    assert_eq!(again.matches("\"scored\"").count(), 2, "{again}");

    let table: Value = serde_json::from_str(&evaluator(&house, "table", &["--json"])).unwrap();
    let palette = &cell(&table, "Palette")["here"];
    assert_eq!(palette["run"], "scored@3");
    assert_eq!(palette["scores"]["inputs"], 24);
    assert_eq!(palette["scores"]["outputs"], 48);
    for column in ["fid", "is", "ca", "pd", "kid", "likeness"] {
        assert!(palette["numbers"][column]["value"].is_f64(), "{column}: {palette}");
    }
    let reference = &cell(&table, "Reference")["here"]["numbers"];
    assert!(reference["fid"]["value"].as_f64().unwrap() < 1e-6, "{reference}");
    assert_eq!(reference["pd"]["value"], 0.0);

    let markdown = evaluator(&house, "table", &["--format", "markdown"]);
    assert!(markdown.contains("| Elsewhere (2020) | paper | 12.5 | – |"), "{markdown}");
    assert!(markdown.contains("| Palette | paper | 15.78 | 200.8 | – |"), "{markdown}");
    assert!(markdown.contains("| Palette | here | "), "{markdown}");
    assert!(markdown.contains("24 images; 48 outputs; scored@3"), "{markdown}");
    let csv = evaluator(&house, "table", &["--format", "csv"]);
    assert!(csv.contains("table-x,,,Palette,paper,fid,15.78,,,\n"), "{csv}");

    evaluator(&house, "report", &["--out", "report.html", "--pictures", "sheets"]);
    let report = fs::read_to_string(house.path("report.html")).unwrap();
    // Systems side by side, several outputs of one input, best and worst.
    assert_eq!(report.matches("<img ").count(), 3);
    assert!(report.contains("<svg "));
    for elsewhere in ["src=\"http", "href=\"http", "url(", "<script", "<link"] {
        assert!(!report.contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(fs::read_dir(house.path("sheets")).unwrap().count(), 3);

    let out = house.sql("select output_uri from samplings");
    testkit::named::check(b"\x89PNG", ".png", true, |path| {
        let run = ["run", "--outputs", out.trim(), "--dry-run", "--histogram"];
        let mut command = house.command("evaluator", &run);
        command.arg(path);
        command
    });

    // Outputs that are gone: their pictures are missing, which is said where they were and to whoever asks;
    // the scores are the registry's, and the rest is shown.
    fs::remove_dir_all(out.trim()).unwrap();
    let output =
        house.run("evaluator", &[&["report"], &PROTOCOL[..], &["--out", "gone.html"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let warning = stderr.lines().find(|line| line.contains("cannot be shown")).unwrap();
    assert!(
        warning.starts_with("warning: table-x, Palette: its pictures cannot be shown: "),
        "{stderr}"
    );
    assert!(warning.contains(out.trim()), "{stderr}");
    let gone = fs::read_to_string(house.path("gone.html")).unwrap();
    assert_eq!(gone.matches("<img ").count(), 0);
    assert!(gone.contains("its pictures cannot be shown") && gone.contains("<svg "));
    let rows = |page: &str| {
        page.split("<tbody>").nth(1).unwrap().split("</tbody>").next().map(str::to_owned)
    };
    assert_eq!(rows(&gone), rows(&report));
}

#[test]
fn another_systems_folder_is_matched_by_key_and_what_has_no_partner_is_told() {
    let house = laboratory();
    let other = house.path("other");
    fs::create_dir_all(&other).unwrap();
    let names: Vec<_> = ["day", "night"]
        .iter()
        .flat_map(|class| fs::read_dir(house.path(&format!("scenes/{class}"))).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    // All but two of the photographs, and one that is of no photograph.
    for path in &names[2..] {
        let class = path.parent().unwrap().file_name().unwrap();
        fs::create_dir_all(other.join(class)).unwrap();
        fs::copy(path, other.join(class).join(path.file_name().unwrap())).unwrap();
    }
    fs::copy(&names[2], other.join("stranger.png")).unwrap();
    let arguments = ["run", "--outputs", "other", "--reference", "data", "--size", "16"];
    let extractor = ["--extractor", "classifier.toml", "--splits", "2", "--json"];
    let all: Vec<&str> = arguments.iter().chain(&extractor).copied().collect();
    let output = house.run("evaluator", &all);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("2 references have no output"), "{stderr}");
    assert!(stderr.contains("1 outputs have no reference and are not scored"), "{stderr}");
    assert!(stderr.contains("the scores are not kept"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tasks"]["pictures"]["outputs"], 22);
    assert_eq!(report["matching"]["surplus"], 1);
    assert_eq!(report["matching"]["first_surplus"][0], "stranger");
    assert_eq!(report["tasks"]["pictures"]["perceptual"]["value"], 0.0);
    let accuracy = report["tasks"]["pictures"]["accuracy"]["value"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy));

    // In a table it stands by the name that the profile gives it.
    let profile = fs::read_to_string(house.path("profile.toml")).unwrap();
    let profile = format!("{profile}\n[outputs]\nother = \"other\"\n");
    fs::write(house.path("profile.toml"), profile).unwrap();
    evaluator(&house, "submit", &["--only", "Other"]);
    house.ok("scheduler", &["worker", "--drain"]);
    let markdown = evaluator(&house, "table", &["--format", "markdown"]);
    assert!(markdown.contains("Other: 22 images;"), "{markdown}");
    assert!(markdown.contains("2 references have no output"), "{markdown}");
}

#[test]
fn bad_input_is_told_in_one_line() {
    let house = laboratory();
    fs::create_dir_all(house.path("empty")).unwrap();
    fs::create_dir_all(house.path("broken")).unwrap();
    fs::write(house.path("broken/a.png"), b"no picture").unwrap();
    fs::write(house.path("bad.toml"), "title = \"x\"\ncolumn = 3\n").unwrap();
    let columns = "title = \"x\"\n[[group]]\ncolumns = [\"psrn\"]\n[[part]]\nset = \"test\"\ntask = \"jpeg\"\nrow = []\n";
    fs::write(house.path("columns.toml"), columns).unwrap();
    fs::write(house.path("empty.toml"), "").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "--outputs", "nowhere"], 2, "there is no such folder"),
        (&["run", "--outputs", "empty"], 2, "holds no pictures"),
        (&["run", "--outputs", "data"], 2, "say --size"),
        (&["run", "--outputs", "x", "--no-structure", "--histogram", "x"], 2, "--no-structure"),
        (&["run", "--outputs", "broken", "--reference", "broken"], 1, "the output of a"),
        (&["run", "--outputs", "broken"], 2, "nothing to score: there is no reference beside it"),
        (&["run", "--outputs", "broken", "--reference", "data"], 2, "no name in common"),
        (&["run", "--outputs", "broken#source"], 2, "only an output dataset has columns"),
        (&["run", "--outputs", "scenes", "--extractor", "none.toml"], 2, "none.toml"),
        (&["run", "--outputs", "scenes", "--extractor", "empty.toml"], 2, "name is missing"),
        (&["run", "--outputs", "scenes", "--extractor", "classifier.toml"], 2, "say --reference"),
        (&["table", "bad.toml", "--profile", "profile.toml"], 2, "column is not a known key"),
        (&["table", "columns.toml", "--profile", "profile.toml"], 2, "did you mean `psnr`?"),
        (
            &["table", "table-x.toml", "--profile", "bad.toml"],
            2,
            "is not a known key, allowed: out, ",
        ),
        (
            &["submit", "table-x.toml", "--profile", "profile.toml", "--only", "palete"],
            2,
            "no table has such a system; did you mean `Palette`?",
        ),
        (&["classifier", "--train", "data", "--held-out", "data", "--out", "x"], 2, "end in .pt"),
    ];
    for (arguments, status, words) in cases {
        let output = house.run("evaluator", arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let error = stderr.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
        assert!(error.contains(words), "{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(*status), "{arguments:?}: {stderr}");
    }
}

#[test]
fn every_table_and_profile_of_the_paper_is_valid() {
    let house = laboratory();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/evaluation");
    let profile = fs::read_to_string(configs.join("profiles/paper.toml")).unwrap();
    // The extractors' files are not ours to give.
    let begin = profile.find("extractors = [").unwrap();
    let end = begin + profile[begin..].find(']').unwrap() + 1;
    let profile = format!("{}extractors = []{}", &profile[..begin], &profile[end..]);
    fs::write(house.path("paper.toml"), profile).unwrap();
    let tables: Vec<String> = fs::read_dir(&configs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(tables.len(), 11);
    for table in &tables {
        let text = house.ok("evaluator", &["table", table, "--profile", "paper.toml"]);
        assert!(text.contains("not scored yet"), "{text}");
        assert!(!text.contains("no place for the run"), "{text}");
        assert!(!text.contains("no place for the set"), "{text}");
    }
    let table: Value = house.json(
        "evaluator",
        &[
            "table",
            configs.join("table-1.toml").to_str().unwrap(),
            "--profile",
            "paper.toml",
            "--json",
        ],
    );
    assert_eq!(cell(&table, "Palette")["paper"]["fid"], 15.78);
}

#[test]
fn reports_and_scores_may_be_written_to_devices_fifos_and_links() {
    let house = laboratory();
    let command = |arguments: Vec<&'static str>| {
        let house = &house;
        move |path: &std::path::Path| {
            let mut command = house.command("evaluator", &arguments);
            command.arg(path);
            command
        }
    };
    let report = [&["report"], &PROTOCOL[..], &["--out"]].concat();
    testkit::named::check(b"<!doctype html>", ".html", true, command(report));
    let run = ["run", "--outputs", "data", "--reference", "data", "--size", "16", "--dry-run"];
    let details = [&run[..], &["--details"]].concat();
    testkit::named::check(b"key,sample", ".csv", true, command(details));
    // No form of one go: what is no file is refused before anything is learned.
    let classifier = ["classifier", "--train", "data", "--held-out", "data", "--size", "16"];
    let less = ["--epochs", "1", "--channels", "4", "--out"];
    testkit::named::check(b"PK", ".pt", false, |path| {
        let null = house.path("null.pt");
        let named = match path == std::path::Path::new("/dev/null") {
            // It must end so.
            true => {
                let _ = std::os::unix::fs::symlink(path, &null);
                &null
            }
            false => path,
        };
        let mut command = house.command("evaluator", &classifier);
        command.args(less).arg(named);
        command
    });
    assert!(house.path("null.pt").is_symlink());
    assert!(fs::read_to_string(house.path("null.toml")).unwrap().contains("name = \"null\""));
}
