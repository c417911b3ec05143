//! The private Postgres through the commands, as a user meets it.

use std::os::unix::fs::PermissionsExt;

use crate::house::{House, until};

#[test]
fn two_commands_at_once_start_one_server_and_it_stays() {
    let house = House::new();
    let commands: Vec<_> = (0..4)
        .map(|_| {
            let mut command = house.command(&["up"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", crate::house::text(&output.stderr));
    }
    let pid = house.read("home/postgres/data/postmaster.pid");
    assert!(house.ok(&["jobs"]).contains("no jobs"));
    assert_eq!(house.read("home/postgres/data/postmaster.pid"), pid, "it was started again");
    assert!(house.ok(&["url"]).contains("/home/postgres/run&user=palette"));
    assert_eq!(house.ok(&["down"]), "stopped\n");
    assert_eq!(house.ok(&["down"]), "it was not running\n");
}

#[test]
fn after_a_kill_the_server_comes_back_with_its_data() {
    let house = House::new();
    house.ok(&["up"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = house.ok(&["url"]);
    runtime.block_on(async {
        let db = scheduler::Database::open_url(url.trim()).await.unwrap();
        let new = scheduler::NewJob::new(scheduler::JobKind::Train, "kept", serde_json::json!({}));
        db.submit(new).await.unwrap();
    });
    let file = house.read("home/postgres/data/postmaster.pid");
    let pid: i32 = file.lines().next().unwrap().parse().unwrap();
    let server = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(house.ok(&["jobs"]).contains("kept"));
    assert_ne!(house.read("home/postgres/data/postmaster.pid"), file);

    // Once more, and this time another process has got the server's number.
    let file = house.read("home/postgres/data/postmaster.pid");
    let old = file.lines().next().unwrap().to_owned();
    let server = nix::unistd::Pid::from_raw(old.parse().unwrap());
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the server is gone", || !crate::house::alive(&old));
    let path = house.path("home/postgres/data/postmaster.pid");
    std::fs::write(&path, file.replacen(&old, &std::process::id().to_string(), 1)).unwrap();
    assert!(house.ok(&["jobs"]).contains("kept"));
}

#[test]
fn what_is_missing_or_in_the_way_is_one_line_with_a_remedy() {
    let house = House::new();
    let fails = |variable: &str, value: &std::path::Path| {
        let output = house.command(&["up"]).env(variable, value).output().unwrap();
        let stderr = crate::house::text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
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

    house.ok(&["up"]);
    house.ok(&["down"]);
    std::fs::write(house.path("home/postgres/data/PG_VERSION"), "9\n").unwrap();
    let message = house.fails(&["up"]);
    assert!(message.contains("made by version 9") && message.contains("postgresql-9"), "{message}");
}

#[test]
fn a_home_whose_name_is_too_long_for_a_socket_works() {
    let house = House::new();
    let home = house.path(&"long".repeat(30));
    let command = |word| {
        let output = house.command(&[word]).env("PALETTE_HOME", &home).output().unwrap();
        assert!(output.status.success(), "{}", crate::house::text(&output.stderr));
        crate::house::text(&output.stdout)
    };
    let url = command("up");
    assert!(command("jobs").contains("no jobs"));
    assert_eq!(command("down"), "stopped\n");
    let socket = url.split_once("host=").unwrap().1.split_once('&').unwrap().0;
    assert!(socket.len() < 90, "{socket}");
    std::fs::remove_dir_all(socket).unwrap();
}
