//! Pilots in a real Slurm: submitted, preempted, out of time, cancelled, and unable to work.

#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use testkit::{House, Slurm, until};

/// A script that says it is there and stays until it is asked to stop, then ends with status 75. What else it is asked
/// (whether it takes its arguments) it affirms.
const STAYS: &str = r#"test -n "$PALETTE_ATTEMPT" || exit 0
trap 'exit 75' TERM USR1
echo $$ >> "$HOUSE/started"
while :; do sleep 0.05; done"#;

/// Queues a job that a script in the place of `pipeline` does.
fn queue(house: &House, name: &str, options: &[&str]) {
    let mut arguments = vec!["submit", "ingest", "--name", name];
    arguments.extend(options);
    arguments.extend(["--", "photographs", "--out", "data"]);
    house.ok("scheduler", &arguments);
}

/// Submits pilots and gives the number of their job.
fn submit(house: &House, options: &[&str]) -> String {
    let mut arguments = vec!["slurm", "--submit", "--json"];
    arguments.extend(options);
    house.json("scheduler", &arguments)["submitted"]["job"].to_string()
}

fn started(house: &House) -> usize {
    house.read("started").lines().count()
}

fn state(house: &House, job: &str) -> String {
    house.json("scheduler", &["show", job, "--json"])["job"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn pilots_do_what_they_can_and_say_where_they_are() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    house.script("pipeline", "exit 0");
    for name in ["anywhere", "here"] {
        queue(&house, name, if name == "here" { &["--label", "partition=low"] } else { &[] });
    }
    queue(&house, "elsewhere", &["--label", "partition=high"]);
    for (options, status, says) in [
        (&["--partition", "nowhere"][..], 1, "Partition nowhere not found"),
        (&["--partition", "low", "--time", "25h"], 2, "partition low allows 1-00:00:00"),
    ] {
        let said = house.fails(status, "scheduler", &[&["slurm"], options].concat());
        assert!(said.contains(says), "{said}");
    }
    let script = house.ok("scheduler", &["slurm", "--partition", "low"]);
    assert!(script.contains("--grace 30\n"), "as its GraceTime: {script}");

    let output = house.path("out of %A_%a.txt");
    let output = output.to_str().unwrap();
    let array = ["--partition", "low", "--array", "2", "--at-once", "2", "--output", output];
    let rest =
        ["--cpus", "1", "--mem", "100M", "--account", "lab", "--qos", "low", "--name", "lab-x"];
    let more = ["--sbatch=--comment=\"two words\"", "--idle", "1h", "--", "--slots", "2"];
    let array = submit(&house, &[&array[..], &rest, &more].concat());
    assert_eq!(slurm.field(&house, &format!("{array}_1"), "JobName"), "lab-x");
    for task in 1..=2 {
        slurm.wait(&house, &format!("{array}_{task}"), "COMPLETED");
    }
    let said = house.read(&format!("out of {array}_1.txt"));
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(
        ["anywhere", "here", "elsewhere"].map(|job| state(&house, job)),
        ["succeeded", "succeeded", "queued"]
    );
    let workers = house.ok("scheduler", &["workers", "--all", "--json"]);
    for task in 1..=2 {
        assert!(workers.contains(&format!("\"slurm-job\": \"{array}_{task}\"")), "{workers}");
    }

    // Asked for by its partition, the last job finds its pilot.
    let pilot = submit(&house, &["--partition", "high"]);
    slurm.wait(&house, &pilot, "COMPLETED");
    assert_eq!(state(&house, "elsewhere"), "succeeded");
}

/// The steps of a run's checkpoints.
fn checkpoints(house: &House, run: &str) -> Vec<u64> {
    let all = house.json("scheduler", &["checkpoints", run, "--json"]);
    all.as_array().unwrap().iter().map(|row| row["step"].as_u64().unwrap()).collect()
}

fn restarts(slurm: &Slurm, house: &House, pilot: &str) -> u32 {
    slurm.field(house, pilot, "Restarts").parse().unwrap()
}

/// Lets a pilot train a long run, disturbs it once there is a checkpoint, and ends the run in the pilot's second start,
/// where it has gone on. A run that nothing disturbs has the same bits at that step.
fn goes_on_with_the_same_bits(
    house: &House,
    slurm: &Slurm,
    options: &[&str],
    wants: &[&str],
    disturb: impl FnOnce(),
) {
    const SETS: [&str; 4] = ["--set", "train.checkpoint.every=20", "--set", "train.shares=2"];
    house.dataset(16);
    let config = house.config("disturbed", 1_000_000);
    house.ok("trainer", &[&["submit", &config], &SETS[..], wants].concat());
    let pilot = submit(house, options);
    let last = || checkpoints(house, "disturbed").last().copied().unwrap_or(0);
    until("the run has a checkpoint", || last() > 0);
    disturb();
    until("the pilot was requeued", || restarts(slurm, house, &pilot) == 1);
    let before = last();
    until("the run has gone on", || last() > before);
    house.ok("scheduler", &["cancel", "disturbed"]);
    slurm.wait(house, &pilot, "COMPLETED");
    assert_eq!(restarts(slurm, house, &pilot), 1);
    let story = house.json("scheduler", &["show", "disturbed", "--json"]);
    assert_eq!(story["attempts"].as_array().unwrap().len(), 2, "{story}");

    let step = last();
    assert!(step > before);
    let config = house.config("alone", u32::try_from(step).unwrap());
    house.ok("trainer", &[&["submit", &config], &SETS[..]].concat());
    house.ok("scheduler", &["worker", "--drain"]);
    assert_eq!(house.digests("disturbed", step), house.digests("alone", step));
}

#[test]
fn a_preempted_pilot_is_requeued_and_its_run_goes_on_with_the_same_bits() {
    let mut house = House::new();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    let options = ["--partition", "low", "--cpus", "2"];
    goes_on_with_the_same_bits(&house, &slurm, &options, &[], || {
        let high = slurm.preempt(&house);
        slurm.wait(&house, &high, "COMPLETED");
    });
}

#[test]
fn a_pilot_that_is_out_of_time_is_requeued_and_its_run_goes_on_with_the_same_bits() {
    let mut house = House::new();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    let options = ["--partition", "low", "--time", "1m", "--grace", "5s"];
    goes_on_with_the_same_bits(&house, &slurm, &options, &[], || {});
}

#[test]
fn a_pilot_that_cannot_work_fails_and_is_not_requeued() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    house.script("pipeline", "exit 0");
    queue(&house, "waits", &[]);
    let nowhere = house.path("nowhere.env");
    let none = house.path("none.env");
    std::fs::write(&nowhere, "DATABASE_URL=postgres://nobody@127.0.0.1:1/nothing\n").unwrap();
    std::fs::write(&none, "unset DATABASE_URL\n").unwrap();
    let missing = house.path("missing.env");
    for (file, says) in [
        (nowhere, "cannot open the database"),
        (none, "DATABASE_URL is not set"),
        (missing, "No such file"),
    ] {
        let file = file.to_str().unwrap();
        let output = format!("{file}.out");
        let options = ["--partition", "low", "--environment", file, "--output", &output];
        let pilot = submit(&house, &options);
        slurm.wait(&house, &pilot, "FAILED");
        assert_eq!(restarts(&slurm, &house, &pilot), 0);
        let said = std::fs::read_to_string(&output).unwrap();
        assert!(said.contains(says), "{file}: {said}");
    }
    assert_eq!(state(&house, "waits"), "queued");
}

#[test]
fn one_task_of_an_array_is_requeued_and_the_others_work_on() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    house.script("pipeline", STAYS);
    for name in ["one", "two"] {
        queue(&house, name, &[]);
    }
    let array = submit(&house, &["--partition", "low", "--array", "2", "--cpus", "1"]);
    until("both jobs run", || started(&house) == 2);
    let tasks = [1, 2].map(|task| format!("{array}_{task}"));
    // The task whose own number is that of the array, by which Slurm's commands would take them all.
    let (same, other) = match slurm.field(&house, &tasks[0], "JobId") == array {
        true => (&tasks[0], &tasks[1]),
        false => (&tasks[1], &tasks[0]),
    };
    assert_eq!(slurm.field(&house, same, "JobId"), array);
    slurm.ok(&house, "scancel", &["--signal=TERM", same]);
    until("its job runs again", || started(&house) == 3);
    assert_eq!((restarts(&slurm, &house, same), restarts(&slurm, &house, other)), (1, 0));
}

#[test]
fn a_cancelled_pilot_stays_so_and_a_preempted_one_without_grace_comes_back() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    house.script("pipeline", STAYS);
    queue(&house, "job", &[]);
    let output = house.path("pilot");
    let output = output.to_str().unwrap();
    for (number, partition) in ["abrupt", "cut"].into_iter().enumerate() {
        let before = 2 * number;
        let options = ["--partition", partition, "--cpus", "2", "--output", output];
        let pilot = submit(&house, &options);
        until("the job runs", || started(&house) == before + 1);
        let high = slurm.preempt(&house);
        slurm.wait(&house, &high, "COMPLETED");
        until("the job runs again", || started(&house) == before + 2);
        assert_eq!(restarts(&slurm, &house, &pilot), 1, "{partition}");
        // Preempted before is not preempted now.
        slurm.ok(&house, "scancel", &[&pilot]);
        slurm.wait(&house, &pilot, "CANCELLED");
        let says = format!("work is left, but {pilot} was cancelled");
        until("the pilot says so", || house.read("pilot").contains(&says));
        until("the job is queued", || state(&house, "job") == "queued");
        assert_eq!(slurm.field(&house, &pilot, "JobState"), "CANCELLED");
        assert_eq!(restarts(&slurm, &house, &pilot), 1, "{partition}");
    }
}

#[test]
fn a_pilot_is_requeued_as_often_as_it_was_told() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::start(&mut house) else { return };
    house.script("pipeline", STAYS);
    queue(&house, "job", &[]);
    let output = house.path("pilot");
    let output = output.to_str().unwrap();
    let options = ["--partition", "low", "--restarts", "1", "--output", output];
    let pilot = submit(&house, &options);
    for start in 1..=2 {
        until("the job runs", || started(&house) == start);
        slurm.ok(&house, "scancel", &["--signal=USR1", &pilot]);
    }
    slurm.wait(&house, &pilot, "FAILED");
    assert_eq!(slurm.field(&house, &pilot, "ExitCode"), "75:0");
    assert_eq!(restarts(&slurm, &house, &pilot), 1);
    let said = house.read("pilot");
    assert!(said.contains("it was started again 1 times"), "{said}");
    assert_eq!(state(&house, "job"), "queued");
}

#[test]
fn a_pilot_of_two_hosts_has_a_worker_on_each_and_is_requeued_as_one() {
    let mut house = House::with_scripts();
    let Some(slurm) = Slurm::with_hosts(&mut house, 2) else { return };
    house.script("pipeline", STAYS);
    for node in ["n1", "n2"] {
        queue(&house, node, &["--label", &format!("node={node}")]);
    }
    let output = house.path("pilot");
    let options = ["--partition", "low", "--nodes", "2", "--output", output.to_str().unwrap()];
    let pilot = submit(&house, &options);
    until("both jobs run", || started(&house) == 2);
    slurm.ok(&house, "scancel", &["--signal=TERM", &pilot]);
    until("both jobs run again", || started(&house) == 4);
    assert_eq!(restarts(&slurm, &house, &pilot), 1);
    for node in ["n1", "n2"] {
        house.ok("scheduler", &["cancel", node]);
    }
    slurm.wait(&house, &pilot, "COMPLETED");
    assert_eq!(restarts(&slurm, &house, &pilot), 1);
}

#[test]
fn a_run_on_two_hosts_is_stopped_with_its_pilot_and_goes_on_with_the_same_bits() {
    if testkit::separate(&["--uts"]).is_none() {
        return;
    }
    let mut house = House::new();
    house.set([("PALETTE_ADDRESS", "127.0.0.1")]);
    let Some(slurm) = Slurm::with_hosts(&mut house, 2) else { return };
    let output = house.path("pilot");
    let options = ["--partition", "low", "--nodes", "2", "--cpus", "1", "--output"];
    let options = [&options[..], &[output.to_str().unwrap()]].concat();
    goes_on_with_the_same_bits(&house, &slurm, &options, &["--hosts", "2"], || {
        slurm.ok(&house, "scancel", &["--signal=TERM", "-p", "low"]);
    });
    // Each attempt had one worker on each node.
    let hosts = house.sql(
        "select least(attempts.host, seats.host), greatest(attempts.host, seats.host), seats.ranks \
         from attempts join seats on seats.job_id = attempts.job_id and seats.attempt = attempts.number \
         order by attempts.number",
    );
    assert_eq!(hosts.trim(), "n1|n2|1\nn1|n2|1", "{}", house.read("pilot"));
}
