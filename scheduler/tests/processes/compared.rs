//! What people read of metrics and scores: tables, at equal steps, with what is noise and what is lost.

use registry::{Database, NewJob, NewRun, NewSweep, SubmittedSweep, Uuid};
use serde_json::{Value, json};
use testkit::House;
use tokio::runtime::Runtime;

use crate::database::{job, set_up};

fn new_run(name: &str, seed: i64) -> NewRun {
    NewRun {
        name: name.into(),
        experiment: Some("demo".into()),
        config: json!({"seed": seed, "init": null, "tasks": []}),
        seed,
        total_steps: 100,
        uri: Some(format!("/runs/{name}")),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: Vec::new(),
        fork: None,
        job: NewJob { owner: "ann".into(), ..job(name) },
    }
}

/// Records a series, as an attempt would; the last value is what the run has now.
fn record(house: &House, run: Uuid, name: &str, values: &[(i64, f64)]) {
    let last = values.last().map_or(0, |(step, _)| *step);
    let json = |value: f64| if value.is_finite() { value.to_string() } else { "null".to_owned() };
    let (first, latest) = (json(values[0].1), json(values[values.len() - 1].1));
    let rows: Vec<String> =
        values.iter().map(|(step, value)| format!("({step}, '{value}'::float8)")).collect();
    let rows = rows.join(", ");
    house.sql(&format!(
        "with made as (insert into series (run_id, name) values ('{run}', '{name}') returning id)
         insert into metrics (series_id, step, attempt, value)
         select id, step, 1, value from made, (values {rows}) as points (step, value)"
    ));
    house.sql(&format!(
        "update runs set last_step = greatest(last_step, {last}),
             initial = initial || '{{\"{name}\": {first}}}', latest = latest || '{{\"{name}\": {latest}}}'
         where id = '{run}'"
    ));
}

/// A loss with noise around a level.
fn noisy(last: i64, level: f64) -> Vec<(i64, f64)> {
    (1..=last).map(|step| (step, level + if step % 2 == 0 { 0.01 } else { -0.01 })).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn evaluate(runtime: &Runtime, db: &Database, run: Uuid, step: i64, fid: f64) {
    let new = registry::NewEvaluation {
        run_id: Some(run),
        step: Some(step),
        label: format!("colorization@{step}"),
        task: Some("colorization".into()),
        outputs_uri: "/out".into(),
        reference_uri: None,
        scores: json!({
            "outputs": 24, "inputs": 6, "psnr": null,
            "fid": { "value": fid, "low": fid - 1.0, "high": fid + 1.0 },
            "depends": { "size": 256 },
        }),
    };
    runtime.block_on(db.record_evaluation(&new)).unwrap();
}

#[test]
fn runs_are_compared_at_equal_steps_and_noise_is_called_noise() {
    let (house, runtime, db) = set_up();
    let create =
        |name: &str, seed| runtime.block_on(db.create_run(new_run(name, seed))).unwrap().run;
    let (a, b) = (create("first", 1), create("second", 2));
    record(&house, a.id, "loss", &noisy(100, 0.5));
    record(&house, b.id, "loss", &noisy(200, 0.501));
    record(&house, a.id, "grad_norm", &noisy(100, 1.0));
    record(&house, b.id, "grad_norm", &noisy(200, 2.0));
    record(&house, a.id, "validation/loss", &[(50, 0.4), (100, 0.3)]);
    record(&house, b.id, "validation/loss", &[(50, 0.4), (100, f64::NAN)]);
    record(&house, b.id, "late", &[(200, 1.0)]);
    for (run, step, fid) in [(a.id, 50, 30.0), (a.id, 100, 9.0), (b.id, 50, 31.0)] {
        evaluate(&runtime, &db, run, step, fid);
    }
    let text = house.ok("scheduler", &["diff", "first", "second"]);
    let shown = lines(&text);
    for wanted in [
        "grad_norm 91 to 100 1.0000 ± 0.0075 2.0000 ± 0.0075 differs",
        "loss 91 to 100 0.5000 ± 0.0075 0.5010 ± 0.0075 within noise",
        "validation/loss 100 0.3000 lost lost",
        "late none of both - - -",
        "loss 0.5100 (step 100) 0.5110 (step 200)",
        "colorization colorization fid 50 30.0000 ± 1.0000 31.0000 ± 1.0000 within noise",
        "step 100 is the last that both have; means of the last tenth of the steps up to there, ± half the interval \
         of 95 %",
    ] {
        assert!(shown.iter().any(|line| line == wanted), "{wanted}:\n{text}");
    }
    for raw in ["{", "nan", "NaN", "null", "[]"] {
        assert!(!text.contains(raw), "{raw}:\n{text}");
    }
    let diff = house.json("scheduler", &["diff", "first", "second", "--json"]);
    let loss = diff["metrics"].as_array().unwrap().iter().find(|pair| pair["name"] == "loss");
    let loss = loss.unwrap();
    assert_eq!((&loss["verdict"], &loss["steps"]), (&json!("within_noise"), &json!([91, 100])));

    let story = house.ok("scheduler", &["show", "second"]);
    let shown = lines(&story);
    for wanted in [
        "metric first latest",
        "validation/loss 0.4000 lost",
        "colorization colorization 50 24 fid 31.0000 ± 1.0000",
    ] {
        assert!(shown.iter().any(|line| line == wanted), "{wanted}:\n{story}");
    }
    for raw in ["{", "nan", "null"] {
        assert!(!story.contains(raw), "{raw}:\n{story}");
    }
}

#[test]
fn a_metric_or_a_name_that_is_not_there_is_an_error_that_names_the_nearest() {
    let (house, runtime, db) = set_up();
    let run = runtime.block_on(db.create_run(new_run("demo", 1))).unwrap().run;
    record(&house, run.id, "loss", &noisy(10, 0.5));
    for (arguments, says) in [
        (&["metrics", "demo", "--name", "los"][..], "no metric `los`; did you mean `loss`?"),
        (&["metrics", "demo", "--name", "los", "--json"], "did you mean `loss`?"),
        (&["runs", "--sort", "lss"], "no metric `lss`; did you mean `loss`?"),
        (&["show", "dmo"], "no job or run `dmo`; did you mean `demo`?"),
        (&["diff", "demo", "demmo"], "no run `demmo`; did you mean `demo`?"),
        (&["cancel", "demo1"], "no job or sweep `demo1`; did you mean `demo`?"),
        (&["sweep", "demo"], "no sweep `demo`"),
    ] {
        let error = house.fails(1, "scheduler", arguments);
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    let listed = house.ok("scheduler", &["runs", "--sort", "loss"]);
    assert!(listed.contains("demo"), "{listed}");
}

fn sweep(runtime: &Runtime, db: &Database, points: &[(f64, i64)]) -> SubmittedSweep {
    let run = |(at, (rate, seed)): (usize, &(f64, i64))| {
        let point = json!({"train.learning_rate": rate, "seed": seed});
        (new_run(&format!("grid-{}", at + 1), *seed), point)
    };
    let new = NewSweep {
        name: "grid".into(),
        owner: "ann".into(),
        submit_key: None,
        at_most: None,
        runs: points.iter().enumerate().map(run).collect(),
    };
    runtime.block_on(db.submit_sweep(new)).unwrap()
}

#[test]
fn a_sweep_is_sorted_by_the_validation_of_ema_weights_over_its_seeds() {
    let (house, runtime, db) = set_up();
    let points = [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2), (0.3, 1)];
    let runs = sweep(&runtime, &db, &points).runs;
    // By the raw loss the first rate would be the best.
    for (made, (loss, validation)) in
        runs.iter().zip([(0.1, 0.5), (0.1, 0.7), (0.3, 0.1), (0.3, 0.3), (0.2, f64::NAN)])
    {
        record(&house, made.run.id, "loss", &noisy(100, loss));
        record(&house, made.run.id, "validation/loss", &[(50, 0.9), (100, validation)]);
    }
    let text = house.ok("scheduler", &["sweep", "grid"]);
    let shown = lines(&text);
    let ids = |at: usize| format!("{} {}", runs[at].run.short, runs[at + 1].run.short);
    let wanted = [
        "job train.learning_rate seeds state step validation/loss".to_owned(),
        format!("{} 0.2 2 queued 100/100 0.2000 ± 0.1414 best", ids(2)),
        format!("{} 0.1 2 queued 100/100 0.6000 ± 0.1414", ids(0)),
        format!("{} 0.3 1 queued 100/100 lost", runs[4].run.short),
    ];
    assert_eq!(shown[1..5], wanted, "{text}");
    assert!(shown[5].contains("measured with its EMA weights"), "{text}");
    let by_loss = house.ok("scheduler", &["sweep", "grid", "--by", "loss"]);
    assert!(lines(&by_loss)[2].starts_with(&ids(0)), "{by_loss}");
    assert!(by_loss.contains("the raw training loss, which EMA does not touch"), "{by_loss}");
    let error = house.fails(1, "scheduler", &["sweep", "grid", "--by", "validation/los"]);
    assert!(error.contains("did you mean `validation/loss`"), "{error}");
    let story: Value = house.json("scheduler", &["sweep", "grid", "--json"]);
    assert_eq!(
        (&story["by"], &story["rows"][0]["best"]),
        (&json!("validation/loss"), &json!(true))
    );
    assert_eq!(story["points"].as_array().unwrap().len(), 5);
}
