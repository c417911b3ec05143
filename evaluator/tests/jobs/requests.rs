//! What a scoring job carries: a request that is checked when it is submitted, and again by the attempt.

use std::fs;

use serde_json::Value;
use testkit::House;

use crate::tables::{PROTOCOL, laboratory};

/// What `evaluator submit` says of the only row that it is asked for.
fn submit(house: &House, system: &str, more: &[&str]) -> Value {
    let arguments = [&["submit"], &PROTOCOL[..], &["--only", system, "--json"], more].concat();
    house.json("evaluator", &arguments)[0].clone()
}

fn refused(house: &House, system: &str, more: &[&str]) -> String {
    house.fails(2, "evaluator", &[&["submit"], &PROTOCOL[..], &["--only", system], more].concat())
}

fn shown(house: &House, job: &Value) -> Value {
    house.json("scheduler", &["show", job.as_str().unwrap(), "--json"])
}

#[test]
fn a_scoring_job_is_a_request_and_those_of_before_are_still_done() {
    let house = laboratory();
    let queued = submit(&house, "Reference", &[]);
    let payload = &shown(&house, &queued["scoring"])["job"]["payload"];
    let path = |name: &str| house.path(name).display().to_string();
    assert_eq!(payload["version"], 1, "{payload}");
    assert_eq!(payload["outputs"], path("data"), "{payload}");
    assert_eq!(payload["extractors"][0], path("classifier.toml"), "{payload}");
    assert_eq!(payload["label"], queued["label"]);
    let table = house.ok("evaluator", &[&["table"], &PROTOCOL[..]].concat());
    let job = queued["scoring"].as_str().unwrap();
    assert!(table.contains(&format!("Reference: not scored yet: job {job} is queued")), "{table}");
    house.ok("scheduler", &["worker", "--drain"]);
    let done = shown(&house, &queued["scoring"]);
    assert_eq!(done["job"]["state"], "succeeded", "{done}");
    assert_eq!(done["job"]["progress_done"], 24, "{done}");
    assert_eq!(
        house.sql("select job_id is not null, label from evaluations"),
        format!("t|{}\n", queued["label"].as_str().unwrap())
    );

    // As `evaluator submit` queued it: a command line, and before that one without a version.
    for version in ["payload", "payload - 'version'"] {
        let what = ["submit", "evaluate", "--json", "--"];
        let how = ["--outputs", "data", "--reference", "data", "--size", "16", "--label", version];
        let older = house.json("scheduler", &[&what[..], &how].concat());
        let id = older["job"]["id"].as_str().unwrap();
        house.sql(&format!("update jobs set payload = {version} where id = '{id}'"));
        house.ok("scheduler", &["worker", "--drain"]);
        assert_eq!(shown(&house, &older["job"]["short"])["job"]["state"], "succeeded");
        let label = version.replace('\'', "''");
        let kept = format!("select count(*) from evaluations where label = '{label}'");
        assert_eq!(house.sql(&kept), "1\n");
    }
}

#[test]
fn a_request_that_cannot_be_read_ends_its_job() {
    let house = laboratory();
    for (number, (change, says)) in [
        (r#"'{"version": 2}'"#, "has version 2, this evaluator reads versions up to 1: update"),
        (r#"'{"subset": 3}'"#, "subset is not a known key, allowed: outputs, "),
        (r#"'{"splits": 0}'"#, "splits is 0, allowed: 1 to 1000"),
    ]
    .into_iter()
    .enumerate()
    {
        let job = submit(&house, "Reference", &["--key", &number.to_string()])["scoring"].clone();
        let short = job.as_str().unwrap();
        house
            .sql(&format!("update jobs set payload = payload || {change} where short = '{short}'"));
        assert!(!house.run("scheduler", &["worker", "--drain"]).status.success());
        let shown = shown(&house, &job);
        assert_eq!(shown["job"]["state"], "failed", "{shown}");
        let reason = shown["job"]["reason"].as_str().unwrap();
        assert!(reason.contains(says), "{reason}");
        assert_eq!(shown["job"]["attempts_used"], 1, "it is not tried again: {shown}");
    }
    assert_eq!(house.sql("select count(*) from evaluations"), "0\n");
}

#[test]
fn what_cannot_be_scored_is_refused_when_submitting() {
    let house = laboratory();
    let profile = fs::read_to_string(house.path("profile.toml")).unwrap();
    for (from, to, says) in [
        ("splits = 2", "splits = 0", "profile.toml: splits is 0, allowed: 1 to 1000"),
        ("test = \"data\"", "test = \"nowhere\"", "nowhere cannot be used"),
        ("test = \"data\"", "test = \"ftp://host/data\"", "`ftp://` is not known"),
    ] {
        fs::write(house.path("profile.toml"), profile.replace(from, to)).unwrap();
        let said = refused(&house, "Reference", &[]);
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(house.sql("select count(*) from jobs"), "0\n");
}

#[test]
fn two_keys_do_not_sample_into_one_place() {
    let house = laboratory();
    let config = house.config("scored", 3);
    house.ok("trainer", &["submit", &config]);
    // Options of a job are options of both that are queued.
    let options = "--key one --priority 3 --tag grid --owner ann --attempts 2 --after scored";
    let options: Vec<&str> = options.split_whitespace().collect();
    let first = submit(&house, "Palette", &options);
    let of_jobs = "select kind, priority, tags, owner, max_attempts,
             exists (select from dependencies join jobs training on training.id = parent_id
                 where job_id = jobs.id and training.name = 'scored')
         from jobs where kind <> 'train' order by kind::text";
    assert_eq!(house.sql(of_jobs), "evaluate|3|{grid}|ann|2|t\nsample|3|{grid}|ann|2|t\n");
    let job = first["sampling"].as_str().unwrap();
    for more in [&["--key", "two"][..], &[]] {
        let said = refused(&house, "Palette", more);
        assert!(
            said.contains(&format!("job {job} (queued) already writes its outputs to")),
            "{said}"
        );
        assert!(said.contains("say --key \"one\" to get that job"), "{said}");
        assert!(said.contains(&format!("`scheduler cancel {job}`")), "{said}");
        assert!(said.contains("choose another `out` in the profile"), "{said}");
    }
    assert_eq!(submit(&house, "Palette", &["--key", "one"]), first);
    assert_eq!(house.sql("select count(*) from jobs"), "3\n");

    // Cancelled before it wrote anything: the place is free. The way out of one without a key is another.
    house.ok("scheduler", &["cancel", job]);
    let second = submit(&house, "Palette", &[]);
    assert_ne!(second["sampling"], first["sampling"]);
    let said = refused(&house, "Palette", &["--key", "two"]);
    assert!(said.contains("leave --key out to get that job"), "{said}");

    // What is there is scored, whoever made it, and what another job has begun is left to it.
    house.run("scheduler", &["worker", "--drain"]);
    let third = submit(&house, "Palette", &["--key", "two", "--again"]);
    assert!(third["sampling"].is_null() && third["scoring"].is_string(), "{third}");
    let out = house.sql("select output_uri from samplings limit 1");
    fs::remove_file(format!("{}/manifest.json", out.trim())).unwrap();
    let said = refused(&house, "Palette", &["--key", "two", "--again"]);
    assert!(said.contains("holds the outputs of job"), "{said}");
    assert!(said.contains("choose another `out` in the profile"), "{said}");
}

#[test]
fn all_rows_are_queued_or_none() {
    let house = laboratory();
    // The row behind those that could be queued is wrong.
    let profile = fs::read_to_string(house.path("profile.toml")).unwrap();
    let profile = format!("{profile}\n[outputs]\nother = \"nowhere\"\n");
    fs::write(house.path("profile.toml"), profile).unwrap();
    let table = fs::read_to_string(house.path("table-x.toml")).unwrap();
    let (other, reference) = (
        "[[part.row]]\n        system = \"Other\"\n        outputs = \"other\"\n",
        "[[part.row]]\n        system = \"Reference\"\n        reference = true\n",
    );
    assert!(table.contains(other) && table.contains(reference), "{table}");
    let table = table.replace(other, "").replace(reference, &format!("{reference}{other}"));
    let palette = "[[part.row]]\n        system = \"Palette\"\n        run = \"palette\"\n        paper = { fid = 15.78, is = 200.8 }\n";
    fs::write(house.path("table-x.toml"), table.replace(palette, "")).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let said = house.fails(2, "evaluator", &[&["submit"], &PROTOCOL[..], more].concat());
        assert!(said.contains("table-x, Other: "), "{said}");
        assert!(said.contains("nowhere"), "{said}");
        assert_eq!(house.sql("select count(*) from jobs"), "0\n");
    }
}

/// What making the dataset would tell, a dry run tells too, and makes nothing.
#[test]
fn a_dry_run_tries_the_list_and_the_rows_of_the_profile() {
    let house = laboratory();
    let config = house.config("scored", 3);
    house.ok("trainer", &["submit", &config]);
    let text = fs::read_to_string(house.path("profile.toml")).unwrap();
    let known = fs::read_dir(house.path("scenes/day")).unwrap().next().unwrap().unwrap();
    let known = format!("day/{}\n", known.file_name().display());
    fs::write(house.path("known.txt"), &known).unwrap();
    fs::write(house.path("strange.txt"), known + "day/nobody.png\n").unwrap();
    let dry = |arguments: &str| {
        let sampler =
            format!("sampler = [\"--process\", \"ddim\", \"--steps\", \"2\", {arguments}]");
        let old = "sampler = [\"--process\", \"ddim\", \"--steps\", \"2\"]";
        assert!(text.contains(old));
        fs::write(house.path("profile.toml"), text.replace(old, &sampler)).unwrap();
        [&["submit"], &PROTOCOL[..], &["--only", "Palette", "--dry-run"]].concat()
    };
    for (arguments, words) in [
        ("\"--rows\", \"0..500\"", "--rows"),
        ("\"--rows\", \"many\"", "--rows"),
        ("\"--list\", \"nowhere.txt\"", "nowhere.txt"),
        ("\"--list\", \"strange.txt\"", "nobody"),
    ] {
        let said = house.fails(2, "evaluator", &dry(arguments));
        assert!(said.contains(words) && said.contains("table-x, Palette"), "{arguments}: {said}");
    }
    for fits in ["\"--rows\", \"0..5\"", "\"--list\", \"known.txt\""] {
        let printed = house.ok("evaluator", &dry(fits));
        assert!(printed.contains("would be sampled and scored"), "{printed}");
    }
    assert!(!house.path("evaluation").exists());
}
