//! Several ranks train one run: the same bits on any number of them, and none stays behind when one is lost.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::{House, Process, alive, failed, run_ok, until};

/// Everything that a state can depend on, with four shares.
const SETS: [&str; 7] = [
    "train.batch_size=8",
    "train.shares=4",
    "model.dropout=0.2",
    "train.ema=[0.9, 0.5]",
    "train.clip=1",
    "train.validation={ dataset = \"data\", images = 10, every = 10 }",
    "train.preview={ images = 2, steps = 2, every = 10 }",
];

pub fn arguments<'a>(command: &'a str, config: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![command, config];
    for set in SETS {
        arguments.extend(["--set", set]);
    }
    arguments.extend(more);
    arguments
}

/// Trains a run in the foreground with `ranks` ranks.
pub fn train(house: &House, name: &str, steps: u32, ranks: u32, more: &[&str]) {
    let config = house.config(name, steps);
    let mut arguments = arguments("run", &config, more);
    let ranks = ranks.to_string();
    arguments.extend(["--ranks", &ranks]);
    house.ok("trainer", &arguments);
}

/// The values of a metric of a run, with their steps.
fn metric(house: &House, run: &str, name: &str) -> Vec<(u64, f64)> {
    let series = house.json("scheduler", &["metrics", run, "--name", name, "--json"]);
    let point = |point: &Value| (point["step"].as_u64().unwrap(), point["value"].as_f64().unwrap());
    series.as_array().unwrap().iter().map(point).collect()
}

/// The ranks of this house that a leader or a worker started, by their processes.
pub fn ranks(house: &House) -> Vec<i32> {
    processes(house, b"rank")
}

/// The processes of this house whose first argument is this.
pub fn processes(house: &House, command: &[u8]) -> Vec<i32> {
    let home = format!("PALETTE_HOME={}", house.path("home").display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |name: &str| std::fs::read(Path::new("/proc").join(id.to_string()).join(name));
        let (Ok(line), Ok(environment)) = (read("cmdline"), read("environ")) else { continue };
        let of_house = environment.split(|byte| *byte == 0).any(|one| one == home.as_bytes());
        if of_house && line.split(|byte| *byte == 0).nth(1) == Some(command) {
            found.push(id);
        }
    }
    found
}

pub fn signal(process: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), signal).unwrap();
}

#[test]
fn any_number_of_ranks_that_divides_the_shares_trains_the_same_bits() {
    let house = House::new();
    house.dataset(16);
    train(&house, "one", 10, 1, &[]);
    let wanted = house.digests("one", 10);
    assert_eq!(wanted.as_object().unwrap().len(), 4, "two averages: {wanted}");
    for (name, ranks, more) in [
        ("two", 2, &[][..]),
        ("four", 4, &[]),
        ("two-sharded", 2, &["--set", "train.shard_optimizer=true"]),
        ("four-sharded", 4, &["--set", "train.shard_optimizer=true"]),
    ] {
        train(&house, name, 10, ranks, more);
        assert_eq!(house.digests(name, 10), wanted, "{name}");
        for value in ["loss", "loss/inpainting", "gradient_norm", "validation/loss", "noise/2"] {
            assert_eq!(metric(&house, name, value), metric(&house, "one", value), "{name} {value}");
        }
        assert!(!metric(&house, name, "collective").is_empty(), "{name}");
    }
    // One process has none.
    house.fails(1, "scheduler", &["metrics", "one", "--name", "collective"]);
    assert_eq!(ranks(&house), [0; 0]);
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let house = House::new();
    house.dataset(16);
    train(&house, "alone", 15, 1, &[]);

    let config = house.config("changing", 5);
    house.ok("trainer", &arguments("submit", &config, &["--ranks", "2"]));
    house.ok("scheduler", &["worker", "--drain"]);
    for (steps, ranks) in [("10", "1"), ("15", "4")] {
        house.ok("trainer", &["extend", "changing", "--steps", steps, "--ranks", ranks]);
        house.ok("scheduler", &["worker", "--drain"]);
    }
    assert_eq!(house.digests("changing", 15), house.digests("alone", 15));
}

#[test]
fn sums_that_begin_in_the_backward_pass_change_no_bit() {
    let mut house = House::new();
    house.dataset(16);
    for (of, sets) in [
        ("plain", &["--set", "train.shares=0"][..]),
        ("recomputed", &["--set", "train.shares=0", "--set", "train.recompute=true"]),
        ("micro", &["--set", "train.shares=0", "--set", "train.micro_batch=1"]),
    ] {
        let mut digests = Vec::new();
        for overlap in ["0", "1"] {
            house.set([("PALETTE_OVERLAP", overlap)]);
            let name = format!("{of}-{overlap}");
            train(&house, &name, 4, 4, sets);
            digests.push(house.digests(&name, 4));
        }
        assert_eq!(digests[0], digests[1], "{of}");
    }
    house.set([("PALETTE_OVERLAP", "yes")]);
    let config = house.config("wrong", 4);
    let more = ["--ranks", "2", "--set", "train.shares=0"];
    let error = failed(&mut house.command("trainer", &arguments("run", &config, &more)), 1);
    assert!(error.contains("PALETTE_OVERLAP is \"yes\""), "{error}");
}

#[test]
fn without_shares_ranks_take_slices_of_one_batch() {
    let house = House::new();
    house.dataset(16);
    for (name, ranks) in [("one", 1), ("three", 3)] {
        // Slices of 3, 3 and 2 images, in micro-batches of two.
        let sets = ["--set", "train.shares=0", "--set", "train.micro_batch=2"];
        train(&house, name, 6, ranks, &sets);
    }
    for value in ["loss", "gradient_norm", "nothing", "validation/loss"] {
        let pairs = metric(&house, "one", value).into_iter().zip(metric(&house, "three", value));
        for ((step, one), (other_step, three)) in pairs {
            assert_eq!(step, other_step);
            // Other sums round otherwise.
            assert!(
                (one - three).abs() < 1e-3 * one.abs(),
                "{value} of step {step}: {one} {three}"
            );
        }
    }
}

/// A job of two ranks under a worker, which says this line when the body is called with its rank's process.
/// Afterwards the worker has ended and the run has the bits of one left alone.
fn disturbed(line: &str, body: impl FnOnce(&House, &mut Process, i32)) -> House {
    disturbed_within(line, "120", body)
}

/// The same, where a collective may stand still for `limit` seconds.
fn disturbed_within(
    line: &str,
    limit: &str,
    body: impl FnOnce(&House, &mut Process, i32),
) -> House {
    let mut house = House::new();
    house.set([("PALETTE_COLLECTIVE_SECONDS", limit)]);
    house.dataset(16);
    train(&house, "alone", 20, 1, &[]);
    let config = house.config("disturbed", 20);
    let more = ["--ranks", "2", "--attempts", "9", "--set", "train.log_every=1"];
    house.ok("trainer", &arguments("submit", &config, &more));
    let mut worker = house.worker("worker", &["--drain", "--follow"]);
    worker.says(line);
    let [rank] = ranks(&house)[..] else { panic!("one rank beside the leader is expected") };
    body(&house, &mut worker, rank);
    if !worker.ended() {
        assert_eq!(worker.end(), Some(0), "{}", worker.said());
    }
    until("no rank stays", || ranks(&house).is_empty());
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("disturbed", 20), house.digests("alone", 20));
    assert_eq!(ranks(&house), [0; 0]);
    house
}

/// The reasons of the attempts at the run, in their order.
pub fn reasons(house: &House) -> Vec<String> {
    let reasons = house.sql(
        "select coalesce(attempts.reason, '') from attempts join jobs on jobs.id = job_id \
         where name = 'disturbed' order by number",
    );
    reasons.lines().map(str::to_owned).collect()
}

#[test]
fn a_killed_rank_ends_the_attempt_for_all_and_the_run_goes_on() {
    let house = disturbed("step 7/20", |_, _, rank| signal(rank, nix::sys::signal::SIGKILL));
    let reasons = reasons(&house);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(
        reasons[0].contains("rank 1 on ") && reasons[0].contains("was killed by SIGKILL"),
        "{reasons:?}"
    );
}

#[test]
fn a_stopped_rank_ends_the_attempt_for_all_and_the_run_goes_on() {
    let house = disturbed_within("step 7/20", "5", |_, _, rank| {
        signal(rank, nix::sys::signal::SIGSTOP);
    });
    let reasons = reasons(&house);
    assert!(reasons[0].contains("rank 1 on ") && reasons[0].contains("was stopped"), "{reasons:?}");
}

#[test]
fn ranks_end_with_their_leader() {
    let house = disturbed("step 7/20", |_, _, rank| {
        let stat = std::fs::read_to_string(format!("/proc/{rank}/stat")).unwrap();
        let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
        // A stopped rank could not end by itself.
        signal(rank, nix::sys::signal::SIGSTOP);
        signal(parent.parse().unwrap(), nix::sys::signal::SIGKILL);
        until("the rank is gone", || !alive(&rank.to_string()));
    });
    let reasons = reasons(&house);
    let named =
        reasons[0].starts_with("rank 0 on ") && reasons[0].contains("was killed by SIGKILL");
    assert!(named, "{reasons:?}");
}

#[test]
fn a_leader_that_stood_still_says_so() {
    let mut house = House::new();
    house.set([("PALETTE_COLLECTIVE_SECONDS", "4")]);
    house.dataset(16);
    let config = house.config("paused", 5000);
    let more = ["--ranks", "2", "--set", "train.log_every=1"];
    let mut rare = arguments("run", &config, &more);
    // The rank waits longer for what the leader does alone.
    for set in ["train.validation.every=5000", "train.preview.every=5000"] {
        rare.extend(["--set", set]);
    }
    let mut leader = house.start("leader", house.command("trainer", &rare));
    leader.says("step 7/5000");
    leader.signal(nix::sys::signal::Signal::SIGSTOP);
    until("the rank has waited for long enough", || ranks(&house).is_empty());
    leader.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(leader.end(), Some(1), "{}", leader.said());
    let said = leader.said();
    assert!(said.contains("error: rank 0 on ") && said.contains("stood still for"), "{said}");
}

#[test]
fn ranks_end_with_their_worker() {
    disturbed("step 7/20", |_, worker, rank| {
        worker.kill();
        until("the rank is gone", || !alive(&rank.to_string()));
    });
}

#[test]
fn ranks_stop_together_at_a_checkpoint_when_they_are_asked() {
    disturbed("step 7/20", |house, worker, _| {
        house.ok("scheduler", &["pause", "disturbed"]);
        worker.says("stopped at step");
        house.ok("scheduler", &["resume", "disturbed"]);
    });
}

#[test]
fn a_lost_loss_takes_all_ranks_back() {
    let house = House::new();
    house.dataset(16);
    let config = house.config("lost", 10);
    let mut arguments = arguments("run", &config, &["--ranks", "2"]);
    // The medians differ by the noise of the batches, so one of them is soon above the lowest.
    for set in [
        "train.learning_rate=1e-9",
        "train.watch={ explode = 1.0001, rewinds = 1 }",
        "train.checkpoint={ every = 5000, initial = true }",
        "train.steps=5000",
        "train.validation.every=5000",
        "train.preview.every=5000",
    ] {
        arguments.extend(["--set", set]);
    }
    let said = failed(&mut house.command("trainer", &arguments), 1);
    assert!(said.contains("going back to step 0, with other noise (1 of 1)"), "{said}");
    assert!(said.contains("to no avail"), "{said}");
    // Every image is named, whichever rank has it.
    assert!(!said.contains("``"), "{said}");
    until("no rank stays", || ranks(&house).is_empty());
}

/// The commands of two ranks that somebody else starts, by these variables.
fn started(house: &House, name: &str, variables: impl Fn(u32) -> Vec<(&'static str, String)>) {
    let config = house.config(name, 6);
    let arguments = arguments("run", &config, &[]);
    let mut second = house.command("trainer", &arguments);
    let second = second.envs(variables(1));
    let mut second = Process::start(second, house.path("second"));
    run_ok(house.command("trainer", &arguments).envs(variables(0)));
    assert_eq!(second.end(), Some(0), "{}", second.said());
}

/// The variables of `torchrun` for one of two ranks that meet at this port.
fn of_torchrun(rank: u32, port: &str) -> Vec<(&'static str, String)> {
    let (rank, size) = (rank.to_string(), "2".to_owned());
    vec![
        ("RANK", rank.clone()),
        ("WORLD_SIZE", size.clone()),
        ("LOCAL_RANK", rank),
        ("LOCAL_WORLD_SIZE", size),
        ("MASTER_ADDR", "127.0.0.1".to_owned()),
        ("MASTER_PORT", port.to_owned()),
    ]
}

/// A port of loopback that nobody listens on.
fn port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn a_signal_to_any_rank_that_somebody_else_started_stops_all_at_a_checkpoint() {
    let house = House::new();
    house.dataset(16);
    for asked in [0, 1] {
        let name = format!("asked-{asked}");
        let config = house.config(&name, 100_000);
        let sets =
            ["train.validation.every=100000", "train.preview.every=100000", "train.log_every=1"];
        let mut arguments = arguments("run", &config, &[]);
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let at = port();
        let mut both = [0, 1].map(|rank| {
            let mut command = house.command("trainer", &arguments);
            let command = command.envs(of_torchrun(rank, &at));
            Process::start(command, house.path(&format!("{name}-{rank}")))
        });
        until("it trains", || {
            let shown = house.command("scheduler", &["show", &name, "--json"]).output().unwrap();
            let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
            shown["run"]["run"]["last_step"].as_u64() >= Some(3)
        });
        signal(both[asked].id().cast_signed(), nix::sys::signal::Signal::SIGTERM);
        for rank in &mut both {
            assert_eq!(rank.end(), Some(75), "{}", rank.said());
        }
        let shown = house.json("scheduler", &["show", &name, "--json"]);
        assert_eq!(shown["job"]["state"], "paused", "{shown}");
        assert!(
            house.digests(&name, shown["run"]["run"]["last_step"].as_u64().unwrap()).is_object()
        );
    }
}

#[test]
fn ranks_that_torchrun_or_srun_start_train_together() {
    let house = House::new();
    house.dataset(16);
    train(&house, "alone", 6, 1, &[]);
    let at = port();
    started(&house, "torchrun", |rank| of_torchrun(rank, &at));
    let at = port();
    started(&house, "srun", |rank| {
        vec![
            ("SLURM_STEP_ID", "0".to_owned()),
            ("SLURM_JOB_ID", "77".to_owned()),
            ("SLURM_NTASKS", "2".to_owned()),
            ("SLURM_PROCID", rank.to_string()),
            ("SLURM_LOCALID", rank.to_string()),
            ("MASTER_ADDR", "localhost".to_owned()),
            ("MASTER_PORT", at.clone()),
            ("GLOO_SOCKET_IFNAME", "lo".to_owned()),
        ]
    });
    for name in ["torchrun", "srun"] {
        assert_eq!(house.digests(name, 6), house.digests("alone", 6), "{name}");
    }
}

#[test]
fn numbers_of_ranks_that_cannot_be_are_refused() {
    let house = House::new();
    house.dataset(16);
    let config = house.config("refused", 5);
    let refused = |command: &str, more: &[&str]| {
        house.fails(2, "trainer", &arguments(command, &config, more))
    };
    for more in [&["--hosts", "16"], &["--hosts", "1..16"]] {
        let error = refused("submit", more);
        assert!(error.contains("--hosts"), "{error}");
    }
    let auto = "train.device=auto";
    for gpus in ["1", "4", "0..4"] {
        let error = refused("submit", &["--ranks", "2", "--gpus", gpus, "--set", auto]);
        assert!(error.contains("each rank takes a GPU"), "{error}");
    }
    for command in ["run", "submit"] {
        let error = refused(command, &["--ranks", "3"]);
        assert!(error.contains("3 ranks and train.shares = 4"), "{error}");
        let error = refused(command, &["--ranks", "9", "--set", "train.shares=0"]);
        assert!(error.contains("9 ranks and train.batch_size = 8"), "{error}");
    }
    for shares in ["3", "16"] {
        let error = refused("submit", &["--set", &format!("train.shares={shares}")]);
        assert!(error.contains("train.shares") && error.contains("power of two"), "{error}");
    }
    let all = arguments("run", &config, &[]);
    let with = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command: Command = house.command("trainer", &all);
        failed(command.args(more).envs(variables.iter().copied()), 2)
    };
    let both = with(
        &[("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1")],
        &["--ranks", "2"],
    );
    assert!(both.contains("leave --ranks out"), "{both}");
    assert!(with(&[("WORLD_SIZE", "2")], &[]).contains("RANK is not set"));
}

#[test]
fn ranks_work_within_the_roots_of_their_worker() {
    let mut house = House::new();
    house.set([("PALETTE_TRUST_SUBMITTERS", "")]);
    house.dataset(16);
    let config = house.config("rooted", 5);
    house.ok("trainer", &arguments("submit", &config, &["--ranks", "2"]));
    let mut worker = house.worker("worker", &["--drain", "--data-root", "data"]);
    assert_eq!(worker.end(), Some(0), "{}", worker.said());
    train(&house, "alone", 5, 1, &[]);
    assert_eq!(house.digests("rooted", 5), house.digests("alone", 5));
    let shown = house.ok("scheduler", &["show", "rooted"]);
    assert!(shown.contains(", 2 ranks"), "{shown}");
    assert!(worker.said().contains("attempt 1, 2 ranks, log"), "{}", worker.said());
    house.ok("scheduler", &["logs", "rooted", "--rank", "1"]);
    let logs = house.fails(1, "scheduler", &["logs", "rooted", "--rank", "2"]);
    assert!(logs.contains("has no rank 2: its ranks are 0 to 1"), "{logs}");
}
