//! A flood of a real worker's metrics endpoint while it has jobs: it costs none of them anything.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use registry::{Job, JobState};
use testkit::until;

use crate::database::{job, row, set_up, state, submit};

/// What the endpoint takes at once.
const CONNECTIONS: usize = 64;
const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
const HALF: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\nX-a: ";
const ONCE: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Opens connections, sends the text on each until it takes no more, and never reads. Some hundred stay open.
fn deaf(address: SocketAddr, sent: &str, end: &AtomicBool) {
    let mut open = VecDeque::new();
    while !end.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write_all(sent.as_bytes());
            open.push_back(stream);
        }
        if open.len() > 200 {
            open.pop_front();
        }
        // Hundreds a second, and the rest of the machine is for the worker.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One scrape: whether it was answered. Else its connection was closed or refused; it never waits for ever.
fn scrape(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    if stream.write_all(ONCE.as_bytes()).is_err() {
        return false;
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer.starts_with(b"HTTP/1.1 200"),
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer and no end");
            false
        }
    }
}

#[test]
fn a_flood_of_the_metrics_costs_no_job_anything() {
    let (house, runtime, db) = set_up();
    house.script(
        "trainer",
        r#"case $PALETTE_ATTEMPT in "$(cat "$HOUSE/long")":*)
            until test -e "$HOUSE/go"; do sleep 0.05; done;; esac"#,
    );
    let long = submit(&runtime, &db, job("long"));
    std::fs::write(house.path("long"), long.id.to_string()).unwrap();
    let line = format!(
        "ulimit -n 256; exec '{}' worker --poll 0.1 --slots 2 --metrics 0",
        testkit::program("scheduler").display()
    );
    let worker = house.start("report", house.shell(&line));
    let lease = || row(&runtime, &db, &long).lease_expires_at;
    until("the long job runs", || lease().is_some());
    let report = house.read("report");
    let (_, rest) = report.split_once("metrics at http://").unwrap();
    let address: SocketAddr = rest.split_once('/').unwrap().0.parse().unwrap();
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", worker.id())).map_or(0, |folder| folder.count())
    };
    let (quiet, began) = (files(), lease().unwrap());
    let jobs: Vec<Job> =
        (0..20).map(|number| submit(&runtime, &db, job(&format!("job-{number}")))).collect();

    let (end, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let many = REQUEST.repeat(2000);
    let mut most = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| deaf(address, HALF, &end));
        scope.spawn(|| deaf(address, &many, &end));
        for _ in 0..2 {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    answered.fetch_add(usize::from(scrape(address)), Ordering::Relaxed);
                }
            });
        }
        until("the flood was long and all the others are done", || {
            most = most.max(files());
            answered.load(Ordering::Relaxed) > 300
                && lease().is_some_and(|now| now > began + time::Duration::SECOND * 6)
                && jobs.iter().all(|job| state(&runtime, &db, job) == JobState::Succeeded)
        });
        end.store(true, Ordering::Relaxed);
    });
    std::fs::write(house.path("go"), "").unwrap();
    until("the long one ends", || state(&runtime, &db, &long) == JobState::Succeeded);
    for job in jobs.iter().chain([&long]) {
        let row = row(&runtime, &db, job);
        assert_eq!((row.attempt, row.attempts_used), (1, 0), "{}", row.name);
    }
    assert!(most > quiet + CONNECTIONS / 2, "{most} files, {quiet} before: it was no flood");
    // Beside the connections, what a second job needs, and a few more of the database.
    assert!(most <= quiet + CONNECTIONS + 32, "{most} files, {quiet} before");
    assert!(scrape(address), "{}", house.read("report"));
    assert!(!house.read("report").contains("ailing"), "{}", house.read("report"));
}
