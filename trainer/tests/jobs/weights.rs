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
    let model = said.split("[model]").nth(1).unwrap();
    let text = std::fs::read_to_string(house.path(&house.config("on", 2))).unwrap();
    let (before, rest) = text.split_once("[model]").unwrap();
    let after = rest.split_once("[diffusion]").unwrap().1;
    let text = format!("{before}[model]\n{model}\n[diffusion]{after}");
    std::fs::write(house.path("on.toml"), text).unwrap();
    let sets = ["--set", "data.image_size=32", "--set", "train.init=theirs"];
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
        assert_eq!(theirs["model"], ours["model"], "{format}");
    }
}
