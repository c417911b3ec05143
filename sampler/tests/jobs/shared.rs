//! `sampler run` by several processes: the bits of one, and none of them stays behind.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::{House, Process, alive, text, until};

use crate::pictures::{hole, photo, run};

/// A house with a checkpoint, of which one thread computes, and a folder of pictures of several sizes.
fn house() -> (House, String) {
    let mut house = House::new();
    house.set([("OMP_NUM_THREADS", "1")]);
    let checkpoint = house.trained();
    std::fs::create_dir(house.path("photos")).unwrap();
    for (name, width, height) in [("a", 16, 16), ("b", 24, 17), ("d", 16, 16), ("e", 16, 16)] {
        photo(width, height).save(house.path("photos").join(format!("{name}.png"))).unwrap();
    }
    (house, checkpoint)
}

/// The files of a folder of outputs.
fn files(house: &House, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let files = house.files(folder).into_iter();
    files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

/// The processes that a command started.
fn helpers(of: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    children.unwrap_or_default().split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn several_processes_make_the_bits_of_one() {
    let (house, checkpoint) = house();
    std::fs::write(house.path("photos/c.jpg"), b"\xff\xd8\xff no picture").unwrap();
    let base = ["--input", "photos", "--task", "jpeg", "--samples", "3", "--json"];
    let made = |out: &str, more: &[&str]| {
        let output =
            house.run("sampler", &run(&checkpoint, &[&base[..], &["--out", out], more].concat()));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        // One picture is said once, whoever was given its samples.
        assert_eq!(said.matches("c.jpg").count(), 1, "{said}");
        assert!(said.contains("1 of 5 pictures could not be restored"), "{said}");
        assert!(said.contains("sampling: 24/24 steps"), "{said}");
        let mut made: Value = serde_json::from_slice(&output.stdout).unwrap();
        for one in made.as_array_mut().unwrap() {
            let path = one["output"].as_str().unwrap().to_owned();
            assert!(house.path(&path).is_file(), "{path}");
            one["output"] = path.rsplit('/').next().unwrap().into();
        }
        made
    };
    let wanted = made("one", &[]);
    assert_eq!(wanted.as_array().unwrap().len(), 4 * 3);
    for count in ["2", "3"] {
        assert_eq!(made(count, &["--processes", count]), wanted);
        assert!(files(&house, count) == files(&house, "one"), "other bits with {count} processes");
    }
}

#[test]
fn panoramas_recordings_and_masks_are_those_of_one_process() {
    let (house, checkpoint) = house();
    hole(16, 16).save(house.path("mask.png")).unwrap();
    let inpainting = ["--task", "inpainting", "--mask", "mask.png"];
    let inpainting = [&inpainting[..], &["--save-process", "strip", "--samples", "2"]].concat();
    let sides = ["--extend", "right=1.5", "--extend", "up=1.1"];
    let uncropping = [&["--task", "uncropping", "--any-task"], &sides[..]].concat();
    std::fs::remove_file(house.path("photos/b.png")).unwrap();
    for (name, more) in [("holes", inpainting), ("panoramas", uncropping)] {
        let both = ["1", "2"].map(|count| {
            let out = format!("{name}-{count}");
            let base = ["--input", "photos", "--out", &out, "--processes", count];
            house.ok("sampler", &run(&checkpoint, &[&base[..], &more].concat()));
            files(&house, &out)
        });
        assert!(!both[0].is_empty() && both[0] == both[1], "{name}");
    }
}

/// A command of two processes that works long, when both are at it.
fn long(house: &House, checkpoint: &str, out: &str) -> (Process, Vec<i32>) {
    let more = ["--input", "photos", "--task", "jpeg", "--processes", "2", "--samples", "900"];
    let more = [&run(checkpoint, &more)[..], &["--batch", "1", "--out", out]].concat();
    let process = house.start(&format!("{out}.log"), house.command("sampler", &more));
    let made = || house.path(out).is_dir() && house.files(out).len() > 4;
    until("outputs are made", made);
    let found = helpers(process.id());
    assert_eq!(found.len(), 2, "{}", process.said());
    (process, found)
}

#[test]
fn a_killed_process_ends_all_and_the_same_command_goes_on() {
    let (house, checkpoint) = house();
    let (mut process, helpers) = long(&house, &checkpoint, "out");
    kill(Pid::from_raw(helpers[1]), Signal::SIGKILL).unwrap();
    assert_eq!(process.end(), Some(1), "{}", process.said());
    let said = process.said();
    assert!(said.contains("process 2 of 2 (process "), "{said}");
    assert!(said.contains("was killed by SIGKILL") && said.contains("--skip-existing"), "{said}");
    until("no process stays", || helpers.iter().all(|id| !alive(&id.to_string())));
    // Every output that is there is whole; two of each are asked for, so that it ends soon.
    let there = files(&house, "out");
    let few = ["--input", "photos", "--task", "jpeg", "--processes", "2", "--samples", "2"];
    let few = [&few[..], &["--out", "out", "--skip-existing"]].concat();
    house.ok("sampler", &run(&checkpoint, &few));
    let now = files(&house, "out");
    assert!(there.iter().all(|(name, bytes)| now.get(name) == Some(bytes)), "others than before");
    for name in ["a", "b", "d", "e"] {
        assert!(now.contains_key(&format!("{name}-2.png")), "{name}");
    }
}

#[test]
fn processes_end_with_the_command_that_started_them() {
    let (house, checkpoint) = house();
    for how in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let (mut process, helpers) = long(&house, &checkpoint, how.as_str());
        // A stopped one could not end by itself.
        kill(Pid::from_raw(helpers[0]), Signal::SIGSTOP).unwrap();
        process.signal(how);
        assert_eq!(process.end(), None, "{}", process.said());
        until("no process stays", || helpers.iter().all(|id| !alive(&id.to_string())));
    }
}

#[test]
fn the_error_of_a_process_is_that_of_the_command() {
    let (house, checkpoint) = house();
    // The second output finds a folder in its place.
    std::fs::create_dir_all(house.path("out/d-2.png")).unwrap();
    let more = ["--input", "photos", "--out", "out", "--task", "jpeg", "--samples", "2"];
    let fails = |processes: &str| {
        let more = [&more[..], &["--overwrite", "--processes", processes]].concat();
        house.fails(2, "sampler", &run(&checkpoint, &more))
    };
    let (alone, said) = (fails("1"), fails("2"));
    assert!(alone.contains("error: out/d-2.png: is a folder"), "{alone}");
    assert!(said.contains(" of 2: out/d-2.png: is a folder"), "{said}");

    if testkit::test_device() == "cpu" {
        for gpus in ["1", "2", "all"] {
            let more = ["--input", "photos", "--task", "jpeg", "--gpus", gpus];
            let said = house.fails(2, "sampler", &run(&checkpoint, &more));
            assert!(said.contains(&format!("--gpus {gpus}: ")), "{said}");
        }
    }
    let more = ["--input", "photos", "--task", "jpeg", "--gpus", "0"];
    let output = house.run("sampler", &run(&checkpoint, &more));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`all`, or a number from 1 to 1024"), "{said}");
}
