//! Names that several have, and what people write on jobs, runs and sweeps.

use registry::{JobState, NewJob, NewRun, NewSweep};
use serde_json::json;
use testkit::text;

use crate::database::{job, row, set_up, state, submit};

#[test]
fn a_job_called_like_anothers_id_never_takes_its_place() {
    let (house, runtime, db) = set_up();
    let held = |name: &str| NewJob { held: true, ..job(name) };
    let meant = submit(&runtime, &db, held("meant"));
    let namesake = submit(&runtime, &db, held(&meant.short));
    house.ok("scheduler", &["cancel", &meant.short]);
    assert_eq!(state(&runtime, &db, &meant), JobState::Cancelled);
    assert_eq!(state(&runtime, &db, &namesake), JobState::Paused);
}

#[test]
fn where_several_have_a_name_the_newest_is_read_and_none_is_changed() {
    let (house, runtime, db) = set_up();
    let held = |name: &str| NewJob { held: true, ..job(name) };
    let old = submit(&runtime, &db, held("demo"));
    let new = submit(&runtime, &db, held("demo"));
    let shown = house.run("scheduler", &["show", "demo"]);
    assert!(text(&shown.stdout).contains(&new.short), "{}", text(&shown.stdout));
    let said = text(&shown.stderr);
    let wanted = format!(
        "warning: 2 jobs are called `demo`: took the newest, {} (others: {})\n",
        new.short, old.short
    );
    assert_eq!(said, wanted);
    let other = submit(&runtime, &db, held("other"));
    for arguments in [
        &["cancel", "other", "demo"][..],
        &["pause", "demo"],
        &["resume", "demo"],
        &["retry", "demo"],
        &["priority", "3", "demo"],
        &["rename", "demo", "x"],
        &["tag", "demo", "x"],
        &["note", "demo", "x"],
        &["archive", "demo"],
    ] {
        let error = house.fails(1, "scheduler", arguments);
        let wanted = format!("2 jobs are called `demo` ({}, {})", new.short, old.short);
        assert!(error.contains(&wanted), "{arguments:?}: {error}");
    }
    assert_eq!(
        state(&runtime, &db, &other),
        JobState::Paused,
        "nothing is done where one is refused"
    );
    let swapped = testkit::failed(&mut house.command("scheduler", &["priority", "other", "3"]), 2);
    assert!(swapped.contains("the number comes first, then the jobs"), "{swapped}");
}

#[test]
fn what_is_written_on_a_job_is_shown_and_lists_leave_out_what_is_archived() {
    let (house, runtime, db) = set_up();
    let demo = submit(&runtime, &db, job("demo"));
    house.ok("scheduler", &["rename", "demo", "first"]);
    house.ok("scheduler", &["tag", "first", "paper", "night"]);
    let tags = house.ok("scheduler", &["tag", "first", "night", "--remove"]);
    assert_eq!(tags, format!("job {} first: tags paper\n", demo.short));
    house.ok("scheduler", &["note", "first", "with", "the new schedule"]);
    let error = house.fails(1, "scheduler", &["archive", "first"]);
    assert!(error.contains(&format!("job {} is queued", demo.short)), "{error}");
    house.ok("scheduler", &["cancel", "first"]);
    house.ok("scheduler", &["archive", "first"]);
    assert!(!house.ok("scheduler", &["jobs"]).contains(&demo.short));
    for listed in [&["jobs", "--archived"][..], &["jobs", "--all"]] {
        let listed = house.ok("scheduler", listed);
        assert!(listed.contains(&demo.short) && listed.contains("archived"), "{listed}");
    }
    let story = house.ok("scheduler", &["show", "first"]);
    for wanted in ["tags         paper", "note         with the new schedule", "archived     2"] {
        assert!(story.contains(wanted), "{wanted}: {story}");
    }
    house.ok("scheduler", &["unarchive", "first"]);
    assert!(house.ok("scheduler", &["jobs"]).contains(&demo.short));
    house.ok("scheduler", &["note", "first", "--remove"]);
    assert_eq!(row(&runtime, &db, &demo).note, None);
    assert!(house.fails(2, "scheduler", &["rename", "first", "two words"]).contains("no spaces"));
}

#[test]
fn a_job_waits_for_all_jobs_of_a_sweep_and_for_local_time() {
    let (house, runtime, db) = set_up();
    let run = |n: i32| {
        let new = NewRun {
            name: format!("grid-{n}"),
            experiment: None,
            config: json!({}),
            seed: 0,
            total_steps: 10,
            uri: Some("/runs/x".into()),
            under: None,
            best_metric: "loss".into(),
            git_revision: None,
            datasets: Vec::new(),
            fork: None,
            job: job("grid"),
        };
        (new, json!({ "n": n }))
    };
    let new = NewSweep {
        name: "grid".into(),
        owner: "ann".into(),
        submit_key: None,
        at_most: None,
        runs: (1..=3).map(run).collect(),
    };
    let made = runtime.block_on(db.submit_sweep(new)).unwrap();
    let ids: Vec<_> = made.runs.iter().map(|run| run.job.id).collect();
    // Summer time, within a year from now.
    let now = time::OffsetDateTime::now_utc();
    let year = if now.month() < time::Month::July { now.year() } else { now.year() + 1 };
    let moment = format!("{year}-07-01T18:00");
    let arguments = [
        "submit",
        "evaluate",
        "--name",
        "scores",
        "--after",
        &made.sweep.short,
        "--not-before",
        &moment,
        "--json",
        "--",
        "--outputs",
        "x",
    ];
    let mut submit = house.command("scheduler", &arguments);
    let output = submit.env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3").output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let moment = format!("not before {year}-07-01 18:00 CEST ({year}-07-01 16:00 UTC)\n");
    assert!(said.starts_with(&moment), "{said}");
    let job = runtime.block_on(db.find_job("scores")).unwrap();
    assert_eq!(job.run_after.to_string(), format!("{year}-07-01 16:00:00.0 +00:00:00"));
    let parents = runtime.block_on(db.parents(job.id)).unwrap();
    assert_eq!(parents.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
    let mut wrong = house.command("scheduler", &arguments);
    let refused = testkit::failed(wrong.env("TZ", "Nowhere/Town"), 2);
    assert!(refused.contains("local time") && refused.contains("TZ"), "{refused}");
}
