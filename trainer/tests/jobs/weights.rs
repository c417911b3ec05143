//! Weights that come from elsewhere and go there.

use std::path::PathBuf;

use testkit::House;

fn golden() -> Option<PathBuf> {
    Some(testkit::fixtures()?.join("golden"))
}

#[test]
fn a_user_verifies_weights_against_their_reference() {
    let Some(golden) = golden() else { return };
    let house = House::new();
    let file = |name: &str| golden.join(name).to_string_lossy().into_owned();
    let cases = [
        ("adm_small.weights.safetensors", "adm_small.io.safetensors", "adm", "16", "legacy"),
        ("adm_newattn.weights.safetensors", "adm_newattn.io.safetensors", "adm", "32", "new"),
        ("janspiry_small_Network.pth", "janspiry_small.io.safetensors", "janspiry", "16", "legacy"),
    ];
    for (weights, reference, format, heads, order) in cases {
        let (weights, reference) = (file(weights), file(reference));
        let arguments = |order| {
            vec![
                "verify",
                "--weights",
                &weights,
                "--reference",
                &reference,
                "--format",
                format,
                "--image-size",
                "32",
                "--head-channels",
                heads,
                "--attention-order",
                order,
                "--json",
            ]
        };
        let verdict = house.json("trainer", &arguments(order));
        assert_eq!(verdict["agrees"], true, "{verdict}");
        assert!(verdict["largest_difference"].as_f64().unwrap() < 1e-4);
        assert_eq!((&verdict["device"], &verdict["precision"]), (&"Cpu".into(), &"fp32".into()));
        // In bf16 it agrees to what bf16 rounds, and no better.
        let with = |more: &[&'static str]| [&arguments(order)[..], more].concat();
        let half = house.json("trainer", &with(&["--precision", "bf16"]));
        assert_eq!((&half["agrees"], &half["relative"]), (&true.into(), &true.into()), "{half}");
        assert!(half["largest_difference"].as_f64().unwrap() > 1e-3, "{half}");
        let output = house.run("trainer", &with(&["--precision", "bf16", "--tolerance", "1e-4"]));
        assert_eq!(output.status.code(), Some(1));
        // TF32 is f32 on the CPU.
        let tf32 = house.json("trainer", &with(&["--precision", "tf32"]));
        assert_eq!(tf32["compared"], verdict["compared"]);
        // The wrong order of the attention channels is another network.
        let other = if order == "new" { "legacy" } else { "new" };
        let output = house.run("trainer", &arguments(other));
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stdout).unwrap().contains("\"agrees\": false"));
    }
    let output = house.run(
        "trainer",
        &[
            "verify",
            "--weights",
            &file("extractor.pt"),
            "--reference",
            &file("adm_small.io.safetensors"),
            "--format",
            "adm",
        ],
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("TorchScript"), "{stderr}");
}

#[test]
fn imported_weights_sample_train_and_leave_again() {
    let Some(golden) = golden() else { return };
    let house = House::new();
    house.dataset(8);
    let pth = golden.join("janspiry_small_Network.pth").to_string_lossy().into_owned();
    let import = [
        "import",
        &pth,
        "--format",
        "janspiry",
        "--image-size",
        "32",
        "--head-channels",
        "16",
        "--out",
        "theirs",
    ];
    let said = house.ok("trainer", &import);
    assert!(said.contains("3,213,123 parameters") && said.contains("[model]"), "{said}");
    let again = house.run("trainer", &import);
    assert!(String::from_utf8(again.stderr).unwrap().contains("is there already"));

    // Sample with them.
    let scene = std::fs::read_dir(house.path("scenes")).unwrap().next().unwrap().unwrap().path();
    let scene = scene.to_string_lossy().into_owned();
    house.ok(
        "sampler",
        &[
            "run",
            "--checkpoint",
            "theirs",
            "--input",
            &scene,
            "--task",
            "colorization",
            "--process",
            "ddim",
            "--steps",
            "2",
            "--out",
            "restored",
        ],
    );

    // Train on from them: the configuration's [model] is the one that import printed.
    let tables = said.split("[model]").nth(1).unwrap();
    let text = std::fs::read_to_string(house.path(&house.config("on", 2))).unwrap();
    let (before, rest) = text.split_once("[model]").unwrap();
    let after = rest.split_once("[train]").unwrap().1;
    let text = format!("{before}[model]\n{tables}\n[train]{after}");
    std::fs::write(house.path("on.toml"), text).unwrap();
    let sets = ["--set", "data.image_size=32", "--set", "train.init=theirs"];
    // What differs is refused before anything is queued, unless it may.
    let other = [&sets[..], &["--set", "diffusion.prediction=y0"]].concat();
    let refused = house.fails(2, "trainer", &[&["submit", "on.toml"][..], &other].concat());
    for words in [
        "diffusion.prediction is \"epsilon\" there and \"y0\" here",
        "train.init_differs = [\"diffusion.prediction\"]",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    let allowed =
        [&other[..], &["--set", "train.init_differs=[\"diffusion.prediction\"]"]].concat();
    house.ok("trainer", &[&["check", "on.toml"][..], &allowed].concat());
    house.ok("trainer", &[&["run", "on.toml"][..], &sets].concat());
    let zero = house.json("scheduler", &["checkpoints", "on", "--json"])[0].clone();
    assert_eq!(zero["step"], 0);

    // And out again: what comes in is what went out.
    let uri = zero["uri"].as_str().unwrap();
    for format in ["janspiry", "adm"] {
        let file = format!("{format}.safetensors");
        house.ok("trainer", &["export", "--checkpoint", uri, "--format", format, "--out", &file]);
        let out = format!("again-{format}");
        house.ok(
            "trainer",
            &["import", &file, "--format", format, "--image-size", "32", "--out", &out],
        );
        let state = |folder: &str| -> serde_json::Value {
            let text = std::fs::read(house.path(folder).join("state.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (theirs, ours) = (state("theirs"), state(&out));
        assert_eq!(
            theirs["files"]["ema.safetensors"], ours["files"]["ema.safetensors"],
            "{format}"
        );
        for fact in ["model", "diffusion", "image_size"] {
            assert_eq!(theirs[fact], ours[fact], "{format}");
        }
    }
}

/// The folder of the fixtures with weights as people have them: half-precision, of one small network.
fn field() -> Option<PathBuf> {
    let field = testkit::fixtures()?.join("field/weights");
    if !field.is_dir() {
        println!("skipped: there is no {}", field.display());
        return None;
    }
    Some(field)
}

const SMALL: [&str; 6] = ["--format", "adm", "--image-size", "16", "--head-channels", "16"];

#[test]
fn wrapped_nested_and_doubled_state_dicts_come_in_as_the_plain_one() {
    let Some(field) = field() else { return };
    let house = House::new();
    let import = |file: &str, out: &str, more: &[&str]| {
        let file = field.join(file).to_string_lossy().into_owned();
        let arguments = [&["import", &file, "--out", out, "--json"][..], &SMALL, more].concat();
        house.json("trainer", &arguments)
    };
    let weights = |out: &str| std::fs::read(house.path(out).join("ema.safetensors")).unwrap();
    import("00_good.pt", "good", &[]);
    for (file, note) in [
        ("01_ddp_module_prefix.pt", "`module`"),
        ("03_lightning_model_prefix.ckpt", "`state_dict.model`"),
        ("06_state_dict_beside_a_tensor.pt", "`step`"),
    ] {
        let made = import(file, file, &[]);
        assert!(made["notes"].to_string().contains(note), "{made}");
        assert!(weights(file) == weights("good"), "{file}");
    }
    let two = "05_dit_model_and_ema.pt";
    let made = import(two, "default", &[]);
    let notes = made["notes"].to_string();
    assert!(notes.contains("the EMA was taken, `ema`") && notes.contains("`model`"), "{made}");
    import(two, "ema", &["--state-dict", "ema"]);
    import(two, "model", &["--state-dict", "model"]);
    assert!(weights("default") == weights("ema") && weights("ema") != weights("model"));
    let file = field.join(two).to_string_lossy().into_owned();
    let other = ["--out", "other", "--state-dict", "other"];
    let said = house.fails(1, "trainer", &[&["import", &file][..], &SMALL, &other].concat());
    assert!(said.contains("`other`") && said.contains("`ema`, `model`"), "{said}");
}

#[test]
fn weights_that_are_not_finite_are_named_and_refused_unless_forced() {
    let Some(field) = field() else { return };
    let house = House::new();
    let file = field.join("08_nan_weight.pt").to_string_lossy().into_owned();
    let import = [&["import", &file, "--out", "bad"][..], &SMALL].concat();
    let said = house.fails(1, "trainer", &import);
    for words in ["is not finite", "NaN", "--allow-non-finite"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!house.path("bad").exists());
    house.ok("trainer", &[&import[..], &["--allow-non-finite"]].concat());
    // And nothing takes it from there.
    let export = ["export", "--checkpoint", "bad", "--out", "bad.safetensors"];
    assert!(house.fails(1, "trainer", &export).contains("is not finite"));
    house.ok("trainer", &[&export[..], &["--allow-non-finite"]].concat());
    assert!(house.path("bad.safetensors").exists());
}

/// An export of before, which does not say that its network predicts ŷ0: told so, it is right.
#[test]
fn an_export_of_before_lists_what_is_assumed() {
    let Some(field) = field() else { return };
    let house = House::new();
    let file = field.join("14_export_of_a_y0_network.safetensors").to_string_lossy().into_owned();
    let import = |out: &str, more: &[&str]| {
        let own =
            ["import", &file, "--format", "adm", "--image-size", "32", "--out", out, "--json"];
        house.json("trainer", &[&own[..], more].concat())
    };
    let assumed = |made: &serde_json::Value| -> Vec<String> {
        let assumed = made["assumed"].as_array().unwrap().iter();
        assumed.map(|one| one["option"].as_str().unwrap().to_owned()).collect()
    };
    let made = import("assumed", &[]);
    assert_eq!(made["diffusion"]["prediction"], "epsilon");
    assert!(assumed(&made).contains(&"--prediction".to_owned()), "{made}");
    let told = import("told", &["--prediction", "y0", "--task", "jpeg", "--residual", "false"]);
    assert_eq!(told["diffusion"]["prediction"], "y0");
    assert_eq!(assumed(&told), ["--kind", "--training-schedule", "--sampling-schedule"], "{told}");
}

#[test]
fn exported_weights_carry_their_objective_and_have_the_usual_mode() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let checkpoint = house.trained();
    let said =
        house.ok("trainer", &["export", "--checkpoint", "trained", "--out", "w.safetensors"]);
    assert!(said.contains("sampler run --checkpoint w.safetensors"), "{said}");
    std::fs::write(house.path("plain"), "").unwrap();
    let mode = |file: &str| std::fs::metadata(house.path(file)).unwrap().permissions().mode();
    assert_eq!(mode("w.safetensors"), mode("plain"));

    let import = ["import", "w.safetensors", "--format", "adm", "--out", "again"];
    let made = house.json("trainer", &[&import[..], &["--json"]].concat());
    assert_eq!(made["assumed"], serde_json::json!([]), "{made}");
    assert_eq!(made["tasks"], serde_json::json!(["colorization", "inpainting", "jpeg"]));
    let state = |folder: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.join("state.json")).unwrap()).unwrap()
    };
    let (theirs, ours) = (state(PathBuf::from(checkpoint)), state(house.path("again")));
    for fact in ["model", "diffusion", "image_size", "step"] {
        assert_eq!(theirs[fact], ours[fact], "{fact}");
    }
    assert_eq!(theirs["files"]["ema.safetensors"], ours["files"]["ema.safetensors"]);
    let other = [&import[..4], &["--out", "other", "--prediction", "epsilon"]].concat();
    let said = house.fails(1, "trainer", &other);
    assert!(said.contains("says of itself") && said.contains("leave --prediction out"), "{said}");
}

#[test]
fn exporting_leaves_devices_fifos_and_links_what_they_are() {
    let house = House::new();
    house.trained();
    testkit::named::check(b"", ".safetensors", false, |path| {
        let mut command = house.command("trainer", &["export", "--checkpoint", "trained", "--out"]);
        command.arg(path);
        command
    });
}
