//! Sample jobs over datasets: many workers, any of which may die; what may be sampled, with which
//! weights; what is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outputs::{OutputDataset, OutputRow};
use serde_json::Value;
use testkit::s3::Server;
use testkit::{House, failed, run_ok, until};

fn rows(house: &House, out: &str) -> Vec<OutputRow> {
    let outputs = OutputDataset::open(&house.path(out).to_str().unwrap().parse().unwrap()).unwrap();
    outputs.rows().map(Result::unwrap).collect()
}

fn submit(house: &House, arguments: &[&str]) -> Value {
    house.json("sampler", &[&["submit", "--json"], arguments].concat())
}

/// Finished shards of a folder of outputs.
fn shards(house: &House, out: &str) -> usize {
    let entries = std::fs::read_dir(house.path(out).join("data")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "parquet")).count()
}

#[test]
fn no_output_is_lost_or_doubled_however_many_workers_die() {
    let house = House::new();
    house.trained();
    let what = [
        "--run",
        "trained@5",
        "--dataset",
        "data",
        "--task",
        "colorization",
        "--task",
        "inpainting:center",
        "--samples",
        "2",
        "--steps",
        "25",
    ];
    submit(&house, &[&what[..], &["--attempts", "50", "--batch", "1", "--out", "alone"]].concat());
    house.ok("scheduler", &["worker", "--drain"]);
    let wanted = rows(&house, "alone");
    assert_eq!(wanted.len(), 12 * 2 * 2);

    let shared = ["--batch", "5", "--workers", "3", "--chunk", "1", "--out", "shared"];
    let queued = submit(&house, &[&what[..], &["--attempts", "50"], &shared].concat());
    assert_eq!((&queued["images"], &queued["chunks"]), (&Value::from(12), &Value::from(12)));
    let worker = |number: usize| house.worker(&format!("worker-{number}"), &["--drain"]);
    let mut workers = [worker(0), worker(1), worker(2)];
    for number in 0..4 {
        // One dies in the midst of a chunk whenever another is done.
        let before = shards(&house, "shared");
        let victim = &mut workers[number % 3];
        until("another chunk is done", || shards(&house, "shared") > before || victim.ended());
        victim.kill();
        *victim = worker(number % 3);
    }
    for mut worker in workers {
        worker.end();
    }
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(shards(&house, "shared"), 12);
    let all = std::fs::read_dir(house.path("shared").join("data")).unwrap().count();
    assert_eq!(all, 12, "what the dead left is gone");
    let made = rows(&house, "shared");
    let names = |rows: &[OutputRow]| -> Vec<(String, String, u32)> {
        rows.iter().map(|row| (row.key.clone(), row.task.to_string(), row.sample)).collect()
    };
    assert_eq!(names(&made), names(&wanted));
    assert!(made == wanted, "the same outputs, but not the same bits");

    let jobs = house.json("scheduler", &["jobs", "--kind", "sample", "--json"]);
    let states: Vec<&Value> = jobs.as_array().unwrap().iter().map(|job| &job["state"]).collect();
    assert_eq!(states.len(), 1 + 3);
    assert!(states.iter().all(|state| **state == "succeeded"), "{jobs}");
}

/// SHA-256 of the files of a folder and of those in it, by their paths.
fn digests(house: &House, folder: &str) -> BTreeMap<String, String> {
    let files = house.files(folder).into_iter();
    files
        .map(|file| {
            let name = file.strip_prefix(house.path(folder)).unwrap().to_str().unwrap().to_owned();
            (name, storage::atomic::sha256_file(&file).unwrap().0)
        })
        .collect()
}

#[test]
fn outputs_in_an_object_store_are_those_of_a_folder_however_many_workers_die() {
    let Some(server) = Server::start() else { return };
    let mut house = House::new();
    house.set(server.environment());
    house.trained();
    let what = ["--run", "trained@5", "--dataset", "data", "--task", "inpainting:center", "--png"];
    let what = [&what[..], &["--steps", "25", "--chunk", "2"]].concat();
    let folder = house.path("a folder");
    let address = format!("file://{}", folder.display().to_string().replace(' ', "%20"));
    let queued = submit(&house, &[&what[..], &["--out", &address]].concat());
    assert_eq!(queued["out"], folder.to_str().unwrap());
    house.ok("scheduler", &["worker", "--drain"]);
    assert!(!house.path("file:").exists(), "the outputs are in two places");

    let shared = ["--attempts", "50", "--workers", "3", "--out", "s3://laboratory/outputs"];
    submit(&house, &[&what[..], &shared].concat());
    let done = || server.digests("outputs/data/").len();
    let worker = |number: usize| house.worker(&format!("worker-{number}"), &["--drain"]);
    let mut workers = [worker(0), worker(1), worker(2)];
    for (number, victim) in workers.iter_mut().enumerate() {
        // One dies in the midst of a chunk whenever another is done.
        let before = done();
        until("another chunk is done", || done() != before || victim.ended());
        victim.kill();
        *victim = worker(number);
    }
    for mut worker in workers {
        worker.end();
    }
    house.ok("scheduler", &["worker", "--drain"]);
    let jobs = house.json("scheduler", &["jobs", "--kind", "sample", "--json"]);
    let states: Vec<&Value> = jobs.as_array().unwrap().iter().map(|job| &job["state"]).collect();
    assert_eq!(states.len(), 1 + 3);
    assert!(states.iter().all(|state| **state == "succeeded"), "{jobs}");

    let (mut here, mut there) = (digests(&house, "a folder"), server.digests("outputs/"));
    // These name the job and the place.
    for file in ["job.json", "manifest.json"] {
        assert!(here.remove(file).is_some() && there.remove(file).is_some(), "no {file}");
    }
    assert_eq!(here.len(), 6 + 12 + 2, "shards, pictures, the pages of the sheet: {here:?}");
    assert_eq!(here, there);
}

#[test]
fn places_that_cannot_take_the_outputs_are_refused_when_submitting_or_end_the_job() {
    let house = House::new();
    house.trained();
    let base = ["--run", "trained@5", "--dataset", "data", "--task", "jpeg:10", "--steps", "2"];
    let base = [&base[..], &["--count", "2"]].concat();
    let with = |more: &[&str]| submit(&house, &[&base[..], more].concat());
    with(&["--key", "mine", "--out", "taken"]);
    house.ok("scheduler", &["worker", "--drain"]);
    std::fs::write(house.path("file"), "").unwrap();
    for (out, word) in [
        ("taken", "holds the outputs of job"),
        ("data", "holds another dataset"),
        ("file/in", "cannot be used"),
        ("s3://laboratory", "the prefix is missing"),
        ("ftp://laboratory/out", "`ftp://` is not known"),
    ] {
        let output = house.run("sampler", &[&["submit"], &base[..], &["--out", out]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{out}: {stderr}");
        assert!(stderr.contains(word), "{out}: `{word}` is not in: {stderr}");
    }
    // Of a shared database a worker writes there, as another user.
    let shared = house.url() + "&application_name=elsewhere";
    let mut elsewhere = house.command("sampler", &[&["submit"], &base[..]].concat());
    run_ok(elsewhere.args(["--out", "file/in"]).env("DATABASE_URL", &shared));
    let mut elsewhere = house.command("sampler", &[&["submit"], &base[..]].concat());
    elsewhere.args(["--out", "taken"]).env("DATABASE_URL", &shared);
    assert!(failed(&mut elsewhere, 2).contains("holds the outputs of job"));
    let again = with(&["--key", "mine", "--out", "taken"]);
    assert_eq!(again["existed"], true);

    // What comes between ends the job at once: it would fail the next time as well.
    let queued = with(&["--key", "first", "--out", "late"]);
    assert!(!house.path("late").exists(), "the worker makes it");
    let refused = |more: &[&str]| {
        house.fails(2, "sampler", &[&["submit"], &base[..], &["--out", "late"], more].concat())
    };
    let job = queued["job"].as_str().unwrap();
    for more in [&[][..], &["--key", "second"]] {
        let said = refused(more);
        assert!(
            said.contains(&format!("job {job} (queued) already writes its outputs to")),
            "{said}"
        );
        assert!(said.contains("say --key \"first\" to get that job"), "{said}");
    }
    house.ok("scheduler", &["pause", job]);
    assert!(refused(&[]).contains("(paused) already writes"));
    house.ok("scheduler", &["resume", job]);
    assert_eq!(with(&["--key", "first", "--out", "late"])["existed"], true);
    std::fs::create_dir_all(house.path("late")).unwrap();
    std::fs::copy(house.path("taken/job.json"), house.path("late/job.json")).unwrap();
    assert!(!house.run("scheduler", &["worker", "--drain"]).status.success());
    assert!(reason(&house, &queued).contains("holds the outputs of job"));
    let shown = house.json("scheduler", &["show", queued["job"].as_str().unwrap(), "--json"]);
    assert_eq!(shown["job"]["attempts_used"], 1, "{shown}");
}

#[test]
fn a_folder_of_pictures_a_list_and_a_range_with_the_weights_of_a_folder() {
    let house = House::new();
    let checkpoint = house.trained();
    let names = house.files("scenes");
    let name = |number: usize| names[number].file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::write(house.path("list.txt"), format!("{}\n{}\n{}\n", name(4), name(2), name(7)))
        .unwrap();
    let common =
        ["--checkpoint", &checkpoint, "--task", "jpeg:10", "--process", "ddim", "--steps", "2"];
    let with = |more: &[&str]| submit(&house, &[&common[..], more].concat());
    with(&["--dataset", "scenes", "--out", "folder"]);
    with(&["--dataset", "data", "--list", "list.txt", "--out", "list"]);
    with(&["--dataset", "scenes", "--list", "list.txt", "--rows", "1..3", "--out", "both"]);
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(rows(&house, "folder").len(), 12);
    let file = |row: &OutputRow| row.key.rsplit('/').next().unwrap().to_owned();
    let listed: Vec<String> = rows(&house, "list").iter().map(file).collect();
    assert_eq!(listed, [name(4), name(2), name(7)]);
    let both: Vec<String> = rows(&house, "both").iter().map(file).collect();
    assert_eq!(both, [name(2), name(7)]);

    for (arguments, words) in [
        (vec!["--rows", "3..20"], vec!["--rows", "12"]),
        (vec!["--rows", "three"], vec!["FROM..TO"]),
        (vec!["--list", "none.txt"], vec!["none.txt"]),
        (vec!["--task", "uncropping:right-half"], vec!["was trained for", "uncropping"]),
        (vec!["--process", "euler"], vec!["'euler' for '--process", "dpmpp-2m-sde"]),
    ] {
        let base = ["submit", "--dataset", "data", "--out", "refused", "--checkpoint", &checkpoint];
        let mut all = base.to_vec();
        if !arguments.contains(&"--task") {
            all.extend(["--task", "jpeg:10"]);
        }
        all.extend(&arguments);
        let output = house.run("sampler", &all);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{arguments:?}: `{word}` is not in: {stderr}");
        }
    }
}

/// The reason that the only failed job gives.
fn reason(house: &House, job: &Value) -> String {
    let shown = house.json("scheduler", &["show", job["job"].as_str().unwrap(), "--json"]);
    assert_eq!(shown["job"]["state"], "failed", "{shown}");
    shown["job"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn what_changed_since_a_job_was_queued_is_said_and_nothing_is_made() {
    let house = House::new();
    let checkpoint = house.trained();
    let base = ["--task", "inpainting:center", "--steps", "2", "--process", "ddim"];
    let with = |more: &[&str]| submit(&house, &[&base[..], more].concat());
    house.ok("pipeline", &["cut", "data", "--rows", "0..6", "--out", "cut"]);
    let changed = with(&["--run", "trained@5", "--dataset", "cut", "--out", "changed"]);
    let digest = with(&["--checkpoint", &checkpoint, "--dataset", "data", "--out", "digest"]);
    // Masks are read when they are wanted: one of them marks nothing.
    std::fs::create_dir(house.path("masks")).unwrap();
    let empty = image::GrayImage::new(32, 32);
    empty.save(house.path("masks").join("nothing.png")).unwrap();
    let masks = house.path("masks").join("nothing.png");
    let mask = with(&[
        "--run",
        "trained@0",
        "--dataset",
        "data",
        "--out",
        "mask",
        "--masks",
        masks.to_str().unwrap(),
    ]);
    // Masks that are other ones by then: a file, and a folder of them.
    let full = image::GrayImage::from_pixel(32, 32, image::Luma([255]));
    let half =
        image::GrayImage::from_fn(32, 32, |x, _| image::Luma([if x < 16 { 255 } else { 0 }]));
    std::fs::create_dir(house.path("many")).unwrap();
    half.save(house.path("one.png")).unwrap();
    half.save(house.path("many").join("a.png")).unwrap();
    let run = ["--run", "trained@5", "--dataset", "data", "--out"];
    let one = with(&[&run[..], &["one", "--masks", "one.png"]].concat());
    let many = with(&[&run[..], &["many-out", "--masks", "many"]].concat());
    full.save(house.path("one.png")).unwrap();
    half.save(house.path("many").join("b.png")).unwrap();
    house.ok("pipeline", &["cut", "data", "--rows", "3..9", "--out", "cut", "--overwrite"]);
    let state = PathBuf::from(&checkpoint).join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(
        &state,
        text.replace("\"seed\": 5", "\"seed\": 6").replace("\"seed\":5", "\"seed\":6"),
    )
    .unwrap();
    assert_ne!(std::fs::read_to_string(&state).unwrap(), text);
    let drained = house.run("scheduler", &["worker", "--drain"]);
    assert!(String::from_utf8_lossy(&drained.stderr).contains("5 of 5 jobs failed"));

    let reasons = [reason(&house, &changed), reason(&house, &digest), reason(&house, &mask)];
    assert!(reasons[0].contains("cut has changed since the job was queued"), "{}", reasons[0]);
    assert!(reasons[1].contains("is not the checkpoint that it was"), "{}", reasons[1]);
    assert!(reasons[2].contains("marks nothing"), "{}", reasons[2]);
    for (job, masks) in [(one, "one.png"), (many, "many")] {
        let reason = reason(&house, &job);
        assert!(
            reason.contains(&format!("{masks} have changed since the job was queued")),
            "{reason}"
        );
    }
    for out in ["changed", "digest", "mask", "one", "many-out"] {
        assert_eq!(shards(&house, out), 0);
    }
}

/// What `job.json` of a folder of outputs says.
fn origin(house: &House, out: &str) -> Value {
    serde_json::from_slice(&std::fs::read(house.path(out).join("job.json")).unwrap()).unwrap()
}

/// As where the first attempt had a GPU and the second has none.
#[test]
fn the_precision_of_a_job_is_decided_once() {
    let house = House::new();
    house.trained();
    let runs = house.json("scheduler", &["runs", "--json"]);
    let run = house.json("scheduler", &["show", runs[0]["short"].as_str().unwrap(), "--json"]);
    if testkit::test_device() == "cpu" {
        assert_eq!(run["run"]["run"]["device"], "cpu");
    }
    let what = ["--run", "trained@5", "--dataset", "data", "--task", "jpeg:5", "--steps", "2"];
    let with = |out: &str, more: &[&str]| {
        submit(&house, &[&what[..], &["--count", "2", "--any-task", "--out", out], more].concat())
    };
    with("first", &["--precision", "fp32"]);
    house.ok("scheduler", &["worker", "--drain"]);
    let mut begun = origin(&house, "first");
    assert_eq!((&begun["precision"], &begun["version"]), (&"fp32".into(), &1.into()));

    let queued = with("second", &[]);
    let job = house.json("scheduler", &["show", queued["job"].as_str().unwrap(), "--json"]);
    begun["job"] = job["job"]["id"].clone();
    begun["precision"] = "bf16".into();
    begun["asked"]["out"] = queued["out"].clone();
    std::fs::create_dir_all(house.path("second")).unwrap();
    std::fs::write(house.path("second/job.json"), begun.to_string()).unwrap();
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(origin(&house, "second")["precision"], "bf16");
    let [first, second] = ["first", "second"].map(|out| rows(&house, out));
    assert_eq!(first.len(), second.len());
    assert!(first.iter().zip(&second).any(|(one, other)| one.output != other.output));
}

#[test]
fn outputs_of_a_later_version_are_left_alone_and_the_job_is_not_tried_again() {
    let house = House::new();
    house.trained();
    let what = ["--run", "trained@5", "--dataset", "data", "--task", "colorization"];
    let queued = submit(&house, &[&what[..], &["--steps", "2", "--out", "later"]].concat());
    std::fs::create_dir_all(house.path("later")).unwrap();
    std::fs::write(house.path("later/job.json"), r#"{"job": "x", "version": 2}"#).unwrap();
    house.run("scheduler", &["worker", "--drain"]);
    let reason = reason(&house, &queued);
    assert!(reason.contains("has version 2") && reason.contains("update sampler"), "{reason}");
    let shown = house.json("scheduler", &["show", queued["job"].as_str().unwrap(), "--json"]);
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shards(&house, "later"), 0);
}

#[test]
fn two_evaluations_of_one_task_are_two_sets_of_outputs() {
    let house = House::new();
    house.trained();
    let what = ["--run", "trained@5", "--dataset", "data", "--steps", "2", "--count", "2"];
    let tasks = ["--task", "jpeg:5", "--task", "jpeg:20"];
    submit(&house, &[&what[..], &tasks, &["--png", "--out", "both"]].concat());
    house.ok("scheduler", &["worker", "--drain"]);
    let made = rows(&house, "both");
    let told: Vec<String> = made.iter().map(|row| row.task.to_string()).collect();
    assert_eq!(told, ["jpeg:5", "jpeg:20", "jpeg:5", "jpeg:20"]);
    for row in &made {
        let folder = row.task.to_string().replace(':', "-");
        let file = house.path("both").join(format!("png/{folder}/0/{}.png", row.key));
        assert!(std::fs::read(&file).unwrap() == row.output, "{}", file.display());
    }
    assert!(made[0].source != made[1].source, "of another quality");

    let masks = ["--task", "inpainting:center", "--task", "inpainting:free-form-10-20"];
    let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([255; 3]));
    picture.save(house.path("mask.png")).unwrap();
    for (tasks, says) in [
        (&["--task", "jpeg:5", "--task", "jpeg:5"][..], "--task jpeg:5 is there twice"),
        (&[&masks[..], &["--masks", "mask.png"]].concat(), "are the same with --masks"),
    ] {
        let refused = [&["submit"], &what[..], tasks, &["--out", "twice"]].concat();
        let said = house.fails(2, "sampler", &refused);
        assert!(said.contains(says), "{said}");
    }
}
