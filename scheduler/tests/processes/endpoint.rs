//! `scheduler worker --metrics`: a real worker, asked over a plain socket, its answer read strictly.

use std::collections::{BTreeMap, HashSet};

use registry::{JobKind, NewJob};
use serde_json::json;
use testkit::{http, until};

use crate::database::set_up;

/// One answer to `METHOD PATH`.
fn ask(port: u16, request: &str) -> http::Answer {
    let (method, path) = request.split_once(' ').unwrap();
    http::send(&format!("127.0.0.1:{port}"), method, path, None)
}

/// A sample's name and its labels by name.
type Series = (String, BTreeMap<String, String>);

fn scrape(port: u16) -> BTreeMap<Series, f64> {
    scrape_at(port, "GET /metrics")
}

fn scrape_at(port: u16, request: &str) -> BTreeMap<Series, f64> {
    let answer = ask(port, request);
    assert_eq!(answer.status, 200);
    let form = answer.header("content-type");
    assert!(form.starts_with("text/plain; version=0.0.4"), "{form}");
    parse(&testkit::text(&answer.body))
}

fn value(samples: &BTreeMap<Series, f64>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

/// Reads the text format 0.0.4 and takes nothing that its description does not allow: every family
/// once and in one piece, under its help and type, no series twice, buckets that add up.
fn parse(text: &str) -> BTreeMap<Series, f64> {
    assert!(text.ends_with('\n'));
    let mut samples = BTreeMap::new();
    let mut families = HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').unwrap();
            let described = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).unwrap();
            let (of, is) = described.split_once(' ').unwrap();
            assert_eq!(of, name);
            assert!(["counter", "gauge", "histogram"].contains(&is), "{described}");
            assert!(is != "counter" || name.ends_with("_total"), "{name}");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            (family, kind) = (name.to_owned(), is.to_owned());
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let name = &line[..end];
        assert!(name.starts_with("palette_"), "{line}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        let of = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap(),
            _ => name,
        };
        assert_eq!(of, family, "{line} is not where its family is");
        let (labels, rest) = labels(&line[end..]);
        let number = match rest.strip_prefix(' ').unwrap() {
            "+Inf" => f64::INFINITY,
            number => number.parse().unwrap(),
        };
        let series = (name.to_owned(), labels);
        assert!(!samples.contains_key(&series), "{line} comes twice");
        samples.insert(series, number);
    }
    for ((name, labels), count) in &samples {
        let Some(family) = name.strip_suffix("_count") else { continue };
        let of = |it: &BTreeMap<String, String>| {
            let mut it = it.clone();
            let bound =
                it.remove("le").map(|bound| bound.replace("+Inf", "inf").parse::<f64>().unwrap());
            (it == *labels).then_some(bound).flatten()
        };
        let mut buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter(|((name, _), _)| *name == format!("{family}_bucket"))
            .filter_map(|((_, labels), count)| Some((of(labels)?, *count)))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)));
    }
    samples
}

/// Labels in their braces, and what follows.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (labels, text) };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{text}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (place, '"') => break place + 1,
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    character @ ('\\' | '"') => character,
                    other => panic!("`\\{other}` is no escape: {text}"),
                }),
                (_, character) => value.push(character),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{text}");
        rest = &after[end..];
        match rest.split_at(1) {
            (",", after) => rest = after,
            ("}", after) => return (labels, after),
            _ => panic!("{text}"),
        }
    }
}

#[test]
fn a_scrape_follows_the_jobs_and_outlives_the_database() {
    let (house, runtime, db) = set_up();
    house.script("trainer", r#"while ! test -e "$HOUSE/go"; do sleep 0.05; done"#);
    house.script("sampler", "exit 1");
    let name = "a\"b\"\\c";
    let _worker = house.worker("report", &["--name", name, "--metrics", "0", "--slots", "2"]);
    let port = || {
        let report = house.read("report");
        let (_, rest) = report.split_once("metrics at http://127.0.0.1:")?;
        rest.split_once('/')?.0.parse::<u16>().ok()
    };
    until("it listens", || port().is_some());
    let port = port().unwrap();
    let wait = |name: &str, labels: &[(&str, &str)], expected: f64| {
        until(&format!("{name}{labels:?} is {expected}"), || {
            value(&scrape(port), name, labels) == Some(expected)
        });
    };

    wait("palette_worker_slots", &[], 2.0);
    let first = scrape(port);
    let info = first.keys().find(|(name, _)| name == "palette_worker_info").unwrap();
    assert_eq!(info.1["name"], name);
    assert_eq!(info.1["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&first, "palette_worker_slots_busy", &[]), Some(0.0));
    assert_eq!(value(&first, "palette_database_up", &[]), Some(1.0));
    let own = scrape_at(port, "GET /metrics/worker");
    assert_eq!(value(&own, "palette_worker_slots", &[]), Some(2.0));
    assert!(own.keys().all(|(name, _)| name.starts_with("palette_worker_")), "{own:?}");
    let memory = value(&first, "palette_worker_resident_memory_bytes", &[]).unwrap();
    assert!(memory > 1e6, "{memory}");
    let succeeded = [("kind", "train"), ("state", "succeeded")];
    assert_eq!(value(&first, "palette_worker_attempts_ended_total", &succeeded), Some(0.0));

    runtime.block_on(async {
        db.submit(NewJob::new(JobKind::Train, "good", json!({}))).await.unwrap();
        let bad = NewJob { max_attempts: 1, ..NewJob::new(JobKind::Sample, "bad", json!({})) };
        db.submit(bad).await.unwrap();
    });
    wait("palette_worker_slots_busy", &[], 1.0);
    wait("palette_jobs", &[("kind", "train"), ("state", "running")], 1.0);
    let during = scrape(port);
    let left = value(&during, "palette_worker_lease_left_seconds", &[]).unwrap();
    assert!(left <= 2.0, "{left}");
    let failed = [("kind", "sample"), ("state", "failed")];
    wait("palette_worker_attempts_ended_total", &failed, 1.0);
    std::fs::write(house.path("go"), "").unwrap();
    wait("palette_worker_attempts_ended_total", &succeeded, 1.0);
    wait("palette_worker_slots_busy", &[], 0.0);
    wait("palette_jobs", &[("kind", "train"), ("state", "succeeded")], 1.0);
    let after = scrape(port);
    for kind in ["train", "sample"] {
        let kind = [("kind", kind)];
        assert_eq!(value(&after, "palette_worker_attempts_started_total", &kind), Some(1.0));
        assert_eq!(
            value(&after, "palette_worker_attempt_duration_seconds_count", &kind),
            Some(1.0)
        );
    }

    assert_eq!(ask(port, "GET /healthz").status, 200);
    assert_eq!(ask(port, "GET /readyz").status, 200);
    for other in ["GET /", "GET /metrics/x", "POST /metrics", "DELETE /healthz", "POST /readyz"] {
        assert_eq!(ask(port, other).status, 404, "{other}");
    }
    let message =
        house.fails(1, "scheduler", &["worker", "--metrics", &format!("127.0.0.1:{port}")]);
    assert!(message.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{message}");

    house.ok("scheduler", &["down"]);
    wait("palette_database_up", &[], 0.0);
    let old = scrape(port);
    let succeeded = [("kind", "train"), ("state", "succeeded")];
    assert_eq!(value(&old, "palette_jobs", &succeeded), Some(1.0), "the old value stays");
    house.ok("scheduler", &["up"]);
    wait("palette_database_up", &[], 1.0);
}
