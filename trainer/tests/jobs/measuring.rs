//! `trainer bench`: what it measures, and whether a run that goes on ends with the same bits. None of it
//! needs a database.

use testkit::House;

/// Dropout and several parts a step: everything random that a step has.
const HARD: [&str; 4] = ["--set", "model.dropout=0.2", "--set", "train.micro_batch=3"];

#[test]
fn a_run_that_goes_on_from_a_checkpoint_is_exact() {
    let house = House::new();
    house.dataset(16);
    let config = house.config("exact", 100);
    let fed = ["--dataset", "data", "--set", "model.dropout=0.2"];
    for more in [&[][..], &HARD[..], &fed[..]] {
        let mut arguments =
            vec!["bench", &config, "--exact", "7", "--batch", "4", "--device", "cpu", "--json"];
        arguments.extend(more);
        let said = house.json("trainer", &arguments);
        assert_eq!(said["exact"], true, "{said}");
        assert_eq!((&said["steps"], &said["checkpoint_step"]), (&7.into(), &3.into()));
        assert_eq!(said["different"], serde_json::json!([]));
        assert_eq!(said["first_different_step"], serde_json::Value::Null);
        assert!(said["trained"].as_u64() > Some(10), "{said}");
        // Weights and one average of each, two moments of each, Adam's steps.
        let tensors = said["tensors"].as_u64().unwrap();
        assert!(tensors > 40 && tensors % 4 == 1, "{said}");
        assert!(said["loss"].as_f64().unwrap() > 0.0);
    }
    let said = house.ok("trainer", &["bench", &config, "--exact", "2", "--batch", "2"]);
    assert!(said.contains("end with the same bits"), "{said}");
}

#[test]
fn sizes_are_measured_one_after_another_with_the_loader_in_the_loop() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("measured", 100);
    let bench = |more: &[&'static str]| -> Vec<&str> {
        let quick = ["--seconds", "0", "--warmup", "1", "--device", "cpu"];
        [&["bench", &config][..], &quick, more].concat()
    };
    let said = house.json("trainer", &bench(&["--batches", "1,3", "--dataset", "data", "--json"]));
    let sizes = said["sizes"].as_array().unwrap();
    assert_eq!(sizes.len(), 2);
    for (size, batch) in sizes.iter().zip([1, 3]) {
        assert_eq!(size["batch"], batch, "{size}");
        let number = |key: &str| size[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&number("waiting")), "{size}");
        assert!(number("loss") > 0.0 && number("steps") >= 3.0);
        assert!(number("images_per_second") > 0.0 && number("predicted_memory_bytes") > 0.0);
        for stage in ["prepare", "forward", "backward", "optimizer", "ema"] {
            assert!(size["stages"][stage].as_f64() > Some(0.0), "{stage} of {size}");
        }
    }
    // One size is that size's object, and without a dataset nothing waits for one. A micro-batch that is
    // larger than the batch is the batch.
    let one =
        house.json("trainer", &bench(&["--batch", "2", "--set", "train.micro_batch=16", "--json"]));
    assert_eq!((&one["batch"], one.get("waiting")), (&2.into(), None), "{one}");
    let table = house.ok("trainer", &bench(&["--batches", "1,2"]));
    assert!(table.contains("ms a step"), "{table}");

    for (more, word) in [
        (&["--batches", "1,0"][..], "train.batch_size"),
        (&["--batches", "1", "--exact", "4"][..], "--exact"),
        (&["--exact", "1"][..], "--exact"),
    ] {
        let output = house.run("trainer", &bench(more));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word), "`{word}` is not in {stderr}");
    }
}

/// A size that does not fit into memory is a row, and the next one is measured.
#[test]
fn a_size_without_memory_is_a_row() {
    let house = House::new();
    let config = house.config("large", 100);
    // 4 GB of address space; the activations of the large size take more than that.
    let script = format!(
        "ulimit -v 4000000; exec {} bench {config} --batches 1,8000,2 --seconds 0 --warmup 1 \
         --device cpu --json",
        testkit::program("trainer").display()
    );
    let output = house.shell(&script).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = said["sizes"][1]["failed"].as_str();
    assert!(failed.is_some_and(|reason| reason.contains("out of memory")), "{said}");
    for (at, batch) in [(0, 1), (1, 8000), (2, 2)] {
        assert_eq!(said["sizes"][at]["batch"], batch, "{said}");
    }
    assert!(said["sizes"][2]["images_per_second"].as_f64() > Some(0.0), "{said}");
}
