//! GPUs as workers hand them out: real workers and children, the real crate for NVML, and a stand-in for
//! the driver behind it.

use std::collections::BTreeSet;

use registry::{Database, GpuCount, Job, JobState, NewJob};
use serde_json::json;
use testkit::gpus::Driver;
use testkit::{House, Process, Signal, separate, until};
use tokio::runtime::Runtime;

use crate::database::{self, set_up, state, submit};

/// Writes what it sees of GPUs and stays until it is asked to stop or to fail.
const SHOWS: &str = r#"trap 'exit 75' TERM
me=${PALETTE_ATTEMPT%%:*}
echo "${CUDA_VISIBLE_DEVICES-not set}" > "$HOUSE/new-$me"
mv "$HOUSE/new-$me" "$HOUSE/gpus-$me"
while :; do
    test -e "$HOUSE/end-$me" && exit 0
    test -e "$HOUSE/fail-$me" && rm "$HOUSE/fail-$me" "$HOUSE/gpus-$me" && exit 1
    sleep 0.02
done"#;

/// A UUID that no other test has, nor another checkout's: what one worker of this host holds, no other
/// gets.
fn uuid(test: &str, number: u32) -> String {
    format!("GPU-{test}-{}-{number}", std::process::id())
}

fn cards(test: &str, states: &[&str]) -> String {
    (1..)
        .zip(states)
        .map(|(number, state)| {
            let uuid = uuid(test, number);
            format!("{state} {uuid} 00000000:0{number}:00.0 85899345920 NVIDIA H100\n")
        })
        .collect()
}

/// The UUIDs of a list with commas, in any order.
fn set(gpus: &str) -> BTreeSet<String> {
    gpus.split(',').map(str::to_owned).collect()
}

fn worker(house: &House, driver: &Driver, report: &str, arguments: &[&str]) -> Process {
    let mut command = house.command("scheduler", &["worker", "--poll", "0.1"]);
    command
        .args(arguments)
        .env("PALETTE_NVML", driver.library())
        .env("PALETTE_GPU_SECONDS", "1")
        .env_remove("CUDA_VISIBLE_DEVICES");
    house.start(report, command)
}

fn job(name: &str, gpus: &str) -> NewJob {
    let gpus: GpuCount = gpus.parse().unwrap();
    NewJob { gpus, ..database::job(name) }
}

/// What a job sees of GPUs, once it runs.
fn seen(house: &House, job: &Job) -> String {
    let name = format!("gpus-{}", job.id);
    until(&format!("{} runs", job.name), || house.path(&name).exists());
    house.read(&name).trim_end().to_owned()
}

/// What the first worker offers.
fn offered(house: &House) -> BTreeSet<String> {
    let workers: serde_json::Value = house.json("scheduler", &["workers", "--json"]);
    serde_json::from_value(workers[0]["gpu_uuids"].clone()).unwrap()
}

fn tell(house: &House, job: &Job, what: &str) {
    std::fs::write(house.path(&format!("{what}-{}", job.id)), "").unwrap();
}

fn has_ended(runtime: &Runtime, db: &Database, job: &Job) {
    until("it has ended", || state(runtime, db, job) == JobState::Succeeded);
}

#[test]
fn a_job_sees_the_gpus_that_it_was_given_and_no_other() {
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    let driver = Driver::new(&cards("sees", &["ok", "ok", "ok"]));
    let submit = |name, gpus| submit(&runtime, &db, job(name, gpus));
    let none = submit("none", "0");
    let _worker = worker(&house, &driver, "report", &["--slots", "6"]);
    assert_eq!(seen(&house, &none), "", "CUDA takes an empty value as no GPU");
    let one = submit("one", "1");
    let all: BTreeSet<String> = (1..=3).map(|number| uuid("sees", number)).collect();
    let first = seen(&house, &one);
    assert!(all.contains(&first), "{first}");
    let several = submit("several", "1..4");
    let others = seen(&house, &several);
    let left: BTreeSet<String> = all.iter().filter(|it| **it != first).cloned().collect();
    assert_eq!(set(&others), left, "as many as are free");
    let if_free = submit("if-free", "0..1");
    assert_eq!(seen(&house, &if_free), "", "none is free, and it does not wait");
    let waits = submit("waits", "1");
    assert!(house.ok("scheduler", &["show", "waits"]).contains("waits for a free worker"));

    let show = house.ok("scheduler", &["show", "several"]);
    assert!(show.contains("needs        1..4 gpus"), "{show}");
    assert!(show.contains(&format!("gpus {others}")), "{show}");
    let show = house.ok("scheduler", &["show", "if-free"]);
    assert!(show.contains("needs        0..1 gpus") && show.contains("without a gpu"), "{show}");
    let row: serde_json::Value =
        serde_json::from_str(&house.ok("scheduler", &["jobs", "--name", "several", "--json"]))
            .unwrap();
    assert_eq!((&row[0]["gpus"], &row[0]["gpus_most"]), (&json!(1), &json!(4)));
    assert_eq!(offered(&house), all);

    tell(&house, &one, "end");
    assert_eq!(seen(&house, &waits), first);
    assert!(house.read("report").contains("3 gpus"), "{}", house.read("report"));
    // Too many for this worker: they wait, and it is said that nobody can do it.
    submit("many", "4");
    assert!(
        house
            .ok("scheduler", &["show", "many"])
            .contains("none of the workers that are there (1) can")
    );
}

#[test]
fn two_workers_on_a_host_hand_out_different_gpus_whatever_becomes_of_one() {
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    let driver = Driver::new(&cards("host", &["ok"]));
    let submit = |name, gpus| submit(&runtime, &db, job(name, gpus));
    let first = worker(&house, &driver, "first", &[]);
    until("the first is ready", || house.read("first").contains("at a time, 1 gpu"));
    let _second = worker(&house, &driver, "second", &[]);
    until("the second is ready", || house.read("second").contains("at a time"));
    let uuid = uuid("host", 1);
    let refused =
        format!("{uuid} (NVIDIA H100) is not handed out: another worker on this host has it");
    assert!(house.read("second").contains(&refused), "{}", house.read("second"));

    let (one, two) = (submit("one", "1"), submit("two", "1"));
    assert_eq!(seen(&house, &one), uuid);
    let anywhere = submit("anywhere", "0..1");
    assert_eq!(seen(&house, &anywhere), "", "the second worker has no GPU for it");
    tell(&house, &anywhere, "end");
    // A killed worker holds nothing; the other one finds that out by itself.
    first.signal(Signal::SIGKILL);
    until("the second has it", || house.read("second").contains("handed out from now on"));
    std::fs::remove_file(house.path(&format!("gpus-{}", one.id))).unwrap();
    tell(&house, &one, "end");
    tell(&house, &two, "end");
    assert_eq!(seen(&house, &two), uuid);
    has_ended(&runtime, &db, &one);
    has_ended(&runtime, &db, &two);
}

#[test]
fn workers_that_do_not_see_each_other_hand_out_no_gpu_twice() {
    let Some(separate) = separate(&["--net"]) else { return };
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    let driver = Driver::new(&cards("apart", &["ok"]));
    let submit = |name| submit(&runtime, &db, job(name, "1"));
    let one = submit("one");
    let _first = worker(&house, &driver, "first", &[]);
    let uuid = uuid("apart", 1);
    assert_eq!(seen(&house, &one), uuid);
    // As in another container: it sees the card, but not that the other holds it.
    let scheduler = testkit::program("scheduler");
    let line = format!("exec {separate} '{}' worker --poll 0.1", scheduler.display());
    let mut command = house.shell(&line);
    command
        .env("PALETTE_NVML", driver.library())
        .env("PALETTE_GPU_SECONDS", "1")
        .env_remove("CUDA_VISIBLE_DEVICES");
    let two = submit("two");
    let _second = house.start("second", command);
    let not_free = format!("{uuid} (NVIDIA H100) is not free: job {} of worker", one.short);
    until("it sees who has it", || house.read("second").contains(&not_free));
    let running = "select count(*) from jobs where state = 'running'";
    assert_eq!(house.sql(running).trim(), "1");
    tell(&house, &one, "end");
    assert_eq!(seen(&house, &two), uuid);
    has_ended(&runtime, &db, &one);
    assert_eq!(database::row(&runtime, &db, &two).attempts_used, 0);
}

/// Notes where it finds another job on a GPU of its own. The first two do not end before both run.
const ALONE: &str = r#"gpu=$CUDA_VISIBLE_DEVICES
mkdir "$HOUSE/on-$gpu" || echo "$gpu" >> "$HOUSE/twice"
: > "$HOUSE/started-${PALETTE_ATTEMPT%%:*}"
until set -- "$HOUSE"/started-* && test $# -ge 2; do sleep 0.02; done
rmdir "$HOUSE/on-$gpu""#;

#[test]
fn workers_of_two_containers_that_start_at_one_moment_hand_out_no_gpu_twice() {
    let Some(separate) = separate(&["--net", "--pid", "--fork", "--mount-proc", "--kill-child"])
    else {
        return;
    };
    let (house, runtime, db) = set_up();
    house.script("trainer", ALONE);
    let driver = Driver::new(&cards("moment", &["ok", "ok"]));
    let jobs: Vec<Job> =
        (0..16).map(|number| submit(&runtime, &db, job(&format!("job-{number}"), "1"))).collect();
    let scheduler = testkit::program("scheduler");
    let start = |name: &str| {
        let line = format!(
            ": > \"$0\"; until test -e go; do :; done; \
             exec '{}' worker --poll 0.1 --slots 1 --drain --name {name}",
            scheduler.display()
        );
        let ready = house.path(&format!("{name}-waits"));
        let mut command = house.shell(&format!(
            "exec {separate} sh -c '{}' {}",
            line.replace('\'', r"'\''"),
            ready.display()
        ));
        command
            .env("DATABASE_URL", house.url())
            .env("PALETTE_NVML", driver.library())
            .env("PALETTE_GPU_SECONDS", "0.2")
            .env_remove("CUDA_VISIBLE_DEVICES");
        let worker = house.start(name, command);
        until("it waits for the other", || ready.exists());
        worker
    };
    let workers = ["left", "right"].map(|name| (name, start(name)));
    std::fs::write(house.path("go"), "").unwrap();
    for (name, mut worker) in workers {
        assert_eq!(worker.end(), Some(0), "{}", house.read(name));
        // Neither sees what the other holds: it is the database that keeps them apart.
        let report = house.read(name);
        assert!(report.contains("at a time, 2 gpus"), "{report}");
        assert!(!report.contains("another worker on this host"), "{report}");
    }
    assert_eq!(house.read("twice"), "", "a GPU had two jobs at once");
    for job in &jobs {
        let row = database::row(&runtime, &db, job);
        assert_eq!((row.state, row.attempts_used), (JobState::Succeeded, 0), "{}", row.name);
    }
    let workers = "select count(distinct worker_id) from attempts
                   where outcome = 'succeeded' and gpus <> ''";
    assert_eq!(house.sql(workers).trim(), "2", "both have worked");
}

#[test]
fn a_lost_gpu_is_withdrawn_and_comes_back_when_it_answers() {
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    let driver = Driver::new(&cards("lost", &["ok", "ok"]));
    let submit = |name, gpus| submit(&runtime, &db, job(name, gpus));
    let (first, second) = (uuid("lost", 1), uuid("lost", 2));
    let (one, two) = (submit("one", "1"), submit("two", "1"));
    let _worker = worker(&house, &driver, "report", &["--slots", "4"]);
    assert_eq!(seen(&house, &one), first);
    assert_eq!(seen(&house, &two), second);

    // The job fails of it and is not tried again on the same card.
    driver.show(&cards("lost", &["lost", "ok"]));
    tell(&house, &one, "fail");
    until("it is said", || {
        house.read("report").contains(&format!("{first} (NVIDIA H100) is missing"))
            && house.read("report").contains("GPU number 0: device fell off the bus")
    });
    until("the worker offers one", || offered(&house) == BTreeSet::from([second.clone()]));
    until("the job waits again", || state(&runtime, &db, &one) == JobState::Queued);
    tell(&house, &two, "end");
    assert_eq!(seen(&house, &one), second);

    driver.show(&cards("lost", &["ok", "ok"]));
    let three = submit("three", "1");
    assert_eq!(seen(&house, &three), first);
    assert!(house.read("report").contains(&format!("{first} (NVIDIA H100) is back")));

    // One that hangs costs neither the other nor the worker's end.
    driver.show(&cards("lost", &["hang", "ok"]));
    until("it is withdrawn", || {
        let report = house.read("report");
        report.contains("GPU number 0: the driver did not answer within")
            && report.matches(&format!("{first} (NVIDIA H100) is missing")).count() >= 2
    });
    tell(&house, &one, "end");
    has_ended(&runtime, &db, &one);
    let four = submit("four", "1");
    assert_eq!(seen(&house, &four), second);
}

#[test]
fn a_worker_has_as_many_slots_as_gpus_now() {
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    // The worker is there before the driver.
    let driver = Driver::new("init 9\n");
    let submit = |name, gpus| submit(&runtime, &db, job(name, gpus));
    let slots = || {
        let workers: serde_json::Value = house.json("scheduler", &["workers", "--json"]);
        workers[0]["slots"].as_i64().unwrap()
    };
    let _worker = worker(&house, &driver, "report", &[]);
    until("it is ready", || house.read("report").contains("1 job at a time"));
    driver.show(&cards("slots", &["ok", "ok"]));
    until("it has two", || slots() == 2);
    let (one, two) = (submit("one", "0..1"), submit("two", "0..1"));
    let both = BTreeSet::from([uuid("slots", 1), uuid("slots", 2)]);
    assert_eq!(BTreeSet::from([seen(&house, &one), seen(&house, &two)]), both);
    tell(&house, &one, "end");
    tell(&house, &two, "end");
    has_ended(&runtime, &db, &one);
    has_ended(&runtime, &db, &two);

    // A job that could have had the lost one waits and is not done on the CPU.
    driver.show(&cards("slots", &["ok", "lost"]));
    until("it has one", || slots() == 1);
    let (three, four) = (submit("three", "0..1"), submit("four", "0..1"));
    assert_eq!(seen(&house, &three), uuid("slots", 1));
    assert!(house.ok("scheduler", &["show", "four"]).contains("waits for a free worker"));
    driver.show(&cards("slots", &["ok", "ok"]));
    assert_eq!(seen(&house, &four), uuid("slots", 2));
}

#[test]
fn cuda_visible_devices_of_the_worker_is_what_it_hands_out() {
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    let driver = Driver::new(&cards("visible", &["ok", "ok", "ok"]));
    let mut command = house.command("scheduler", &["worker", "--poll", "0.1", "--slots", "2"]);
    command.env("PALETTE_NVML", driver.library()).env("CUDA_VISIBLE_DEVICES", "2,-1,0");
    let _worker = house.start("report", command);
    let one = submit(&runtime, &db, job("one", "0..1"));
    assert_eq!(seen(&house, &one), uuid("visible", 3));
    let two = submit(&runtime, &db, job("two", "0..1"));
    assert_eq!(seen(&house, &two), "");
    let report = house.read("report");
    assert!(
        report.contains("CUDA_VISIBLE_DEVICES is `2,-1,0`: CUDA stops before `-1`"),
        "{report}"
    );
    let mut doctor = house.command("scheduler", &["doctor", "--json"]);
    doctor.env("PALETTE_NVML", driver.library()).env("CUDA_VISIBLE_DEVICES", "2,1");
    let found = testkit::text(&doctor.output().unwrap().stdout);
    let says = format!(
        "a worker would hand out 1 GPU that CUDA_VISIBLE_DEVICES names, driver 580.95.05: \
         {} (NVIDIA H100, 86 GB)",
        uuid("visible", 2)
    );
    assert!(found.contains(&says), "{found}");
    let says = format!(
        "a worker on this host hands out 1 GPU: {} (NVIDIA H100, 86 GB)",
        uuid("visible", 3)
    );
    assert!(found.contains(&says), "{found}");
}

#[test]
fn a_job_gets_the_smallest_gpu_that_is_big_enough() {
    let (house, runtime, db) = set_up();
    house.script("trainer", SHOWS);
    let (whole, card) = (uuid("size", 80), uuid("size", 0));
    let (bigger, smaller) =
        (format!("MIG-{}", uuid("size", 40)), format!("MIG-{}", uuid("size", 20)));
    let driver = Driver::new(&format!(
        "ok {whole} 00000000:01:00.0 85899345920 NVIDIA H100
mig {card} 00000000:02:00.0 85899345920 NVIDIA H100
part {bigger} 1 0 42949672960 NVIDIA H100 MIG 3g.40gb
part {smaller} 2 0 21474836480 NVIDIA H100 MIG 1g.20gb
"
    ));
    let gigabytes = |name, gpus, size: i64| NewJob { gpu_memory: size << 30, ..job(name, gpus) };
    let _worker = worker(&house, &driver, "report", &["--slots", "6"]);
    let any = submit(&runtime, &db, job("any", "1"));
    assert_eq!(seen(&house, &any), smaller);
    let half = submit(&runtime, &db, gigabytes("half", "0..1", 24));
    assert_eq!(seen(&house, &half), bigger);
    let big = submit(&runtime, &db, gigabytes("big", "0..1", 81));
    assert_eq!(seen(&house, &big), "", "none is so big: it runs without");
    let rest = submit(&runtime, &db, gigabytes("rest", "1..3", 24));
    assert_eq!(seen(&house, &rest), whole);
    let too_big = submit(&runtime, &db, gigabytes("too-big", "1", 81));
    let show = house.ok("scheduler", &["show", &too_big.short]);
    assert!(show.contains("none of the workers that are there (1) can do it"), "{show}");
    assert!(show.contains("needs        1 gpu with 81 GiB"), "{show}");
}

#[test]
fn a_submission_says_how_many_gpus_its_program_can_use() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let submit = |gpus: &'static [&'static str]| {
        let arguments = [&["submit", "evaluate", "--json"], gpus, &["--", "--outputs", "x"]];
        house.run("scheduler", &arguments.concat())
    };
    let refused = submit(&["--gpus", "2"]);
    let error = testkit::text(&refused.stderr);
    assert!(!refused.status.success(), "{error}");
    assert!(error.contains("--gpus 2: evaluator uses 1 GPU at most"), "{error}");
    let made = |gpus| -> (i64, i64) {
        let output = submit(gpus);
        let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |key: &str| row["job"][key].as_i64().unwrap();
        (number("gpus"), number("gpus_most"))
    };
    assert_eq!(made(&[]), (0, 1), "a GPU where one is free");
    assert_eq!(made(&["--gpus", "0..1", "--gpu-memory", "24GiB"]), (0, 1));
    assert_eq!(made(&["--gpus", "1"]), (1, 1));
    assert_eq!(made(&["--gpus", "0"]), (0, 0));
    let error = house.fails(2, "scheduler", &["submit", "ingest", "--gpus", "1", "--", "x"]);
    assert!(error.contains("pipeline uses no GPU"), "{error}");
}
