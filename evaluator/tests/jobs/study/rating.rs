//! A rater at a browser, from the link to the result.

use std::collections::BTreeMap;

use serde_json::Value;
use testkit::Browser;
use testkit::http;

use super::{Server, Shown, Studio, recognise};

const SECONDS: f64 = 0.5;
/// The keys of WebDriver.
const LEFT: char = '\u{E012}';
const RIGHT: char = '\u{E014}';
const ENTER: char = '\u{E007}';

/// Measures in the page, apart from its own script, for how long the pair can be seen: by frames, in
/// milliseconds, into `window.seen`.
const WATCH: &str = "
    window.seen = [];
    let began = null;
    const look = (now) => {
        const shown = getComputedStyle(document.getElementById('pair')).visibility === 'visible';
        if (shown && began === null) began = now;
        if (!shown && began !== null) { window.seen.push(now - began); began = null; }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);";

/// What lies on both sides of a trial, as its pictures say.
fn sides(server: &Server, link: &str, trial: usize) -> [(u8, Shown); 2] {
    ["left", "right"].map(|side| {
        let path = format!("{link}/picture/{trial}/{side}");
        recognise(&http::send(&server.address, "GET", &path, None).body)
    })
}

/// Nothing in the page or among what it loaded says where a picture is from.
fn tells_nothing(browser: &Browser) {
    let loaded = browser.run(
        "return performance.getEntriesByType('resource').map((entry) => entry.name).join(' ')",
    );
    let said = format!("{} {loaded}", browser.source()).to_lowercase();
    for word in ["palette", "regression", "reference", "output", "garden", "secret", "faces"] {
        assert!(!said.contains(word), "`{word}` in: {said}");
    }
}

fn asks(browser: &Browser) {
    browser.until("document.querySelector('#choice.shown')");
}

#[test]
fn from_a_link_to_fool_rates() {
    let Some(browser) = Browser::start() else { return };
    let house = Studio::new();
    house.study(&SECONDS.to_string());
    let links = house.invite("4");
    let server = house.serve();

    // Raters 1 and 3 are of set 1. What they choose: the output (fooled) or the photograph.
    let choices = [(&links[0], [true, false]), (&links[2], [true, true])];
    let mut expected: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (rater, (link, fooled)) in choices.iter().enumerate() {
        browser.open(&format!("http://{}{link}", server.address));
        browser.until("!document.getElementById('welcome').hidden");
        browser.run(WATCH);
        match rater {
            // The button has the focus.
            0 => browser.key(ENTER),
            _ => browser.press("touch", "#start"),
        }
        for (trial, fooled) in (1..).zip(fooled) {
            browser.until("document.querySelector('#pair.shown')");
            tells_nothing(&browser);
            if (rater, trial) == (1, 1) {
                // A reload in the midst: the same trial again.
                browser.reload();
                browser
                    .until("document.getElementById('start').textContent.includes('pair 1 of 2')");
                browser.run(WATCH);
                browser.press("mouse", "#start");
            }
            asks(&browser);
            tells_nothing(&browser);
            let sides = sides(&server, link, trial);
            let photograph = usize::from(sides[1].1 == Shown::Photograph);
            assert_eq!(sides[photograph].1, Shown::Photograph);
            assert_eq!(sides[0].0, sides[1].0, "two pictures of one image");
            let output = sides[1 - photograph];
            let system = if output.1 == Shown::Palette { "Palette" } else { "Regression" };
            let right = (photograph == 1) != *fooled;
            match (rater, trial, right) {
                (0, 1, false) => browser.key(LEFT),
                (0, 1, true) => browser.key(RIGHT),
                (0, _, false) => browser.press("mouse", "#left"),
                (0, _, true) => browser.press("mouse", "#right"),
                (_, 1, false) => browser.press("touch", "#left"),
                (_, 1, true) => browser.press("touch", "#right"),
                (_, _, false) => browser.key('1'),
                (_, _, true) => browser.key('2'),
            }
            let (answers, taken) = expected.entry(system).or_default();
            (*answers, *taken) = (*answers + 1, *taken + u64::from(*fooled));
            match trial {
                1 => browser.until("document.getElementById('progress').textContent === '2 of 2'"),
                _ => browser.until("!document.getElementById('thanks').hidden"),
            }
        }
        let seen = browser.run("return window.seen");
        let seen: Vec<f64> = serde_json::from_value(seen).unwrap();
        assert_eq!(seen.len(), 2, "{seen:?}");
        for shown in seen {
            in_time(shown);
        }
        browser.reload();
        browser.until("!document.getElementById('thanks').hidden");
    }
    // A second answer changes nothing, whenever it comes.
    for chosen in ["left", "right"] {
        let body = format!(
            r#"{{"chosen":"{chosen}","shown_ms":1,"response_ms":1,"interrupted":false,"input":"key"}}"#
        );
        let path = format!("{}/answer/1", links[0]);
        let answer = http::send(&server.address, "POST", &path, Some(&body));
        assert_eq!((answer.status, answer.json()["answered"].as_u64()), (200, Some(2)));
    }
    server.end();

    let results = house
        .json("evaluator", &["study", "results", "faces", "--json", "--details", "answers.csv"]);
    assert_eq!(results["raters"]["invited"], 4);
    assert_eq!(results["raters"]["started"], 2);
    assert_eq!(results["raters"]["finished"], 2);
    assert_eq!((&results["answers"], &results["looked_again"]), (&4.into(), &1.into()));
    let rates = results["rates"].as_array().unwrap();
    for (system, (answers, fooled)) in &expected {
        let own: Vec<&Value> = rates.iter().filter(|rate| rate["system"] == *system).collect();
        // Set 1 at its only time, and everything.
        assert_eq!(own.len(), 2, "{own:?}");
        for rate in own {
            assert_eq!(
                (&rate["answers"], &rate["fooled"]),
                (&(*answers).into(), &(*fooled).into())
            );
            let wanted = *fooled as f64 / *answers as f64;
            assert_eq!(rate["fool_rate"], wanted);
            let ends: [f64; 2] = serde_json::from_value(rate["wilson"].clone()).unwrap();
            assert!(ends[0] <= wanted && wanted <= ends[1]);
        }
    }
    let details = std::fs::read_to_string(house.path("answers.csv")).unwrap();
    let rows: Vec<Vec<&str>> =
        details.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let column = |name: &str| {
        let place = details.lines().next().unwrap().split(',').position(|own| own == name).unwrap();
        rows.iter().map(|row| row[place]).collect::<Vec<_>>()
    };
    assert_eq!(column("input"), ["key", "mouse", "touch", "key"]);
    assert_eq!(column("shown"), ["1", "1", "2", "1"]);
    assert_eq!(column("fooled"), ["true", "false", "true", "true"]);
    assert_eq!(column("interrupted"), ["false"; 4]);
    for shown in column("shown_ms") {
        in_time(shown.parse().unwrap());
    }
    let first =
        house.json("evaluator", &["study", "results", "faces", "--json", "--first-look-only"]);
    assert_eq!((&first["answers"], &first["left_out"]), (&3.into(), &1.into()));
}

/// Shown for its time, to the frame. A machine that is busy drops frames, and then one comes late;
/// none comes early.
fn in_time(shown: f64) {
    let wanted = SECONDS * 1000.0;
    assert!(shown > wanted - 17.0 && shown < wanted + 150.0, "shown for {shown} ms");
}

#[test]
fn a_small_screen_a_page_that_is_hidden_and_a_server_that_goes_and_comes() {
    let Some(browser) = Browser::start() else { return };
    let house = Studio::new();
    // Longer than any wait: only the interruption ends it.
    house.study("60");
    let links = house.invite("1");
    let server = house.serve();
    browser.resize(500, 800);
    browser.open(&format!("http://{}{}", server.address, links[0]));
    browser.until("!document.getElementById('welcome').hidden");
    browser.press("touch", "#start");
    browser.until("document.querySelector('#pair.shown')");
    let fits = "const [a, b] = [...document.querySelectorAll('#pair img')]
            .map((picture) => picture.getBoundingClientRect());
        return a.width === b.width && a.height === b.height && a.width > 100
            && a.left >= 0 && a.right <= b.left && b.right <= innerWidth
            && document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.run(fits), true);
    // A key before its time is no answer.
    browser.key(LEFT);
    assert_eq!(browser.run("return !!document.querySelector('#pair.shown')"), true);
    browser.run(
        "Object.defineProperty(document, 'hidden', { get: () => true, configurable: true });
         document.dispatchEvent(new Event('visibilitychange'));
         delete document.hidden;",
    );
    asks(&browser);

    // An answer that cannot be delivered is kept until there is a server again.
    let address = server.address.clone();
    server.end();
    browser.key(LEFT);
    browser.until("!document.getElementById('notice').hidden");
    let server = house.serve_at(&address);
    browser.until("document.getElementById('progress').textContent === '2 of 2'");
    server.end();
    let results = house.json("evaluator", &["study", "results", "faces", "--json"]);
    assert_eq!((&results["answers"], &results["interrupted"]), (&1.into(), &1.into()));
    let whole =
        house.json("evaluator", &["study", "results", "faces", "--json", "--uninterrupted-only"]);
    assert_eq!((&whole["answers"], &whole["left_out"]), (&0.into(), &1.into()));
}
