//! The table of runs, runs side by side, and sweeps: in a browser, without scripts, and with hostile names.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use registry::{Database, JobKind, NewJob, NewRun, NewSweep, Run};
use serde_json::{Value, json};
use testkit::{Browser, ControlRoom, House, Look, http};

const HOSTILE: &str = "<img_src=x_onerror=alert(1)>\"'&%00\u{1f600}";

fn new(name: &str, config: Value) -> NewRun {
    NewRun {
        name: name.into(),
        experiment: Some("table".into()),
        seed: config["seed"].as_i64().unwrap_or(0),
        config,
        total_steps: 10,
        uri: Some(format!("/nowhere/{}", name.len())),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: vec![],
        fork: None,
        job: NewJob { tags: vec!["all".into()], ..NewJob::new(JobKind::Train, name, json!({})) },
    }
}

struct Runs {
    house: House,
    runtime: tokio::runtime::Runtime,
    db: Database,
}

impl Runs {
    fn new() -> Self {
        let house = House::new();
        house.ok("scheduler", &["up"]);
        let runtime = registry::runtime().unwrap();
        let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
        Self { house, runtime, db }
    }

    fn add(&self, name: &str, config: Value) -> Run {
        self.runtime.block_on(self.db.create_run(new(name, config))).unwrap().run
    }
}

/// Sends a form as a page without scripts does.
fn send(room: &ControlRoom, path: &str, fields: &[(&str, &str)]) -> http::Answer {
    let (cookie, csrf) = room.session();
    let mut body = format!("csrf={csrf}");
    for (name, value) in fields {
        let value = value.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02X}"));
        body += &format!("&{name}={value}");
    }
    let headers =
        [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    http::ask(&room.address, "POST", path, &headers, Some(body.as_bytes()))
}

fn names(table: &Value) -> Vec<&str> {
    table["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn runs_are_filtered_marked_and_grouped_by_requests_alone() {
    let runs = Runs::new();
    let room = runs.house.room(&[]);
    let text = |path: &str| String::from_utf8(room.get(path).body).unwrap();
    assert!(text("/runs").contains("trainer submit"), "an empty table says what fills it");
    let a = runs.add("a", json!({"seed": 1, "train": {"rate": 1e-3}, "same": true}));
    let b = runs.add("b", json!({"seed": 2, "train": {"rate": 1e-3}, "same": true}));
    runs.add(HOSTILE, json!({"seed": 1, "train": {"rate": 1e-2}, "same": true, "<i>": HOSTILE}));
    let list = |query: &str| room.json(&format!("/api/v1/runs?{query}"));

    // Another question than that of the empty page, whose answer is kept for a moment.
    assert_eq!(list("sort=name")["total"], 3);
    assert_eq!(names(&list("sort=name&config=train.rate%3D0.001")), ["a", "b"]);
    let together = list("group=seed&sort=config:train.rate");
    assert_eq!((&together["total"], &together["runs"]), (&json!(2), &json!(3)));
    assert_eq!(together["rows"][0]["group"]["runs"].as_array().unwrap().len(), 2);
    let differing = list("differ=1");
    let columns = differing["columns"].as_array().unwrap();
    assert!(
        columns.contains(&json!("config:train.rate")) && !columns.contains(&json!("config:same"))
    );

    // As forms.
    let starred =
        send(&room, "/marks/star", &[("run", &a.short), ("run", &b.short), ("back", "sort=name")]);
    assert_eq!((starred.status, starred.header("location")), (303, "/runs?sort=name"));
    assert_eq!(names(&list("tag=starred&sort=name")), ["a", "b"]);
    send(&room, "/marks/unstar", &[("run", &a.short), ("only", &b.short)]);
    assert_eq!(names(&list("tag=starred")), ["a"], "the button's own run, not the ticked ones");
    let queued = send(&room, "/marks/archive", &[("run", &a.short)]);
    assert_eq!(queued.status, 409, "what waits is not archived");
    runs.runtime.block_on(runs.db.cancel(a.id)).unwrap();
    assert_eq!(send(&room, "/marks/archive", &[("run", &a.short)]).status, 303);
    assert_eq!((&list("")["total"], &list("archived=all")["total"]), (&json!(2), &json!(3)));
    let fields =
        [("run", b.short.as_str()), ("name", "renamed"), ("tags", "one two"), ("note", HOSTILE)];
    assert_eq!(send(&room, "/marks/edit", &fields).status, 303);
    let row = &list("name=ren*")["rows"][0];
    assert_eq!((&row["tags"], &row["note"]), (&json!(["one", "two"]), &json!(HOSTILE)));
    assert_eq!(
        send(&room, "/marks/tag", &[("run", &b.short), ("tags", "a b\u{202e}")]).status,
        400
    );
    assert_eq!(send(&room, "/marks/star", &[]).status, 400);
    let marks = json!({"runs": [b.short], "starred": true, "remove_tags": ["one"]});
    assert_eq!(room.post("/api/v1/runs/marks", &marks).status, 200);
    assert_eq!(list("tag=starred&tag=two")["total"], 1);

    // Nothing without the token of a session, and no other address to go back to.
    let bare = http::ask(&room.address, "POST", "/marks/star", &[], Some(b"run=a"));
    assert_eq!(bare.status, 403);
    let back = send(&room, "/marks/star", &[("run", &b.short), ("back", "//evil.example")]);
    assert_eq!(back.header("location"), "/runs");
    assert_eq!(room.get("/open/compare?run=a&run=b").header("location"), "/compare?runs=a,b");
    assert_eq!(room.get("/open/%2F%2Fevil.example?run=a").status, 404);

    // Hostile texts and questions.
    for query in ["", "?differ=1&archived=all", "?column=config:%22%3Ci%3E%22", "?group=seed"] {
        let page = text(&format!("/runs{query}"));
        assert!(!page.contains("<img_src") && !page.contains("<i>"), "{query}");
    }
    let long = "x".repeat(10_000);
    for (query, status) in [
        (format!("text={long}"), 400),
        ("sort=config:%5B".into(), 400),
        ("text=%25_%5C%27%22%E2%80%AE".into(), 200),
        ("page=1000000".into(), 200),
        ("owner=%00".into(), 400),
    ] {
        assert_eq!(room.get(&format!("/api/v1/runs?{query}")).status, status, "{query}");
    }
}

#[test]
fn a_browser_sorts_filters_groups_and_stars() {
    let runs = Runs::new();
    for (name, seed, rate) in [("a", 1, 1e-3), ("b", 2, 1e-3), ("c", 1, 1e-2)] {
        runs.add(name, json!({"seed": seed, "train": {"rate": rate}}));
    }
    runs.add(HOSTILE, json!({"seed": 1}));
    let room = runs.house.room(&[]);
    let Some(browser) = Browser::start() else { return };
    for path in ["/runs", "/runs?group=seed&differ=1", "/compare?runs=a,c", "/compare", "/sweeps"] {
        assert_eq!(room.faults(&browser, path), [""; 0]);
    }
    room.open(&browser, "/runs", Look { width: 1280, dark: false });
    browser.click("th a[title='Sort by Name']");
    browser.until("location.search.includes('sort=name')");
    let first = "document.querySelector('td.name .first a').textContent";
    browser.until(&format!("{first} !== 'a' || document.querySelector('th[aria-sort=ascending]')"));
    browser.click("button.star");
    browser.until(
        "document.querySelector('button.star[aria-pressed=true], button.star[aria-label^=Take]')",
    );
    assert_eq!(room.json("/api/v1/runs?tag=starred")["total"], 1);
    // A run that comes is shown without a reload, and what is ticked stays ticked.
    browser.click("input[name=run]");
    runs.add("d", json!({"seed": 9}));
    browser.until("document.querySelectorAll('#runs tbody tr').length === 5");
    browser.until("document.querySelectorAll('input[name=run]:checked').length === 1");
    browser.click("a[href*='group=seed']");
    browser.until("location.search.includes('group=seed') && document.querySelector('.summary')");
    // a and b, c, and the two without a rate.
    browser.until("document.querySelectorAll('#runs tbody tr').length === 3");
    browser.click("input[name=owner]");
    browser.until("location.search.includes('owner=')");
    assert!(browser.run("return document.title").as_str().unwrap().starts_with("Runs"));
}

#[test]
fn runs_side_by_side_say_what_differs_and_a_sweep_its_limit() {
    let runs = Runs::new();
    let a = runs.add("a", json!({"seed": 1, "train": {"rate": 1e-3}, "same": true}));
    let b = runs.add("b", json!({"seed": 1, "train": {"rate": 1e-2}, "same": true, "new": [1]}));
    let room = runs.house.room(&[]);
    let compared = room.json(&format!("/api/v1/compare?runs={},{}", a.short, b.short));
    assert_eq!(
        compared["config"],
        json!([
            {"key": "train.rate", "values": [1e-3, 1e-2]},
            {"key": "new[0]", "values": [null, 1]},
        ])
    );
    assert_eq!(compared["config_equal"].as_array().unwrap().len(), 2);
    assert_eq!(room.get("/api/v1/compare?runs=a").status, 400);
    assert_eq!(room.get("/compare?runs=a,nothing").status, 404);
    let many = vec!["a"; 21].join(",");
    assert_eq!(room.get(&format!("/compare?runs={many}")).status, 400);

    let point = |rate: f64| {
        let point = json!({"train.rate": rate, "<b>": HOSTILE});
        (new(&format!("s-{rate}"), json!({"seed": 1, "train": {"rate": rate}})), point)
    };
    let sweep = NewSweep {
        name: HOSTILE.into(),
        owner: "ann".into(),
        submit_key: None,
        at_most: None,
        runs: vec![point(1e-4), point(1e-3), point(1e-1)],
    };
    let sweep = runs.runtime.block_on(runs.db.submit_sweep(sweep)).unwrap();
    let path = format!("/sweeps/{}", sweep.sweep.short);
    for (run, loss) in sweep.runs.iter().zip([Some(0.5), Some(0.25), None]) {
        let latest = json!({"validation/loss": loss});
        runs.house.sql(&format!("update runs set latest = '{latest}' where id = '{}'", run.run.id));
    }
    let story = room.json(&format!("/api/v1{path}"));
    assert_eq!(
        (&story["by"], &story["keys"]),
        (&json!("validation/loss"), &json!(["<b>", "train.rate"]))
    );
    assert_eq!(
        (&story["rows"][0]["mean"], &story["rows"][0]["best"]),
        (&json!(0.25), &json!(true))
    );
    assert_eq!(story["rows"][2]["value"], "lost");
    let page = String::from_utf8(room.get(&path).body).unwrap();
    assert!(
        page.contains("logarithmic across")
            && page.contains("<circle")
            && !page.contains("<b>\u{1f600}")
    );
    assert!(!page.contains("<img_src"));
    assert_eq!(send(&room, &format!("{path}/limit"), &[("at_most", "0x")]).status, 400);
    assert_eq!(send(&room, &format!("{path}/limit"), &[("at_most", "2")]).status, 303);
    assert_eq!(room.json(&format!("/api/v1{path}"))["sweep"]["at_most"], 2);
    assert_eq!(send(&room, &format!("{path}/cancel"), &[]).status, 303);
    assert_eq!(room.json("/api/v1/sweeps")[0]["states"], json!({"cancelled": 3}));
    let again = String::from_utf8(room.get(&format!("{path}/again")).body).unwrap();
    assert!(again.contains("train.rate=0.0001,0.001,0.1"), "{again}");
    if let Some(browser) = Browser::start() {
        assert_eq!(room.faults(&browser, &path), [""; 0]);
    }
}
