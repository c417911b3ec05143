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

/// What `trainer bench` says of few steps on the CPU, each process with one thread.
fn steps(house: &House, config: &str, more: &[&str]) -> serde_json::Value {
    let quick = ["bench", config, "--seconds", "0", "--device", "cpu", "--threads", "1", "--json"];
    house.json("trainer", &[&quick[..], more].concat())
}

#[test]
fn steps_of_several_ranks_are_measured() {
    let house = House::new();
    house.dataset(8);
    let config = house.config("ranks", 100);
    let more = ["--ranks", "2", "--batches", "3,4", "--warmup", "1", "--dataset", "data"];
    let said = steps(&house, &config, &more);
    for (size, batch) in said["sizes"].as_array().unwrap().iter().zip([3, 4]) {
        assert_eq!((&size["batch"], &size["ranks"]), (&batch.into(), &2.into()), "{size}");
        assert!(size["collective_seconds"].as_f64() > Some(0.0), "{size}");
        assert!(size["stages"]["collectives"].as_f64() > Some(0.0), "{size}");
        assert!(size["waiting"].as_f64().is_some(), "{size}");
        assert!(size["loss"].as_f64() > Some(0.0), "{size}");
    }
    let quick = ["bench", &config, "--seconds", "0", "--device", "cpu", "--ranks", "2"];
    let table = house.ok("trainer", &quick);
    assert!(table.contains("collectives") && table.contains(" %)"), "{table}");
    // One rank is as no ranks.
    let one = steps(&house, &config, &["--ranks", "1", "--batch", "2"]);
    assert_eq!((one.get("ranks"), one.get("collective_seconds")), (None, None), "{one}");
    assert_eq!(one["stages"].get("collectives"), None, "{one}");
}

/// With `train.shares` the measured steps are those of one process, to the bit; several ranks make two steps more
/// before they measure. The state that they keep is whole.
#[test]
fn the_measured_steps_of_several_ranks_are_those_of_one() {
    let house = House::new();
    let config = house.config("shared", 100);
    let fixed = ["--batch", "4", "--set", "train.shares=2"];
    let run = |more: &[&str]| steps(&house, &config, &[&fixed[..], more].concat());
    let alone = run(&["--warmup", "3", "--checkpoint", "alone"]);
    let two = run(&["--warmup", "1", "--ranks", "2", "--checkpoint", "two"]);
    let sharded = run(&["--warmup", "1", "--ranks", "2", "--set", "train.shard_optimizer=true"]);
    for other in [&two, &sharded] {
        assert_eq!((&alone["steps"], &alone["loss"]), (&other["steps"], &other["loss"]), "{other}");
    }
    let weights = |folder: &str| {
        std::fs::read(house.path(folder).join("step-00000006/model.safetensors")).unwrap()
    };
    assert_eq!(weights("alone"), weights("two"));
}

/// What `trainer check` says of weights, buffers of gradients, moments and averages is what the tensors of a rank take.
#[test]
fn the_state_of_a_rank_takes_what_check_says() {
    let house = House::new();
    let config = house.config("state", 100);
    for (ranks, shares, sharded) in
        [("1", 0, false), ("1", 8, false), ("2", 0, true), ("2", 2, false), ("2", 8, true)]
    {
        let sets = [
            "train.batch_size=8".to_owned(),
            "train.device=cpu".to_owned(),
            "train.ema=[0.9, 0.5]".to_owned(),
            format!("train.shares={shares}"),
            format!("train.shard_optimizer={sharded}"),
        ];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let more = ["--ranks", ranks];
        let check = ["check", &config, "--json"];
        let check = house.json("trainer", &[&check[..], &more, &sets].concat());
        let bench = [&more[..], &["--batch", "8", "--warmup", "1"], &sets].concat();
        let bench = steps(&house, &config, &bench);
        let what = format!("{ranks} ranks, {shares} shares, {sharded}: {check} {bench}");
        let said = |part: &str| check["memory"][part].as_u64().unwrap();
        let held = |part: &str| bench["state_memory"][part].as_u64().unwrap();
        assert_eq!(said("weights"), held("weights"), "{what}");
        // Losses and the like ride along behind the gradients.
        let buffers = held("gradients").abs_diff(said("gradients"));
        assert!(buffers < said("gradients") / 100, "{what}");
        let (said, held) = (said("moments") + said("averages"), held("moments") + held("averages"));
        match sharded {
            false => assert_eq!(said, held, "{what}"),
            // Whole tensors are divided: up to one more than half.
            true => {
                let saved = check["sharding_saves_bytes"].as_u64().unwrap();
                assert!(
                    held <= said
                        && said + saved == 4 * check["memory"]["weights"].as_u64().unwrap(),
                    "{what}"
                );
                assert!(saved > 0, "{what}");
            }
        }
        assert_eq!(bench["predicted_memory_bytes"], check["training_bytes"], "{what}");
    }
}

#[test]
fn collectives_are_checked_and_measured() {
    let house = House::new();
    for (ranks, link) in [("1", 0.0), ("2", 1.0), ("3", 4.0 / 3.0)] {
        let said = house.json(
            "trainer",
            &[
                "collectives",
                "--ranks",
                ranks,
                "--megabytes",
                "1,2",
                "--seconds",
                "0",
                "--device",
                "cpu",
                "--json",
            ],
        );
        assert_eq!((&said["correct"], &said["backend"]), (&true.into(), &"gloo".into()), "{said}");
        let sizes = said["sizes"].as_array().unwrap();
        assert_eq!(sizes.len(), 6);
        for one in sizes {
            assert!(
                one["seconds"].as_f64() > Some(0.0) && one["rounds"].as_u64() >= Some(5),
                "{one}"
            );
        }
        let sum = &sizes[0];
        assert_eq!(sum["operation"], "sum");
        let number = |key: &str| sum[key].as_f64().unwrap();
        let of_link = number("bus_bytes_per_second") / number("bytes_per_second");
        assert!((of_link - link).abs() < 1e-9, "{sum}");
    }
    let table = house
        .ok("trainer", &["collectives", "--megabytes", "1", "--seconds", "0", "--device", "cpu"]);
    assert!(
        table.contains("exchange and gather") && table.contains("1 rank, cpu, gloo"),
        "{table}"
    );
}

/// Ranks that something else started, as `srun` and `torchrun` do, measure together; the first one reports.
#[test]
fn ranks_of_others_measure_together() {
    let house = House::new();
    let config = house.config("outside", 100);
    let bench = ["bench", config.as_str(), "--seconds", "0", "--warmup", "1", "--batch", "2"];
    let collectives = ["collectives", "--seconds", "0", "--megabytes", "1"];
    for arguments in [&bench[..], &collectives] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started: Vec<_> = ["0", "1"]
            .map(|rank| {
                let mut command = house.command("trainer", arguments);
                command.args(["--device", "cpu", "--json"]);
                command.env("MASTER_PORT", port.to_string()).env("MASTER_ADDR", "127.0.0.1");
                command.env("RANK", rank).env("WORLD_SIZE", "2").env("LOCAL_RANK", rank);
                command.env("LOCAL_WORLD_SIZE", "2");
                command.stdout(std::process::Stdio::piped()).spawn().unwrap()
            })
            .into();
        let outputs: Vec<_> =
            started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
        let said: serde_json::Value = serde_json::from_slice(&outputs[0].stdout).unwrap();
        assert_eq!(said["ranks"], 2, "{said}");
        assert!(outputs[1].stdout.is_empty());
    }
}

#[test]
fn ranks_that_cannot_be_measured_are_refused() {
    let house = House::new();
    let config = house.config("refused", 100);
    let bench = |more: &[&'static str]| -> Vec<&str> { [&["bench", &config][..], more].concat() };
    for (arguments, word) in [
        (bench(&["--ranks", "2", "--exact", "4"]), "--exact"),
        (bench(&["--ranks", "5", "--batch", "4", "--device", "cpu"]), "train.batch_size = 4"),
        (bench(&["--ranks", "2", "--device", "cuda:0"]), "--device cuda:0"),
        (
            bench(&["--ranks", "3", "--batch", "4", "--set", "train.shares=4", "--device", "cpu"]),
            "train.shares",
        ),
        (vec!["collectives", "--ranks", "0"], "--ranks"),
        (vec!["collectives", "--ranks", "2", "--device", "cuda:1"], "--device cuda:1"),
        (vec!["collectives", "--megabytes", "0"], "--megabytes"),
        (vec!["collectives", "--seconds", "nan"], "seconds from 0 to 86400"),
        (bench(&["--seconds=-1"]), "seconds from 0 to 86400"),
    ] {
        let output = house.run("trainer", &arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "`{word}` is not in {stderr}");
    }
    let mut command = house.command("trainer", &["collectives", "--ranks", "2"]);
    let output =
        command.env("WORLD_SIZE", "2").env("RANK", "0").env("MASTER_ADDR", "a").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("leave --ranks out"), "{stderr}");
}
