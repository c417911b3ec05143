//! Previews and outputs of sampling jobs as the server gives them, and as a browser shows them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use testkit::{Browser, ControlRoom, House};

/// Two runs with previews of other steps.
fn laboratory() -> House {
    let house = House::new();
    house.dataset(12);
    for (name, every, rate) in [("often", 5, "1e-3"), ("seldom", 10, "2e-3")] {
        let config = house.config(name, 20);
        let preview = format!("train.preview={{ images = 3, steps = 2, every = {every} }}");
        let rate = format!("train.learning_rate={rate}");
        house.ok("trainer", &["submit", &config, "--set", &preview, "--set", &rate]);
    }
    house.ok("scheduler", &["worker", "--drain"]);
    house
}

fn refused(room: &ControlRoom, path: &str, status: u16, why: &str) {
    let answer = room.get(path);
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{path}: {body}");
    assert!(body.contains(why), "{path}: {body}");
}

#[test]
fn previews_of_several_runs_are_beside_one_another_at_every_step() {
    let house = laboratory();
    let room = house.room(&[]);
    let grid = room.json("/api/v1/pictures?runs=often,seldom&step=15");
    assert_eq!(grid["steps"], serde_json::json!([5, 10, 15, 20]));
    let runs = grid["runs"].as_array().unwrap();
    let steps: Vec<&Value> = runs.iter().map(|run| &run["step"]).collect();
    assert_eq!(steps, [15, 10], "the nearest before where a run has none");
    let differs = |run: &Value, key: &str| {
        let settings = run["differs"].as_array().unwrap();
        settings.iter().find(|one| one["key"] == key).map(|one| one["value"].clone())
    };
    assert_eq!(differs(&runs[1], "train.learning_rate"), Some(0.002.into()));
    assert_eq!(differs(&runs[0], "train.preview.every"), Some(5.into()));
    assert_eq!(differs(&runs[0], "name"), None);
    let rows = grid["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for cell in rows.iter().flat_map(|row| row["cells"].as_array().unwrap()) {
        assert_eq!(cell["outputs"].as_array().unwrap().len(), 1);
        for image in [&cell["source"], &cell["reference"], &cell["outputs"][0]] {
            let whole = room.get(image["url"].as_str().unwrap());
            assert_eq!((whole.status, whole.header("content-type")), (200, "image/png"));
            assert!(whole.header("cache-control").contains("immutable"));
            assert_eq!(whole.header("x-content-type-options"), "nosniff");
            assert_eq!(whole.body.len() as u64, image["bytes"].as_u64().unwrap());
            let small = room.get(image["small"].as_str().unwrap());
            assert_eq!((small.status, small.header("content-type")), (200, "image/jpeg"));
        }
    }
    // The first step of the second run is still to come there.
    assert_eq!(
        room.json("/api/v1/pictures?runs=seldom,often&step=5")["runs"][0]["step"],
        Value::Null
    );

    let page = String::from_utf8(room.get("/pictures?runs=often,seldom&step=15").body).unwrap();
    assert!(page.contains("(none at 15)") && page.contains("train.learning_rate"), "{page}");
    let part = String::from_utf8(room.get("/pictures/grid?runs=often&step=5").body).unwrap();
    assert!(part.contains("data-steps=\"5,10,15,20\"") && !part.contains("<html"), "{part}");
    let own = String::from_utf8(room.get("/pictures").body).unwrap();
    assert!(own.contains("often") && own.contains("seldom"));

    let input = room.json("/api/v1/pictures/input?run=often&input=1&step=12");
    assert_eq!((&input["step"], input["course"].as_array().unwrap().len()), (&10.into(), 4));
    let output = &input["outputs"][0];
    assert!(output["psnr"].as_f64().is_some_and(f64::is_finite), "{input}");
    let error = room.get(output["error"].as_str().unwrap());
    assert_eq!((error.status, error.header("content-type")), (200, "image/png"));
    let page = room.get("/pictures/input?run=often&input=1&step=12");
    assert!(page.status == 200 && String::from_utf8(page.body).unwrap().contains("PSNR"));
}

#[test]
fn what_no_page_asks_for_is_refused_with_a_reason() {
    let house = laboratory();
    let room = house.room(&[]);
    let zeros = "0".repeat(64);
    for path in ["abc", "..%2f..%2fetc%2fpasswd", &zeros[1..], &"G".repeat(64), "%00", "..%5c.."] {
        refused(&room, &format!("/pictures/{path}"), 404, "no such");
        refused(&room, &format!("/pictures/{path}/small"), 404, "no such");
    }
    refused(&room, &format!("/pictures/{zeros}"), 404, "no run has this picture");
    refused(&room, &format!("/pictures/{zeros}/error/{zeros}"), 404, "no run has this picture");
    refused(&room, "/pictures?step=-1", 400, "whole number");
    refused(&room, "/api/v1/pictures?step=99999999999999999999", 400, "whole number");
    refused(&room, "/pictures?runs=nobody", 404, "nobody");
    let many: String = (0..60).map(|run| format!("r{run},")).collect();
    refused(&room, &format!("/pictures?runs={many}"), 400, "at most 50");
    refused(&room, "/pictures/input", 400, "run is missing");
    refused(&room, "/pictures/input?run=often&input=99", 404, "no pictures of input 99");
    refused(&room, "/pictures/input?run=often&input=99999999999", 400, "too large");
    refused(&room, "/samples/nobody", 404, "nobody");
    refused(&room, "/samples/often", 404, "samples nothing");

    // A file with other content than its name says is not served, nor one that is gone.
    let grid = room.json("/api/v1/pictures?runs=often");
    let image = &grid["rows"][0]["cells"][0]["outputs"][0];
    let uri = house.sql("select uri from runs where name = 'often'");
    let file = format!("{}/pictures/{}.png", uri.trim(), image["digest"].as_str().unwrap());
    let sound = std::fs::read(&file).unwrap();
    let url = image["url"].as_str().unwrap();
    std::fs::write(&file, vec![7; sound.len()]).unwrap();
    refused(&room, url, 404, "sees no such file");
    std::fs::remove_file(&file).unwrap();
    refused(&room, url, 404, "it was written on");
    std::fs::write(&file, sound).unwrap();
    assert_eq!(room.get(url).status, 200);
}

#[test]
fn outputs_of_a_sampling_job_are_looked_at_page_by_page() {
    let house = House::new();
    house.trained();
    let submit = [
        "submit",
        "--run",
        "trained",
        "--dataset",
        "data",
        "--count",
        "4",
        "--task",
        "colorization",
        "--task",
        "inpainting",
        "--samples",
        "2",
        "--process",
        "ddim",
        "--steps",
        "2",
        "--out",
        "outputs",
        "--json",
    ];
    let job = house.json("sampler", &submit)["job"].as_str().unwrap().to_owned();
    let room = house.room(&[]);
    refused(&room, &format!("/api/v1/samples/{job}"), 404, "can be looked at when it is done");
    refused(&room, &format!("/samples/{job}"), 200, "it has not begun to write");
    house.ok("scheduler", &["worker", "--drain"]);
    drop(room);

    let room = house.room(&[]);
    assert_eq!(room.json("/api/v1/samples")[0]["short"], job.as_str());
    let rows = room.json(&format!("/api/v1/samples/{job}?first=3&count=6"));
    assert_eq!((&rows["rows"], rows["outputs"].as_array().unwrap().len()), (&16.into(), 6));
    let first = &rows["outputs"][0];
    assert_eq!((&first["row"], &first["sample"]), (&3.into(), &1.into()));
    for column in ["source", "mask", "output", "reference", "error"] {
        let address = first[column].as_str().unwrap();
        let whole = room.get(address);
        assert_eq!((whole.status, whole.header("content-type")), (200, "image/png"), "{address}");
        assert!(whole.header("cache-control").contains("immutable"));
        let small = room.get(&format!("{address}&small=1"));
        assert_eq!((small.status, small.header("content-type")), (200, "image/jpeg"));
        let stale = room.get(&format!("/samples/{job}/3/{column}?of=0"));
        assert_eq!((stale.status, stale.header("cache-control")), (200, "private, no-cache"));
    }
    let scored = room.json(&format!("/api/v1/samples/{job}/3"));
    assert!(scored["psnr"].as_f64().is_some_and(f64::is_finite), "{scored}");
    assert_eq!(
        room.json(&format!("/api/v1/samples/{job}?first=16"))["outputs"],
        serde_json::json!([])
    );

    let page = String::from_utf8(room.get(&format!("/samples/{job}")).body).unwrap();
    assert!(page.contains("rows 0 to 15 of 16") && page.contains("Sample 1"), "{page}");
    let input = String::from_utf8(room.get(&format!("/samples/{job}/5")).body).unwrap();
    assert!(input.contains("rows 4 to 5") && input.matches("PSNR").count() == 2, "{input}");
    assert!(String::from_utf8(room.get("/samples").body).unwrap().contains(&job));

    let huge = u64::MAX.to_string();
    for (path, status, why) in [
        ("/samples/JOB/16", 404, "no row 16"),
        ("/samples/JOB/16/output", 404, "no row 16"),
        ("/samples/JOB/-1/output", 400, "whole number"),
        ("/samples/JOB/1/..%2f..", 404, "source, mask, output"),
        ("/api/v1/samples/JOB?count=201", 400, "at most 200"),
        ("/api/v1/samples/JOB?first=x", 400, "whole number"),
        ("/api/v1/samples/JOB/9223372036854775807", 404, "no row"),
        ("/samples/JOB/HUGE/output", 404, "no row"),
        ("/samples/JOB?first=HUGE", 400, "whole number"),
    ] {
        refused(&room, &path.replace("JOB", &job).replace("HUGE", &huge), status, why);
    }
}

#[test]
fn one_slider_zoom_and_wipe_move_all_pictures() {
    let Some(browser) = Browser::start() else { return };
    let house = laboratory();
    let room = house.room(&[]);
    let mut faults = Vec::new();
    for path in ["/pictures?runs=often,seldom", "/pictures/input?run=often&input=0", "/samples"] {
        faults.extend(room.faults(&browser, path));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    browser.open(&room.url("/pictures?runs=often,seldom"));
    browser.until("document.querySelector('#slider').max === '3'");
    browser.until("[...document.querySelectorAll('.over')].every((one) => one.src === new URL(one.dataset.full, location).href)");
    let step = |step: u32| format!("document.querySelector('#steps').dataset.step === '{step}'");
    browser.until(&step(20));
    browser.run("document.activeElement.blur()");
    browser.key('\u{E012}');
    browser.until(&step(15));
    browser.until("location.search.includes('step=15')");
    browser.until("document.querySelector('#grid').innerText.includes('none at 15')");
    browser.key('\u{E014}');
    browser.until(&step(20));
    browser.run("document.querySelector('[data-zoom=\"8\"]').click()");
    browser.until("[...document.querySelectorAll('.view .stack')].every((one) => one.style.transform.includes('scale'))");
    browser.key('0');
    browser.until(
        "[...document.querySelectorAll('.view .stack')].every((one) => !one.style.transform)",
    );
    browser.run("const wipe = document.querySelector('#wipe'); wipe.value = 40; wipe.dispatchEvent(new Event('input'))");
    browser.until("getComputedStyle(document.querySelector('.over')).clipPath.includes('40%')");
    browser.run("document.querySelector('#play').click()");
    browser.until(&step(5));
    browser.until(&step(20));
    browser.until("document.querySelector('#play').textContent === 'Play'");
    browser.press("mouse", "a.view");
    browser.until(
        "location.pathname === '/pictures/input' && document.body.innerText.includes('PSNR')",
    );
}

#[test]
fn pictures_of_a_run_in_an_object_store_are_served_from_there() {
    let Some(server) = testkit::s3::Server::start() else { return };
    let mut house = House::new();
    house.set(server.environment());
    house.dataset(8);
    let config = house.config("afar", 10);
    let place = "train.checkpoint={ every = 5, place = \"s3://laboratory/runs\" }";
    let preview = "train.preview={ images = 2, steps = 2, every = 5 }";
    house.ok("trainer", &["submit", &config, "--set", place, "--set", preview]);
    house.ok("scheduler", &["worker", "--drain"]);
    // Nothing of it lies on this machine.
    let run = house.json("scheduler", &["runs", "--json"])[0]["short"].clone();
    assert!(!house.path("home/runs").join(run.as_str().unwrap()).exists());
    let room = house.room(&[]);
    let grid = room.json("/api/v1/pictures?runs=afar&step=5");
    let output = &grid["rows"][1]["cells"][0]["outputs"][0];
    let whole = room.get(output["url"].as_str().unwrap());
    assert_eq!((whole.status, whole.header("content-type")), (200, "image/png"));
    let gone = house.ok("scheduler", &["gc", "--pictures", "keep=0"]);
    assert!(gone.contains("pictures:"), "{gone}");
    assert_eq!(house.sql("select count(*) from pictures").trim(), "0");
    refused(&room, output["url"].as_str().unwrap(), 404, "no run has this picture");
}
