//! What a run does on the way: looking changes nothing, a lost loss is no silent spiral, every way of
//! computing trains.

use testkit::House;

#[test]
fn looking_on_the_way_changes_nothing_and_leaves_pictures_and_numbers() {
    let house = House::new();
    house.dataset(16);
    let plain = house.config("plain", 12);
    house.ok("trainer", &["run", &plain]);
    let looked = house.config("looked", 12);
    house.ok(
        "trainer",
        &[
            "run",
            &looked,
            "--set",
            "train.validation={ dataset = \"data\", images = 6, every = 4 }",
            "--set",
            "train.preview={ images = 3, steps = 3, every = 6 }",
            "--set",
            "train.checkpoint.best_by=validation/loss",
        ],
    );
    assert_eq!(house.digests("plain", 12), house.digests("looked", 12));

    let series = |name: &str| {
        let points = house.json("scheduler", &["metrics", "looked", "--name", name, "--json"]);
        let steps = points.as_array().unwrap().iter();
        steps
            .map(|point| (point["step"].as_u64().unwrap(), point["value"].as_f64().unwrap()))
            .collect::<Vec<_>>()
    };
    let validation = series("validation/loss");
    assert_eq!(validation.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 8, 12]);
    assert!(validation.iter().all(|(_, loss)| loss.is_finite() && *loss > 0.0));
    for name in
        ["loss/colorization", "noise/0", "noise/4", "gradient_norm", "waiting", "peak_memory"]
    {
        assert!(series(name).iter().all(|(_, value)| value.is_finite()), "{name}");
        assert!(!series(name).is_empty(), "{name} was not recorded");
    }

    let all = house.json("scheduler", &["checkpoints", "looked", "--json"]);
    let last = all.as_array().unwrap().last().unwrap().clone();
    let run = std::path::Path::new(last["uri"].as_str().unwrap()).parent().unwrap().to_owned();
    for step in [6, 12] {
        let picture = std::fs::read(run.join(format!("previews/step-{step:08}.png"))).unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
    }
    assert!(last["metrics"]["validation/loss"].as_f64().is_some(), "{last}");
}

#[test]
fn previews_of_many_images_are_pages_that_can_be_looked_at() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("many", 1);
    let preview = "train.preview={ images = 24, steps = 1, every = 1 }";
    house.ok("trainer", &["run", &config, "--set", preview]);
    let pages = house
        .files("home")
        .into_iter()
        .filter(|file| file.parent().is_some_and(|folder| folder.ends_with("previews")));
    let pages: Vec<_> = pages.collect();
    let names: Vec<_> = pages.iter().map(|page| page.file_name().unwrap()).collect();
    assert_eq!(names, ["step-00000001-2.png", "step-00000001-3.png", "step-00000001.png"]);
    for page in &pages {
        let (_, height) = image::image_dimensions(page).unwrap();
        assert!(height <= 1600, "{}: {height}", page.display());
    }
}

/// A watch that takes any fluctuation for an explosion.
#[test]
fn a_loss_that_explodes_goes_back_twice_and_fails_with_the_reason() {
    let house = House::new();
    house.dataset(16);
    let config = house.config("lost", 2000);
    let arguments = [
        "run",
        &config,
        "--set",
        "train.learning_rate=1e-9",
        "--set",
        "train.watch.explode=1.0001",
        "--set",
        "train.checkpoint={ every = 5000, initial = true }",
    ];
    let output = house.run("trainer", &arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for words in [
        "the loss exploded",
        "at γ",
        "going back to step 0, with other noise (1 of 2)",
        "going back to step 0, with other noise (2 of 2)",
    ] {
        assert!(stderr.contains(words), "`{words}` is not in {stderr}");
    }
    let last = stderr.lines().last().unwrap();
    assert!(last.contains("went back to step 0 2 times to no avail"), "{last}");
    // Other noise: the three stretches do not explode at the same loss.
    let medians: Vec<&str> =
        stderr.lines().filter_map(|line| line.split("50 steps is ").nth(1)).collect();
    assert!(medians.len() == 3 && medians[0] != medians[1], "{medians:?}");
    let rewinds = house.json("scheduler", &["metrics", "lost", "--name", "rewinds", "--json"]);
    assert_eq!(rewinds[0]["value"], 2.0);
    let jobs = house.json("scheduler", &["jobs", "--json"]);
    assert_eq!(jobs[0]["state"], "failed");
    assert!(jobs[0].to_string().contains("exploded"), "{}", jobs[0]);
}

#[test]
fn every_way_of_computing_trains() {
    let house = House::new();
    house.dataset(8);
    let ways: [(&str, &[&str]); 7] = [
        ("half", &["train.precision=bf16", "train.recompute=true"]),
        ("chosen", &["train.precision=auto"]),
        ("exact", &["train.precision=tf32", "train.deterministic=true"]),
        ("wide", &["data.image_size=[16, 24]", "model.attention_kind=local"]),
        ("dilated", &["model.attention_kind=dilated", "train.ema_warmup=true"]),
        ("deeper", &["model.attention_kind=more_blocks", "diffusion.weighting=min_snr"]),
        ("baseline", &["diffusion.kind=regression", "diffusion.loss=l1", "model.patch=2"]),
    ];
    for (name, sets) in ways {
        let config = house.config(name, 3);
        let mut arguments = vec!["run", config.as_str(), "--set", "data.image_size=16"];
        if name == "baseline" {
            arguments.extend(["--set", "model.attention=[4]"]);
        }
        for set in sets {
            arguments.extend(["--set", set]);
        }
        house.ok("trainer", &arguments);
        let runs = house.json("scheduler", &["runs", "--json"]);
        assert_eq!((&runs[0]["name"], &runs[0]["last_step"]), (&name.into(), &3.into()), "{runs}");
    }
}

#[test]
fn wrong_values_are_refused_with_their_key() {
    let house = House::new();
    house.dataset(4);
    let config = house.config("wrong", 10);
    for (set, word) in [
        ("train.ema=[]", "train.ema"),
        ("train.ema=1.0", "train.ema"),
        ("train.precision=fp16", "bf16"),
        ("train.deterministic=1", "train.deterministic"),
        ("train.validation={ dataset = \"data\", every = 0 }", "train.validation.every"),
        ("train.preview={ every = 5, images = 0 }", "train.preview.images"),
        ("train.watch.explode=0.5", "train.watch.explode"),
        ("model.attention_kind=everywhere", "more_blocks"),
        ("data.image_size=[16, 17]", "multiples of 2"),
        ("train.validation={ dataset = \"nowhere\", every = 5 }", "train.validation.dataset"),
        ("train.preview={ dataset = \"nowhere\", every = 5 }", "train.preview.dataset"),
    ] {
        let output = house.run("trainer", &["submit", &config, "--set", set]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{set}: {stderr}");
        assert!(stderr.contains(word), "{set}: `{word}` is not in: {stderr}");
    }
    // Weights to begin with are looked at before anything is recorded, too.
    let output = house.run("trainer", &["run", &config, "--set", "train.init=nowhere"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("train.init") && stderr.contains("nowhere"), "{stderr}");
}
