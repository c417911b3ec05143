//! The private Postgres through the commands, as a user meets it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use registry::JobState;
use testkit::{House, failed, run_ok, text, until};

use crate::database::{Session, job, open, row, set_up, submit};
use crate::disk::Disk;

#[test]
fn two_commands_at_once_start_one_server_and_it_stays() {
    let house = House::with_scripts();
    let commands: Vec<_> = (0..4)
        .map(|_| {
            let mut command = house.command("scheduler", &["up"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let pid = house.read("home/postgres/data/postmaster.pid");
    assert!(house.ok("scheduler", &["jobs"]).contains("no jobs"));
    assert_eq!(house.read("home/postgres/data/postmaster.pid"), pid, "it was started again");
    assert!(house.ok("scheduler", &["url"]).contains("/home/postgres/run&user=palette"));
    assert_eq!(house.ok("scheduler", &["down"]), "stopped\n");
    assert_eq!(house.ok("scheduler", &["down"]), "it was not running\n");
}

#[test]
fn down_says_that_it_leaves_the_server_of_database_url_alone() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let nowhere = "postgres://ann:s3cret@127.0.0.1:1/lab";
    let down = || run_ok(house.command("scheduler", &["down"]).env("DATABASE_URL", nowhere));
    let (home, other) =
        (house.path("home"), "that of DATABASE_URL (postgres://ann@127.0.0.1:1/lab)");
    for done in ["is stopped", "was not running"] {
        let said = format!(
            "the private Postgres under {} {done}; {other} is not touched\n",
            home.display()
        );
        assert_eq!(down(), said);
    }
}

#[test]
fn after_a_kill_the_server_comes_back_with_its_data() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let (runtime, db) = open(&house);
    submit(&runtime, &db, job("kept"));
    drop((db, runtime));
    let file = house.read("home/postgres/data/postmaster.pid");
    let pid: i32 = file.lines().next().unwrap().parse().unwrap();
    let server = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(house.ok("scheduler", &["jobs"]).contains("kept"));
    assert_ne!(house.read("home/postgres/data/postmaster.pid"), file);

    // Once more, and this time another process has got the server's number.
    let file = house.read("home/postgres/data/postmaster.pid");
    let old = file.lines().next().unwrap().to_owned();
    let server = nix::unistd::Pid::from_raw(old.parse().unwrap());
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the server is gone", || !testkit::alive(&old));
    let path = house.path("home/postgres/data/postmaster.pid");
    std::fs::write(&path, file.replacen(&old, &std::process::id().to_string(), 1)).unwrap();
    assert!(house.ok("scheduler", &["jobs"]).contains("kept"));
}

#[test]
fn what_is_missing_or_in_the_way_is_one_line_with_a_remedy() {
    let house = House::with_scripts();
    let fails = |variable: &str, value: &std::path::Path| {
        let stderr = failed(house.command("scheduler", &["up"]).env(variable, value), 1);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    };
    let message = fails("PALETTE_POSTGRES_BIN", &house.path("bin"));
    assert!(message.contains("apt-get install postgresql"), "{message}");

    // No user can write below a file.
    std::fs::write(house.path("file"), "").unwrap();
    let message = fails("PALETTE_HOME", &house.path("file/home"));
    assert!(message.contains("cannot write") && message.contains("PALETTE_HOME"), "{message}");

    if nix::unistd::geteuid().is_root() {
        std::fs::create_dir(house.path("closed")).unwrap();
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(house.path("closed"), closed).unwrap();
        let message = fails("PALETTE_HOME", &house.path("closed/home"));
        assert!(message.contains("cannot enter"), "{message}");
    }

    let message = fails("DATABASE_URL", std::path::Path::new("postgres://x:secret@127.0.0.1:1/d"));
    assert!(message.contains("postgres://x@127.0.0.1:1/d"), "{message}");

    if nix::unistd::geteuid().is_root() {
        std::fs::create_dir_all(house.path("strange/postgres")).unwrap();
        std::os::unix::fs::chown(house.path("strange/postgres"), Some(54_321), None).unwrap();
        let message = fails("PALETTE_HOME", &house.path("strange"));
        assert!(message.contains("is user 54321's: `chown -R"), "{message}");
    } else {
        println!("skipped: only root can give a folder to another user");
    }

    house.ok("scheduler", &["up"]);
    house.ok("scheduler", &["down"]);
    let version = house.path("home/postgres/data/PG_VERSION");
    let kept = std::fs::read(&version).unwrap();
    std::fs::write(&version, "9\n").unwrap();
    let message = house.fails(1, "scheduler", &["up"]);
    assert!(message.contains("made by version 9") && message.contains("postgresql-9"), "{message}");
    std::fs::write(&version, "\u{fffd}rubbish").unwrap();
    let message = house.fails(1, "scheduler", &["up"]);
    assert!(message.contains("holds no version") && message.contains("back-up"), "{message}");
    std::fs::remove_file(&version).unwrap();
    let message = house.fails(1, "scheduler", &["up"]);
    assert!(message.contains("is no cluster") && message.contains("begin anew"), "{message}");
    std::fs::write(&version, kept).unwrap();
    house.ok("scheduler", &["up"]);
}

/// As root: what the server's user puts in the place of its files is not written, given away or shown.
#[test]
fn links_of_the_servers_user_lead_root_nowhere() {
    use std::os::unix::fs::{MetadataExt, symlink};
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root has a server of another user");
        return;
    }
    let house = House::with_scripts();
    let home = |path: &str| house.path("home/postgres").join(path);
    let secret = house.path("secret");
    let keep = || {
        std::fs::write(&secret, "FATAL: root's own\n").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let kept = |what: &str, said: &str| {
        let found = std::fs::metadata(&secret).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600), "{what}");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "FATAL: root's own\n", "{what}");
        assert!(!said.contains("root's own"), "{what}: {said}");
    };
    let up = || {
        let output = house.command("scheduler", &["up"]).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    house.ok("scheduler", &["up"]);
    for file in
        ["lock", "log", "data/palette.conf", "data/palette_hba.conf", "data/PG_VERSION", "run"]
    {
        house.ok("scheduler", &["down"]);
        keep();
        let (path, aside) = (home(file), home("aside"));
        std::fs::rename(&path, &aside).unwrap();
        symlink(&secret, &path).unwrap();
        kept(file, &up());
        let _ = house.command("scheduler", &["down"]).output().unwrap();
        let _ = std::fs::remove_file(&path);
        std::fs::rename(&aside, &path).unwrap();
        house.ok("scheduler", &["up"]);
    }
    // A folder in the place of another, with root's files in it.
    house.ok("scheduler", &["down"]);
    keep();
    let other = house.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::rename(&secret, other.join("palette.conf")).unwrap();
    std::fs::rename(home("data"), home("aside")).unwrap();
    symlink(&other, home("data")).unwrap();
    let said = up();
    std::fs::rename(other.join("palette.conf"), &secret).unwrap();
    kept("data", &said);
    assert_eq!(std::fs::metadata(&other).unwrap().uid(), 0);
}

#[test]
fn over_tcp_the_private_server_never_takes_somebody_at_their_word() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    // An address of the loop that nobody else listens on, because the port is that of any server.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let address = format!("127.77.{high}.{}", low.max(1));
    let listen = format!("alter system set listen_addresses = '{address}'");
    assert!(testkit::psql(&house.url(), &["-c", &listen]).status.success());
    house.ok("scheduler", &["down"]);
    house.ok("scheduler", &["up"]);
    let url = format!("postgres://palette@{address}:5432/palette");
    let output = testkit::psql(&url, &["-w", "-c", "select 1"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("no password supplied"), "{said}");
}

#[test]
fn what_the_home_holds_is_its_users_alone_or_its_groups() {
    let house = House::with_scripts();
    house.script("trainer", "exit 0");
    for (setting, folders, files) in [("", 0o700, 0o600), ("group", 0o750, 0o640)] {
        let home = house.path(&format!("deep/home{setting}"));
        let mut submit = house.command(
            "scheduler",
            &["submit", "ingest", "--name", "x", "--", "photos", "--out", "y"],
        );
        house.script("pipeline", "exit 0");
        run_ok(submit.env("PALETTE_HOME", &home).env("PALETTE_HOME_MODE", setting));
        let mut worker = house.command("scheduler", &["worker", "--drain"]);
        run_ok(worker.env("PALETTE_HOME", &home).env("PALETTE_HOME_MODE", setting));
        let mode =
            |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home) & 0o766, folders & 0o766, "{setting}");
        let job = std::fs::read_dir(home.join("jobs")).unwrap().next().unwrap().unwrap().path();
        for folder in [&home.join("jobs"), &job, &job.join("attempt-1")] {
            assert_eq!(mode(folder), folders, "{}", folder.display());
        }
        assert_eq!(mode(&job.join("attempt-1/log")), files);
        run_ok(house.command("scheduler", &["down"]).env("PALETTE_HOME", &home));
    }
    let message = failed(
        house
            .command("scheduler", &["up"])
            .env("PALETTE_HOME_MODE", "public")
            .env("PALETTE_HOME", house.path("third")),
        1,
    );
    assert!(message.contains("PALETTE_HOME_MODE is `public`: private or group"), "{message}");
}

/// A shared home: whoever is in its group reads what others of the group made there.
#[test]
fn a_group_that_is_handed_down_reads_the_logs() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can give a folder to a group that it is not in");
        return;
    }
    const LAB: u32 = 54_321;
    let mut house = House::with_scripts();
    house.set([("PALETTE_HOME_MODE", "group")]);
    house.script("pipeline", "exit 0");
    let home = house.path("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, None, Some(LAB)).unwrap();
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o2751)).unwrap();
    house.ok("scheduler", &["submit", "ingest", "--name", "x", "--", "photos", "--out", "y"]);
    // Whatever the umask of the worker's user.
    let worker =
        format!("umask 077; exec '{}' worker --drain", testkit::program("scheduler").display());
    run_ok(&mut house.shell(&worker));
    let job = std::fs::read_dir(home.join("jobs")).unwrap().next().unwrap().unwrap().path();
    for (path, mode) in [
        (home.join("jobs"), 0o2750),
        (job.clone(), 0o2750),
        (job.join("attempt-1"), 0o2750),
        (job.join("attempt-1/log"), 0o640),
    ] {
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o7777), (LAB, mode), "{}", path.display());
    }
}

#[test]
fn stale_sockets_and_locks_do_not_hinder_a_start() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    house.ok("scheduler", &["down"]);
    // What a power failure leaves: a socket that nobody listens on, a lock of a process that is gone.
    let socket = house.path("home/postgres/run/.s.PGSQL.5432");
    let lock = house.path("home/postgres/run/.s.PGSQL.5432.lock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    std::fs::write(&lock, "4194303\n/nowhere\n0\n5432\n").unwrap();
    assert!(house.ok("scheduler", &["jobs"]).contains("no jobs"));
    house.ok("scheduler", &["down"]);
    // The same, and the number is that of another process now.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    std::fs::write(&lock, format!("{}\n/nowhere\n0\n5432\n", std::process::id())).unwrap();
    assert!(house.ok("scheduler", &["jobs"]).contains("no jobs"));
}

#[test]
fn a_home_with_the_pid_file_of_another_homes_server_gets_a_server_of_its_own() {
    let (house, other) = (House::with_scripts(), House::with_scripts());
    house.ok("scheduler", &["up"]);
    house.ok("scheduler", &["down"]);
    other.ok("scheduler", &["up"]);
    let file = "home/postgres/data/postmaster.pid";
    std::fs::copy(other.path(file), house.path(file)).unwrap();
    assert_eq!(house.ok("scheduler", &["down"]), "it was not running\n");
    assert!(other.ok("scheduler", &["jobs"]).contains("no jobs"), "the other server runs on");
    assert!(house.ok("scheduler", &["jobs"]).contains("no jobs"));
    let pid = |house: &House| house.read(file).lines().next().map(str::to_owned);
    assert_ne!(pid(&house), pid(&other));
    assert!(other.ok("scheduler", &["jobs"]).contains("no jobs"));
}

#[test]
fn a_full_or_read_only_disk_is_one_line() {
    let house = House::with_scripts();
    let Some(disk) = Disk::new(house.path("disk"), "8m") else { return };
    let fails = || {
        let stderr =
            failed(house.command("scheduler", &["up"]).env("PALETTE_HOME", disk.path()), 1);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    };
    // Too small for a cluster.
    let message = fails();
    assert!(message.contains("No space left") && message.contains("make room"), "{message}");

    // Big enough, and then filled to the brim while the server is down.
    disk.remount("size=200m");
    let run = |word| {
        house.command("scheduler", &[word]).env("PALETTE_HOME", disk.path()).output().unwrap()
    };
    assert!(run("up").status.success());
    assert!(run("down").status.success());
    disk.fill();
    let message = fails();
    assert!(message.contains("No space left"), "{message}");
    disk.make_room();
    assert!(run("up").status.success());
    assert!(run("down").status.success());

    disk.remount("ro");
    let message = fails();
    assert!(
        message.contains("Read-only file system") && message.contains("PALETTE_HOME"),
        "{message}"
    );
}

#[test]
fn a_home_whose_name_is_too_long_for_a_socket_works() {
    let house = House::with_scripts();
    let home = house.path(&"long".repeat(30));
    let command = |word| run_ok(house.command("scheduler", &[word]).env("PALETTE_HOME", &home));
    let url = command("up");
    assert!(command("jobs").contains("no jobs"));
    assert_eq!(command("down"), "stopped\n");
    let socket = url.split_once("host=").unwrap().1.split_once('&').unwrap().0;
    assert!(socket.len() < 90, "{socket}");
    std::fs::remove_dir_all(socket).unwrap();
}

/// The folder of the programs of the server that runs in a house.
fn real_programs(house: &House) -> PathBuf {
    let file = house.read("home/postgres/data/postmaster.pid");
    let program = format!("/proc/{}/exe", file.lines().next().unwrap());
    std::fs::read_link(program).unwrap().parent().unwrap().to_owned()
}

/// Programs that say of themselves that they are this version, and know no option that came later.
fn programs_of(house: &House, version: &str, real: &std::path::Path) -> PathBuf {
    let folder = house.path(version);
    std::fs::create_dir(&folder).unwrap();
    let later = "for one; do case $one in --no-instructions|--locale-provider*)\n\
                 echo \"initdb: unrecognized option '$one'\" >&2; exit 1;; esac; done";
    let says = format!("test \"$1\" = --version && echo 'postgres (PostgreSQL) {version}' && exit");
    for (name, first) in [("initdb", later), ("postgres", &says), ("pg_ctl", ":")] {
        let script = format!("#!/bin/sh\n{first}\nexec '{}' \"$@\"\n", real.join(name).display());
        std::fs::write(folder.join(name), script).unwrap();
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn an_old_version_makes_a_cluster_or_is_told_truly() {
    let house = House::with_scripts();
    house.ok("scheduler", &["up"]);
    let real = real_programs(&house);
    let newer = house.read("home/postgres/data/PG_VERSION").trim().to_owned();
    house.ok("scheduler", &["down"]);
    let run = |word: &str, home: &str, programs: &PathBuf| {
        let mut command = house.command("scheduler", &[word]);
        command.env("PALETTE_HOME", house.path(home)).env("PALETTE_POSTGRES_BIN", programs);
        command
    };
    for version in ["9.6.24", "11.22"] {
        let old = programs_of(&house, version, &real);
        let major = version.split('.').next().unwrap();
        for word in ["up", "jobs", "worker"] {
            let said = failed(&mut run(word, "too-old", &old), 1);
            let says = format!("version {major} is installed in {}", old.display());
            assert!(said.contains(&says) && said.contains("12 or newer is needed"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        assert!(!house.path("too-old/postgres/data").exists());
    }
    for version in ["12.22", "13.18"] {
        let old = programs_of(&house, version, &real);
        let major = version.split('.').next().unwrap();
        run_ok(&mut run("up", major, &old));
        assert!(run_ok(&mut run("jobs", major, &old)).contains("no jobs"));
        assert_eq!(run_ok(&mut run("down", major, &real)), "stopped\n");
        // A cluster of a newer one is not opened by it.
        let said = failed(&mut run("up", "home", &old), 1);
        let says = format!("made by version {newer}, but version {major} is installed");
        assert!(said.contains(&says) && said.contains("pg_upgrade"), "{said}");
    }
}

#[test]
fn a_lost_socket_is_named_with_its_remedy_and_work_goes_on_after_it() {
    let (house, runtime, db) = set_up();
    house.script("trainer", "until test -e \"$HOUSE/go\"; do sleep 0.05; done");
    let one = submit(&runtime, &db, job("one"));
    let mut worker = house.worker("report", &["--drain"]);
    until("it runs", || row(&runtime, &db, &one).state == JobState::Running);
    let mut session = Session::new(&house, &runtime);
    std::fs::remove_file(house.path("home/postgres/run/.s.PGSQL.5432")).unwrap();
    let remedy =
        ".s.PGSQL.5432 was removed: `scheduler down` ends it, and the next command starts it anew";
    for arguments in [&["jobs"][..], &["show", "one"], &["worker", "--drain"]] {
        let said = house.fails(1, "scheduler", arguments);
        assert!(said.contains(remedy), "{arguments:?}: {said}");
    }
    let doctor = house.run("scheduler", &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(text(&doctor.stdout).contains(remedy), "{}", text(&doctor.stdout));
    session.end_others();
    until("the worker names it too", || house.read("report").contains(remedy));
    drop((session, db));
    assert_eq!(house.ok("scheduler", &["down"]), "stopped\n");
    assert!(house.ok("scheduler", &["jobs"]).contains("one"));
    std::fs::write(house.path("go"), "").unwrap();
    assert_eq!(worker.end(), Some(0), "{}", house.read("report"));
    let (runtime, db) = open(&house);
    let row = row(&runtime, &db, &one);
    assert_eq!(
        (row.state, row.attempts_used),
        (JobState::Succeeded, 0),
        "{}",
        house.read("report")
    );
}
