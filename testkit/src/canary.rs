//! Whether secrets stay where they are: a canary stands as password, token and key in everything that a program is
//! given, and is looked for in everything that it prints or leaves behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Arg, Command};

use crate::House;

const SECRET: &str = "c4n4ryS3cret";
/// `ann:` and the secret, as a header of HTTP has them.
const ENCODED: &str = "YW5uOmM0bjRyeVMzY3JldA";
/// How long a command may run that ends only when it is asked to; what it has said by then counts.
const ENOUGH: Duration = Duration::from_secs(10);

/// Calls every command of a program with databases that are there, are not, and are no addresses, and every option
/// of each with an address that holds secrets, in turn in all forms that such an address has; all with
/// `RUST_LOG=trace`.
///
/// # Panics
/// Where a secret shows: with the calls that show it.
pub fn check(program: &Command) {
    let house = House::new();
    house.ok("scheduler", &["up"]);
    let server = server();
    let found = leaks(&house, program, server, |call| {
        house.command(program.get_name(), &call.iter().map(String::as_str).collect::<Vec<_>>())
    });
    assert!(found.is_empty(), "{} of them:\n{}", found.len(), found.join("\n"));
}

fn leaks(
    house: &House,
    program: &Command,
    server: u16,
    start: impl Fn(&[String]) -> std::process::Command + Sync,
) -> Vec<String> {
    let databases = databases(&house.url());
    let addresses = addresses(server);
    let calls = calls(program, &databases, &addresses);
    let folders = tempfile::tempdir_in(house.path("")).unwrap();
    let folder = |number: usize| folders.path().join(number.to_string());
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |worker: usize| {
        let log = house.path(&format!("said-{worker}"));
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(Call { words, database }) = calls.get(number) else { break };
            // What one leaves behind the next one does not find.
            fs::create_dir(folder(number)).unwrap();
            let mut command = start(words);
            command
                .current_dir(folder(number))
                .env("DATABASE_URL", database)
                .env("RUST_LOG", "trace")
                .env("PGPASSWORD", SECRET)
                .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{server}"))
                .envs([("AWS_ACCESS_KEY_ID", "ann"), ("AWS_SECRET_ACCESS_KEY", SECRET)])
                .envs([("AWS_SESSION_TOKEN", SECRET), ("AWS_REGION", "here")]);
            run(&mut command, &log);
            let shown = lines(&log);
            if let Some(line) = shown.first() {
                let call = format!("{} {}", program.get_name(), words.join(" "));
                found.lock().unwrap().push(format!("{call} (DATABASE_URL={database}):\n  {line}"));
            }
            fs::remove_file(&log).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || work(worker));
        }
    });
    let mut found = found.into_inner().unwrap();
    left(folders.path(), &mut found);
    left(&house.path("home/jobs"), &mut found);
    left(&house.path("home/runs"), &mut found);
    found
}

/// What a command is called with.
struct Call {
    words: Vec<String>,
    database: String,
}

/// As people write them, rightly and wrongly; the first works.
fn databases(url: &str) -> Vec<String> {
    vec![
        format!("{url}&password={SECRET}"),
        format!("postgres://ann:{SECRET}@127.0.0.1:1/palette?PassWord={SECRET}"),
        format!("postgresql:ann:{SECRET}@127.0.0.1:1/palette"),
        format!("ann:{SECRET}@127.0.0.1:1/palette"),
        format!("host=127.0.0.1 port=1 user=ann PASSWORD={SECRET}"),
    ]
}

fn addresses(server: u16) -> Vec<String> {
    vec![
        format!("http://ann:{SECRET}@127.0.0.1:{server}/x.tar?X-Amz-Signature={SECRET}&t={SECRET}"),
        format!("s3://ann:{SECRET}@bucket/x?Secret={SECRET}"),
        format!("postgres://ann:{SECRET}@127.0.0.1:1/palette?PassWord={SECRET}"),
        format!("postgres:ann:{SECRET}@127.0.0.1:1/palette"),
        format!("host=127.0.0.1 port=1 user=ann PASSWORD={SECRET}"),
    ]
}

/// All calls of a program and of the commands below it.
fn calls(program: &Command, databases: &[String], addresses: &[String]) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut databases_in_turn = databases[1..].iter().cycle();
    let mut in_turn = addresses.iter().cycle();
    let mut commands = vec![(vec![], program.clone())];
    while let Some((path, command)) = commands.pop() {
        for below in command.get_subcommands() {
            let path = path.iter().cloned().chain([below.get_name().to_owned()]).collect();
            commands.push((path, below.clone()));
        }
        let needed: Vec<&Arg> =
            command.get_arguments().filter(|argument| argument.is_required_set()).collect();
        let call = |more: Option<(&Arg, &str)>, value: &str, database: &str| {
            let own = needed.iter().filter(|own| more.is_none_or(|(more, _)| more != **own));
            let own = own.map(|own| written(own, &possible(own).unwrap_or(value.to_owned())));
            let more = more.map(|(argument, value)| written(argument, value));
            let words = path.iter().cloned().chain(own.chain(more).flatten()).collect();
            Call { words, database: database.to_owned() }
        };
        for database in databases.iter().take(1).chain(databases_in_turn.next()) {
            calls.push(call(None, in_turn.next().unwrap(), database));
        }
        for argument in command.get_arguments() {
            let takes = argument.get_action().takes_values();
            if takes || argument.get_long() == Some("json") {
                calls.push(call(Some((argument, in_turn.next().unwrap())), "x", &databases[0]));
            }
        }
    }
    calls
}

fn possible(argument: &Arg) -> Option<String> {
    Some(argument.get_possible_values().first()?.get_name().to_owned())
}

fn written(argument: &Arg, value: &str) -> Vec<String> {
    let name = argument.get_long().map(|long| format!("--{long}"));
    match name {
        Some(name) if !argument.get_action().takes_values() => vec![name],
        Some(name) => vec![format!("{name}={}{value}", key(argument))],
        None if argument.is_last_set() => vec!["--".to_owned(), value.to_owned()],
        None => vec![value.to_owned()],
    }
}

/// What stands before the value where an argument is `NAME=VALUE`.
fn key(argument: &Arg) -> &'static str {
    let names = argument.get_value_names().unwrap_or_default();
    if names.iter().any(|name| name.contains('=')) { "name=" } else { "" }
}

/// Runs a command to its end, or ends it; its output goes to the file.
fn run(command: &mut std::process::Command, log: &Path) {
    let file = File::create(log).unwrap();
    let output = file.try_clone().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(output).stderr(file).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > ENOUGH {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lines of a file that show it.
fn lines(file: &Path) -> Vec<String> {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let shows = |line: &&str| line.contains(SECRET) || line.contains(ENCODED);
    text.lines().filter(shows).map(str::to_owned).collect()
}

/// Adds the files below a folder that hold it.
fn left(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            left(&path, found);
        } else if let Some(line) = lines(&path).first() {
            found.push(format!("{}: {:.300}", path.display(), line.escape_debug().to_string()));
        }
    }
}

/// A server of the web that has nothing; its port.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 16 << 10]);
                let nothing =
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(nothing.as_bytes());
            });
        }
    });
    port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_a_secret_is_found() {
        let house = House::new();
        house.ok("scheduler", &["up"]);
        let work = Command::new("work").arg(clap::arg!(<FILE>)).arg(clap::arg!(--seed <N>));
        let program = Command::new("demo").subcommand(work);
        let shell = |script: &'static str| {
            let house = &house;
            move |call: &[String]| {
                let mut command = house.shell(script);
                command.arg("sh").args(call);
                command
            }
        };
        let found = |script| leaks(&house, &program, 1, shell(script)).len();
        assert_eq!(found("true"), 0);
        assert_eq!(found("echo $DATABASE_URL >&2"), 2 * 2 + 2, "two commands, two options");
        assert_eq!(found("echo $3"), 1, "an option in one of them");
        assert_eq!(found("echo $PGPASSWORD > kept"), 6, "what is left behind");
    }
}
