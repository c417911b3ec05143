//! Databases of another kind than ours: encodings, standbys, poolers, the user's own `PG*`, a server that was killed.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{House, Process, failed, run_ok, text, until};

use crate::database::{job, open, set_up, submit};

#[test]
fn a_database_that_is_not_utf8_is_refused_with_the_remedy() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let url = house.url();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        house.sql(&format!(
            "create database {name} encoding '{encoding}' locale 'C' template template0"
        ));
        let url = url.replace("///palette?", &format!("///{name}?"));
        for command in [&["up"][..], &["jobs"], &["worker", "--drain"]] {
            let said = failed(house.command("scheduler", command).env("DATABASE_URL", &url), 1);
            assert!(said.contains(encoding) && said.contains("UTF8"), "{command:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let doctor = house.command("scheduler", &["doctor"]).env("DATABASE_URL", &url).output();
        let doctor = doctor.unwrap();
        assert_eq!(doctor.status.code(), Some(1));
        assert!(text(&doctor.stdout).contains(encoding), "{}", text(&doctor.stdout));
    }
}

#[test]
fn doctor_names_a_server_that_takes_no_writes_and_another_isolation() {
    let (house, _runtime, _db) = set_up();
    house.sql("alter database palette set default_transaction_isolation = 'serializable'");
    house.sql("alter database palette set default_transaction_read_only = on");
    let doctor = text(&house.run("scheduler", &["doctor"]).stdout);
    assert!(doctor.contains("read-only") || doctor.contains("read_only"), "{doctor}");
    assert!(doctor.contains("serializable"), "{doctor}");
}

#[test]
fn variables_of_libpq_do_not_reach_the_private_server() {
    let mut house = House::with_scripts();
    house.set([
        ("PGHOST", "/nowhere"),
        ("PGPORT", "1"),
        ("PGUSER", "nobody-we-know"),
        ("PGDATABASE", "nothing"),
        ("PGDATA", "/nowhere"),
        ("PGOPTIONS", "-c statement_timeout=1"),
        ("PGSSLMODE", "verify-full"),
        ("PGSERVICE", "none"),
        ("PGPASSWORD", "secret"),
        ("PGCLIENTENCODING", "LATIN1"),
    ]);
    house.script("pipeline", "exit 0");
    house.ok("scheduler", &["up"]);
    house.ok("scheduler", &["submit", "ingest", "--name", "plain", "--", "nothing"]);
    let mut worker = house.worker("report", &["--drain"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
}

#[test]
fn a_private_server_that_is_killed_under_a_worker_is_started_again() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "exit 0");
    let file = || house.read("home/postgres/data/postmaster.pid");
    let _worker = house.worker("report", &[]);
    until("the worker is ready", || house.read("report").contains("nothing to do"));
    let old = file();
    kill(Pid::from_raw(old.lines().next().unwrap().parse().unwrap()), Signal::SIGKILL).unwrap();
    until("the server is another one", || !file().is_empty() && file() != old);
    drop((db, runtime));
    // It waits until the server is ready.
    house.ok("scheduler", &["jobs"]);
    let (runtime, db) = open(&house);
    let job = submit(&runtime, &db, job("after"));
    until("work goes on", || {
        runtime.block_on(db.job(job.id)).is_ok_and(|job| job.state.is_final())
    });
    house.ok("scheduler", &["down"]);
}

#[test]
fn a_home_is_made_under_any_umask() {
    for umask in ["077", "027", "777"] {
        let house = House::with_scripts();
        let scheduler = testkit::program("scheduler");
        let line = format!("umask {umask}; exec '{}' up", scheduler.display());
        run_ok(&mut house.shell(&line));
        assert!(house.ok("scheduler", &["jobs"]).contains("no jobs"));
    }
}

/// PgBouncer before the private server of a house; gives the URL through it.
fn bounce(house: &House, program: &Path, mode: &str) -> (Process, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = house.path("home/postgres/run");
    let settings = format!(
        "[databases]\npalette = host={} user=palette dbname=palette\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = {mode}\n",
        run.display()
    );
    let file = house.path(&format!("{mode}.ini"));
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new(program);
    command.arg(&file).stdin(Stdio::null());
    // Who may enter the socket's folder; and it does not run as root.
    let owner = std::fs::metadata(&run).unwrap();
    if nix::unistd::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let log = format!("{mode}.log");
    let process = house.start(&log, command);
    until("the pooler listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (process, format!("postgresql://palette@127.0.0.1:{port}/palette?sslmode=disable"))
}

#[test]
fn a_pooler_that_keeps_sessions_works_and_others_are_refused() {
    let Some(program) = testkit::pgbouncer() else { return };
    let mut house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    house.script("pipeline", "exit 0");
    for mode in ["transaction", "statement"] {
        let (_pooler, url) = bounce(&house, &program, mode);
        for command in [&["up"][..], &["worker", "--drain"]] {
            let said = failed(house.command("scheduler", command).env("DATABASE_URL", &url), 1);
            assert!(said.contains("pool_mode = session"), "{mode} {command:?}: {said}");
        }
        let doctor = house.command("scheduler", &["doctor"]).env("DATABASE_URL", &url).output();
        let doctor = text(&doctor.unwrap().stdout);
        assert!(doctor.contains("pool_mode"), "{mode}: {doctor}");
    }
    let (_pooler, url) = bounce(&house, &program, "session");
    house.set([("DATABASE_URL", url)]);
    house.ok("scheduler", &["up"]);
    for number in 0..4 {
        let name = format!("job-{number}");
        house.ok("scheduler", &["submit", "ingest", "--name", &name, "--", "nothing"]);
    }
    let mut worker = house.worker("report", &["--drain"]);
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    let jobs = house.json("scheduler", &["jobs", "--json"]);
    assert!(jobs.as_array().unwrap().iter().all(|job| job["state"] == "succeeded"), "{jobs}");
}
