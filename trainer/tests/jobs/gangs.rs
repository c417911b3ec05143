//! One run on several hosts: workers of other hosts take seats in an attempt, and what befalls one of them ends the
//! attempt for all. Hosts are name spaces of this machine with names of their own.

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{House, Process, until};

use super::ranks::{arguments, processes, ranks, reasons, signal, train};

/// A house whose hosts reach each other, with a dataset; none where hosts cannot be told apart here.
fn house() -> Option<House> {
    testkit::separate(&["--uts"])?;
    let mut house = House::new();
    house.set([("PALETTE_ADDRESS", "127.0.0.1"), ("PALETTE_GATHER_SECONDS", "60")]);
    house.dataset(16);
    Some(house)
}

/// A worker of a host of this name, which ends when nothing is left.
fn worker(house: &House, host: &str) -> Process {
    worker_that(house, host, "--drain")
}

fn worker_that(house: &House, host: &str, ends: &str) -> Process {
    let scheduler = testkit::program("scheduler");
    let line = format!(
        "exec unshare --uts sh -c 'hostname {host} && exec \"{}\" worker --poll 0.1 {ends} --follow --name {host}'",
        scheduler.display()
    );
    house.start(host, house.shell(&line))
}

fn submit(house: &House, name: &str, more: &[&str]) {
    submit_long(house, name, 20, more);
}

fn submit_long(house: &House, name: &str, steps: u32, more: &[&str]) {
    let config = house.config(name, steps);
    let steps = ["--attempts", "99", "--set", "train.log_every=1"];
    house.ok("trainer", &arguments("submit", &config, &[&steps, more].concat()));
}

fn ended(mut workers: Vec<Process>) {
    for worker in &mut workers {
        assert_eq!(worker.end(), Some(0), "{}", worker.said());
    }
}

/// The hosts that took part in the attempts at a run, beside that of the attempt.
fn seats(house: &House) -> Vec<String> {
    let rows = house.sql(
        "select seats.attempt || ' ' || seats.host || ' ' || ranks from seats \
         where host is not null order by attempt, number",
    );
    rows.lines().map(str::to_owned).collect()
}

#[test]
fn hosts_train_the_bits_of_one_process() {
    let Some(house) = house() else { return };
    train(&house, "alone", 20, 1, &[]);
    // Two hosts with two ranks each.
    submit(&house, "disturbed", &["--hosts", "2", "--ranks", "2"]);
    ended(vec![worker(&house, "alpha"), worker(&house, "beta")]);
    assert_eq!(house.digests("disturbed", 20), house.digests("alone", 20));
    assert_eq!(reasons(&house), [""]);
    let seats = seats(&house);
    assert!(matches!(seats.as_slice(), [one] if one.ends_with("a 2")), "{seats:?}");
    assert_eq!(ranks(&house), [0; 0]);
    // Who took part is shown.
    let shown = house.ok("scheduler", &["show", "disturbed"]);
    assert!(shown.contains("alpha") && shown.contains("beta"), "{shown}");
    let shown = house.json("scheduler", &["show", "disturbed", "--json"]);
    assert!(shown.to_string().contains("\"seats\":[{"), "{shown}");
}

/// A run on two hosts, whose workers say this line when the body is called; afterwards it has the bits of one left
/// alone. The body gets the worker of the attempt and that of the seat.
fn disturbed(line: &str, body: impl FnOnce(&House, &mut Process, &mut Process)) -> Option<House> {
    disturbed_with("1", line, body)
}

/// The same, with this number of ranks on each host.
fn disturbed_with(
    ranks_of_host: &str,
    line: &str,
    body: impl FnOnce(&House, &mut Process, &mut Process),
) -> Option<House> {
    let house = house()?;
    train(&house, "alone", 20, 1, &[]);
    submit(&house, "disturbed", &["--hosts", "2", "--ranks", ranks_of_host]);
    let mut pair = [worker(&house, "alpha"), worker(&house, "beta")];
    until("both have begun", || pair.iter().any(|one| one.said().contains(line)));
    let leads = |one: &Process| one.said().contains("ranks train together");
    let at = pair.iter().position(leads).unwrap();
    let (left, right) = pair.split_at_mut(1);
    let (leader, seat) =
        if at == 0 { (&mut left[0], &mut right[0]) } else { (&mut right[0], &mut left[0]) };
    body(&house, leader, seat);
    let mut all = Vec::from(pair);
    let mut alive = Vec::new();
    for mut one in all.drain(..) {
        if !one.ended() {
            alive.push(one);
        }
    }
    // In place of those that are gone.
    while alive.len() < 2 {
        let name = format!("other-{}", alive.len());
        alive.push(worker(&house, &name));
    }
    ended(alive);
    assert_eq!(house.digests("disturbed", 20), house.digests("alone", 20));
    until("no rank stays", || ranks(&house).is_empty());
    Some(house)
}

/// Whether the first attempt's reason is this, on one host or the other.
fn begins_with(reasons: &[String], says: impl Fn(&str) -> String) -> bool {
    ["alpha", "beta"].iter().any(|host| reasons[0].starts_with(&says(host)))
}

#[test]
fn a_killed_rank_of_another_host_is_named_with_its_host() {
    let house = disturbed_with("2", "step 7/20", |house, _, seat| {
        assert!(!seat.ended());
        // Who takes part is shown where workers and jobs are listed.
        let workers = house.ok("scheduler", &["workers"]);
        assert!(workers.contains(" (ranks 2 to 3)"), "{workers}");
        let workers = house.json("scheduler", &["workers", "--json"]);
        let seats: Vec<&Value> = workers
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|one| one["seats"].as_array().unwrap())
            .collect();
        assert_eq!((seats.len(), &seats[0]["first"]), (1, &2.into()), "{workers}");
        let jobs = house.ok("scheduler", &["jobs"]);
        assert!(jobs.contains("on 2 hosts"), "{jobs}");
        let jobs = house.json("scheduler", &["jobs", "--state", "running", "--json"]);
        assert_eq!(jobs[0]["gang"]["ranks"], 4, "{jobs}");
        let third = |rank: &i32| {
            let environment = std::fs::read(format!("/proc/{rank}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == b"RANK=3")
        };
        let rank = ranks(house).into_iter().find(third).expect("four ranks");
        signal(rank, Signal::SIGKILL);
    });
    let Some(house) = house else { return };
    let reasons = reasons(&house);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    let named = |host: &str| format!("rank 3 on {host} was killed by SIGKILL");
    assert!(begins_with(&reasons, named), "{reasons:?}");
    // In the host's row too, and once.
    let row = house.sql("select reason from seats where attempt = 1 and reason is not null");
    assert_eq!(row.trim(), reasons[0]);
}

#[test]
fn the_first_rank_is_named_with_its_host_when_it_is_killed() {
    let house = disturbed("step 7/20", |house, _, _| {
        let [leader] = processes(house, b"attempt")[..] else { panic!("one leader is expected") };
        signal(leader, Signal::SIGKILL);
    });
    let Some(house) = house else { return };
    let reasons = reasons(&house);
    let named = |host: &str| format!("rank 0 on {host} was killed by SIGKILL");
    assert!(begins_with(&reasons, named), "{reasons:?}");
}

#[test]
fn a_lost_worker_of_a_seat_ends_the_attempt() {
    let Some(house) = disturbed("step 7/20", |_, _, seat| seat.kill()) else { return };
    let reasons = reasons(&house);
    let silent = |host: &str| format!("rank 1 on {host}: its worker said nothing any more");
    assert!(begins_with(&reasons, silent), "{reasons:?}");
    let shown = house.ok("scheduler", &["show", "disturbed"]);
    let row = shown.lines().find(|line| line.trim_start().starts_with("with")).unwrap();
    assert!(row.contains("its worker said nothing any more"), "{shown}");
}

#[test]
fn a_lost_worker_of_the_attempt_ends_the_seat() {
    disturbed("step 7/20", |_, leader, _| leader.kill());
}

#[test]
fn a_worker_that_is_told_to_end_takes_its_gang_to_a_checkpoint() {
    let house = disturbed("step 7/20", |_, _, seat| {
        seat.signal(Signal::SIGTERM);
        assert_eq!(seat.end(), Some(75), "{}", seat.said());
    });
    let Some(house) = house else { return };
    // It goes on where it stopped, and no try is used up.
    let used = house.sql("select attempts_used from jobs where name = 'disturbed'");
    assert_eq!(used.trim(), "0");
}

/// A worker of a host of this name that counts as alive, and takes no seat.
fn away(house: &House, host: &str) {
    house.sql(&format!(
        "insert into workers (id, name, host, pid, slots, gpus, last_seen_at) \
         values (gen_random_uuid(), '{host}', '{host}', 1, 1, 0, now() + interval '1 day')",
    ));
}

#[test]
fn a_gang_for_more_hosts_than_there_are_holds_nobody() {
    let Some(mut house) = house() else { return };
    house.set([("PALETTE_GATHER_SECONDS", "0.5")]);
    submit(&house, "disturbed", &["--hosts", "4"]);
    let config = house.config("other", 5);
    house.ok("trainer", &arguments("submit", &config, &[]));
    let mut workers = [worker_that(&house, "alpha", ""), worker_that(&house, "beta", "")];
    // Others have their turn.
    until("the other run is done", || {
        house.sql("select state from jobs where name = 'other'").contains("succeeded")
    });
    let why = "wants 4 hosts, 2 have workers that can do it";
    until("both are there", || house.ok("scheduler", &["show", "disturbed"]).contains(why));
    let jobs = house.ok("scheduler", &["jobs"]);
    assert!(jobs.contains("wants 4 hosts"), "{jobs}");
    assert_eq!(house.sql("select attempt from jobs where name = 'disturbed'").trim(), "0");

    // The others have workers, but do not come: the places are given back.
    away(&house, "gamma");
    away(&house, "delta");
    until("it was given up", || {
        house.sql("select reason from attempts").contains("2 of 4 hosts came within")
            || house.sql("select reason from attempts").contains("1 of 4 hosts came within")
    });
    let used = house.sql("select attempts_used from jobs where name = 'disturbed'");
    assert_eq!(used.trim(), "0");
    house.ok("scheduler", &["cancel", "disturbed"]);
    for worker in &mut workers {
        worker.signal(Signal::SIGTERM);
        worker.end();
    }
    assert_eq!(house.sql("select count(*) from gangs where assembling").trim(), "0");
}

#[test]
fn a_host_that_is_lost_while_the_ranks_meet_ends_the_attempt() {
    let Some(house) = house() else { return };
    submit(&house, "disturbed", &["--hosts", "2"]);
    away(&house, "away");
    let alpha = worker(&house, "alpha");
    until("it assembles", || {
        house.sql("select count(*) from gangs where assembling").trim() == "1"
    });
    // It takes the seat, and is not heard of again.
    house.sql(
        "begin; update workers set last_seen_at = now() where host = 'away'; \
         update seats set worker_id = workers.id, host = 'away', ranks = 1, taken_at = now() from workers \
         where workers.host = 'away'; commit",
    );
    let reason = "rank 1 on away: its worker said nothing any more";
    until("the attempt has ended", || house.sql("select reason from attempts").contains(reason));
    ended(vec![alpha, worker(&house, "beta")]);
}

#[test]
fn a_gang_that_waits_for_hosts_says_so() {
    let Some(house) = house() else { return };
    submit(&house, "disturbed", &["--hosts", "2", "--ranks", "2"]);
    away(&house, "gamma");
    let alpha = worker(&house, "alpha");
    let waits = "waits for hosts: 1 of 2 is there";
    until("it assembles", || house.ok("scheduler", &["show", "disturbed"]).contains(waits));
    let jobs = house.ok("scheduler", &["jobs"]);
    assert!(jobs.contains("waits for hosts"), "{jobs}");
    let shown = house.json("scheduler", &["show", "disturbed", "--json"]);
    assert_eq!(shown["gang"]["assembling"], true, "{shown}");
    let said = alpha.said();
    assert!(said.contains("attempt 1 waits for hosts, 1 of 2 is there"), "{said}");
    let logs = house.ok("scheduler", &["logs", "disturbed"]);
    assert!(logs.contains("no rank has started yet: attempt 1 waits for hosts"), "{logs}");
    let logs = house.fails(1, "scheduler", &["logs", "disturbed", "--rank", "1"]);
    assert!(logs.contains("no rank of attempt 1"), "{logs}");

    ended(vec![alpha, worker(&house, "beta")]);
    let shown = house.ok("scheduler", &["show", "disturbed"]);
    assert!(shown.contains("on alpha, 4 ranks on 2 hosts"), "{shown}");
    for rank in ["0", "3"] {
        house.ok("scheduler", &["logs", "disturbed", "--rank", rank]);
    }
    for rank in ["4", "-1"] {
        let arguments = ["logs", "disturbed", &format!("--rank={rank}")];
        let logs = house.fails(1, "scheduler", &arguments);
        assert!(logs.contains(&format!("has no rank {rank}: its ranks are 0 to 3")), "{logs}");
    }
}

#[test]
fn workers_that_are_to_end_do_not_wait_for_ever_for_hosts() {
    let Some(mut house) = house() else { return };
    house.set([("PALETTE_GATHER_SECONDS", "0.5")]);
    submit(&house, "disturbed", &["--hosts", "4"]);
    let job = house.sql("select short from jobs").trim().to_owned();
    for ends in ["--drain", "--exit-when-idle", "--idle 1s"] {
        // The one that has the attempt, and the one with a seat in it.
        let hosts = if ends == "--drain" { vec!["alpha", "beta"] } else { vec!["gamma"] };
        let mut workers: Vec<_> =
            hosts.iter().map(|host| worker_that(&house, host, ends)).collect();
        for worker in &mut workers {
            assert_eq!(worker.end(), Some(1), "{ends}: {}", worker.said());
            let says = format!("fewer hosts came than are needed for {job} disturbed");
            assert!(worker.said().contains(&says), "{ends}: {}", worker.said());
        }
    }
    let now = "select state, attempts_used from jobs where name = 'disturbed'";
    assert_eq!(house.sql(now).trim(), "queued|0");

    // What else is there is done.
    let config = house.config("other", 5);
    house.ok("trainer", &arguments("submit", &config, &[]));
    let mut worker = worker(&house, "alpha");
    assert_eq!(worker.end(), Some(1), "{}", worker.said());
    assert_eq!(house.sql("select state from jobs where name = 'other'").trim(), "succeeded");
    assert_eq!(house.sql(now).trim(), "queued|0");
    house.ok("scheduler", &["cancel", "disturbed"]);
}

#[test]
fn of_a_range_what_is_there_is_enough() {
    let Some(mut house) = house() else { return };
    house.set([("PALETTE_GATHER_SECONDS", "3")]);
    train(&house, "alone", 20, 1, &[]);
    submit(&house, "disturbed", &["--hosts", "1..4"]);
    ended(vec![worker(&house, "alpha")]);
    assert_eq!(house.digests("disturbed", 20), house.digests("alone", 20));
    assert_eq!(seats(&house), [""; 0]);
}

#[test]
fn hosts_that_cannot_be_are_refused() {
    let house = House::new();
    house.dataset(16);
    let config = house.config("refused", 5);
    for (hosts, says) in
        [("0", "1 to 1024"), ("2000", "1 to 1024"), ("3..2", "0..1"), ("two", "0..1")]
    {
        let error = house.run("trainer", &["submit", &config, "--hosts", hosts]);
        let error = testkit::text(&error.stderr);
        assert!(error.contains(says), "{hosts}: {error}");
    }
    let one: Value = house.json("trainer", &["submit", &config, "--hosts", "1..4", "--json"]);
    assert_eq!(one["state"], "queued");
}

/// Draws of a seed (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Where a run on several hosts is to be when something befalls it.
fn reached(house: &House, moment: usize, attempts: &str, step: i64) -> bool {
    let now = house.sql(
        "select state, attempt, coalesce(progress_done, 0) from jobs where name = 'disturbed'",
    );
    let mut words = now.trim().split('|');
    let (state, attempt) = (words.next().unwrap(), words.next().unwrap());
    let done: i64 = words.next().unwrap().parse().unwrap();
    let assembles = || house.sql("select count(*) from gangs where assembling").trim() != "0";
    let writes = || {
        house.files("home").iter().any(|file| {
            let folder = file.parent().and_then(|folder| folder.file_name());
            folder.is_some_and(|name| name.to_string_lossy().starts_with(".step-"))
        })
    };
    state == "succeeded"
        || match moment {
            0 => assembles(),
            1 => writes() || done > step + 5,
            _ => done > step || attempt != attempts,
        }
}

/// The processes of the database's server, its first one at the beginning.
fn server(house: &House) -> Vec<i32> {
    let file = house.read("home/postgres/data/postmaster.pid");
    let Some(Ok(first)) = file.lines().next().map(str::parse::<i32>) else { return Vec::new() };
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().map(|id| id.parse().unwrap());
    [first].into_iter().chain(children).collect()
}

fn try_signal(processes: &[i32], signal: Signal) {
    for process in processes {
        // It may have ended meanwhile.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*process), signal);
    }
}

/// Stops the database's server; it is started again after this number of looks.
fn take_server_away(house: &House, how: usize, mut looks: usize) {
    println!("the server: {} for {looks} looks", ["killed", "ended", "stopped"][how]);
    let away = server(house);
    let mut last = || {
        until("the server is to come back", || {
            looks = looks.saturating_sub(1);
            looks == 0
        });
    };
    match how {
        // As after a crash or a loss of power, and as by an administrator who cannot wait.
        0 | 1 => {
            try_signal(&away[..1], [Signal::SIGKILL, Signal::SIGQUIT][how]);
            last();
            house.ok("scheduler", &["up"]);
        }
        _ => {
            try_signal(&away, Signal::SIGSTOP);
            last();
            try_signal(&away, Signal::SIGCONT);
        }
    }
}

/// Whose worker has the attempt.
fn leader(house: &House) -> String {
    let name = "select workers.name from jobs join workers on workers.id = worker_id \
                where jobs.name = 'disturbed' and state = 'running'";
    house.sql(name).trim().to_owned()
}

/// Ranks, attempts, workers and the database's server are killed or stopped while hosts assemble, compute, wait for each
/// other or write a checkpoint, by a seed (`PALETTE_CHAOS_SEED`).
#[test]
fn whatever_befalls_a_gang_its_run_ends_with_the_same_bits() {
    const FAULTS: usize = 10;
    const STEPS: u32 = 40;
    let Some(mut house) = house() else { return };
    house.set([("PALETTE_COLLECTIVE_SECONDS", "4"), ("PALETTE_GATHER_SECONDS", "10")]);
    // What is not disturbed is not to lose its lease on a busy machine either.
    house.set([("PALETTE_LEASE_SECONDS", "30")]);
    train(&house, "alone", STEPS, 1, &[]);
    house.set([("PALETTE_LEASE_SECONDS", "2")]);
    submit_long(&house, "disturbed", STEPS, &["--hosts", "1..2", "--ranks", "2"]);
    let seed = std::env::var("PALETTE_CHAOS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15 ^ (seed << 1 | 1));
    let hosts = ["alpha", "beta", "gamma"];
    let mut workers: Vec<Process> = hosts.iter().map(|host| worker(&house, host)).collect();
    for _ in 0..FAULTS {
        let before = house
            .sql("select attempt, coalesce(progress_done, 0) from jobs where name = 'disturbed'");
        let (attempt, step) = before.trim().split_once('|').unwrap();
        let (moment, step) = (draw.below(4), step.parse().unwrap());
        until("its moment comes", || reached(&house, moment, attempt, step));
        let (what, how) = (draw.below(6), draw.below(2));
        if what >= 4 {
            take_server_away(&house, draw.below(3), 1 + draw.below(1500));
            continue;
        }
        let how = [Signal::SIGKILL, Signal::SIGSTOP][how];
        if what == 0 {
            let at = draw.below(workers.len());
            println!("{how} for the worker of {}", hosts[at]);
            workers[at].signal(how);
            if how == Signal::SIGKILL {
                workers[at].end();
                workers[at] = worker(&house, hosts[at]);
            } else {
                // Long enough for its lease to run out.
                until("others have what it had", || leader(&house) != hosts[at]);
                workers[at].signal(Signal::SIGCONT);
            }
            continue;
        }
        let leaders = if what == 1 { processes(&house, b"attempt") } else { Vec::new() };
        let all = [leaders, ranks(&house)].concat();
        if all.is_empty() {
            continue;
        }
        let process = all[draw.below(all.len())];
        println!("{how} for process {process} of {all:?}");
        try_signal(&[process], how);
    }
    until("the run is done", || {
        house.sql("select state from jobs where name = 'disturbed'").trim() == "succeeded"
    });
    ended(workers);
    let reasons = reasons(&house);
    let steps = STEPS.into();
    assert_eq!(house.digests("disturbed", steps), house.digests("alone", steps), "{reasons:?}");
    until("no rank stays", || ranks(&house).is_empty() && processes(&house, b"attempt").is_empty());
    for open in [
        "select count(*) from gangs where assembling",
        "select count(*) from seats where ended_at is null",
        "select count(*) from attempts where ended_at is null",
    ] {
        assert_eq!(house.sql(open).trim(), "0", "{open}");
    }
    println!("{reasons:#?}");
}
