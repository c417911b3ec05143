//! Alerts from the database to receivers on real sockets: once each, whatever server finds them, with receivers that
//! refuse, hang or redirect, and with servers that are killed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use registry::{Database, Job, JobKind, NewJob};
use serde_json::{Value, json};
use testkit::{ControlRoom, House, Signal, until};

/// A request that a receiver has got.
#[derive(Clone, Debug)]
struct Got {
    path: String,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What a receiver does with its number-th request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Status(u16),
    /// Reads it and never answers.
    Hangs,
}

/// An HTTP server that keeps what it is sent.
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    fn new(does: impl Fn(usize, &Got) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (kept, does) = (Arc::clone(&got), Arc::new(does));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, kept, does) = (stream.unwrap(), Arc::clone(&kept), Arc::clone(&does));
                std::thread::spawn(move || answer(stream, &kept, &*does));
            }
        });
        Self { port, got }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn answer(mut stream: TcpStream, kept: &Mutex<Vec<Got>>, does: &dyn Fn(usize, &Got) -> Does) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let got = Got { path, head, body: String::from_utf8(body).unwrap() };
    let number = {
        let mut all = kept.lock().unwrap();
        all.push(got.clone());
        all.len()
    };
    match does(number, &got) {
        Does::Status(status) => {
            let elsewhere = if status == 302 { "Location: /elsewhere\r\n" } else { "" };
            let text = format!(
                "HTTP/1.1 {status} X\r\n{elsewhere}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(text.as_bytes());
        }
        // Until the sender is gone.
        Does::Hangs => {
            let _ = reader.read(&mut [0]);
        }
    }
}

/// An SMTP server that keeps the mail that it is sent.
fn mail_server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept: Arc<Mutex<Vec<String>>> = Arc::default();
    let mails = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, kept) = (stream.unwrap(), Arc::clone(&kept));
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes());
                say("220 test").unwrap();
                let mut mail = String::new();
                while let Some(Ok(line)) = lines.next() {
                    let word = line.split([' ', ':']).next().unwrap().to_ascii_uppercase();
                    mail += &format!("{line}\n");
                    let said = match word.as_str() {
                        "EHLO" | "HELO" => say("250 test"),
                        "MAIL" | "RCPT" => say("250 good"),
                        "DATA" => {
                            say("354 go on").unwrap();
                            let text = lines.by_ref().map(Result::unwrap);
                            mail +=
                                &text.take_while(|line| line != ".").collect::<Vec<_>>().join("\n");
                            kept.lock().unwrap().push(std::mem::take(&mut mail));
                            say("250 taken")
                        }
                        "QUIT" => say("221 bye"),
                        _ => say("502 what?"),
                    };
                    if said.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, mails)
}

/// A house with a database, and targets in a file: name, kind, address.
fn set_up(
    head: &str,
    targets: &[(&str, &str, String)],
) -> (House, Database, tokio::runtime::Runtime) {
    let house = House::new();
    let mut file = format!("{head}\n");
    for (name, kind, address) in targets {
        std::fs::write(house.path(&format!("{name}.secret")), format!("{address}\n")).unwrap();
        file += &format!(
            "[[target]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl_file = \"{name}.secret\"\n"
        );
    }
    std::fs::write(house.path("alerts.toml"), file).unwrap();
    let runtime = registry::runtime().unwrap();
    house.ok("scheduler", &["up"]);
    let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
    (house, db, runtime)
}

fn room(house: &House) -> ControlRoom {
    house.room(&["--alerts", house.path("alerts.toml").to_str().unwrap()])
}

fn rule(room: &ControlRoom, rule: &Value) {
    let answer = room.post("/api/v1/alerts/rules", rule);
    assert_eq!(answer.status, 201, "{}", answer.json());
}

/// A job that has failed for good.
fn failed(
    house: &House,
    db: &Database,
    runtime: &tokio::runtime::Runtime,
    name: &str,
    reason: &str,
) -> Job {
    let new = NewJob::new(JobKind::Train, "fails", json!({}));
    let job = runtime.block_on(db.submit(new)).unwrap().job;
    let reason = reason.replace('\'', "''");
    house.sql(&format!(
        "update jobs set name = '{name}', state = 'failed', attempt = 1, ended_at = now(), reason = E'{reason}'
         where id = '{}'",
        job.id
    ));
    job
}

/// The deliveries of all events: target and state.
fn states(room: &ControlRoom) -> Vec<(String, String, Value)> {
    let events = room.json("/api/v1/alerts")["events"].take();
    let of = |event: &Value| event["deliveries"].as_array().unwrap().clone();
    let all = events.as_array().unwrap().iter().flat_map(of);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (text(&one["target"]), text(&one["state"]), one["error"].clone())).collect()
}

#[test]
fn what_is_found_is_told_once_to_each_in_its_own_words() {
    let receiver = Receiver::new(|_, _| Does::Status(200));
    let (port, mails) = mail_server();
    let mail = format!(
        "[[target]]\nname = \"mail\"\nkind = \"mail\"\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         from = \"palette@example.org\"\nto = [\"ann@example.org\"]\n"
    );
    let targets = [
        ("plain", "json", receiver.url("/plain/SECRET")),
        ("phone", "ntfy", receiver.url("/lab/SECRET")),
        ("team", "slack", receiver.url("/slack/SECRET")),
        ("chat", "mattermost", receiver.url("/chat/SECRET")),
    ];
    let (house, db, runtime) =
        set_up(&format!("address = \"https://lab.example\"\n{mail}"), &targets);
    // Two servers look at the same time.
    let first = room(&house);
    let second = room(&house);
    failed(&house, &db, &runtime, "before-the-rule", "old");
    rule(&first, &json!({"kind": "failed", "targets": ["plain", "phone", "team", "chat", "mail"]}));
    let reason = r"exit 1\r\nBcc: all@example.org\r\n\r\n<!channel> @here [x](http://evil.example)";
    let job = failed(&house, &db, &runtime, "<!channel> @here & co", reason);
    until("all are sent", || {
        let states = states(&first);
        states.len() == 5 && states.iter().all(|(_, state, _)| state == "sent")
    });

    let got = receiver.got();
    assert_eq!(got.len(), 4, "{got:?}");
    let to = |path: &str| got.iter().find(|got| got.path == path).unwrap().json();
    let plain = to("/plain/SECRET");
    assert_eq!(plain["kind"], "failed");
    assert_eq!(plain["job"], job.id.to_string());
    assert_eq!(plain["link"], format!("https://lab.example/runs/{}", job.short));
    // ntfy is sent to what is above the topic, with the topic in the message.
    let ntfy = to("/lab");
    assert_eq!(ntfy["topic"], "SECRET");
    assert!(!ntfy["title"].as_str().unwrap().contains('\n'));
    let slack = to("/slack/SECRET").to_string();
    assert!(!slack.contains("@here") || slack.contains("plain_text"), "{slack}");
    let text = to("/slack/SECRET")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("&lt;!channel&gt;") && !text.contains("@here"), "{text}");
    let chat = to("/chat/SECRET")["text"].as_str().unwrap().to_owned();
    assert!(!chat.contains("@here") && !chat.contains("](http"), "{chat}");
    let mails = mails.lock().unwrap().clone();
    assert_eq!(mails.len(), 1);
    let (head, _) = mails[0].split_once("\n\n").unwrap();
    assert!(head.contains("Subject: [palette] failed: <!channel>"), "{head}");
    assert!(!head.contains("Bcc") && head.contains("Message-ID: <palette-alert-"), "{head}");

    // What happened before the rule was not told, and secrets are nowhere.
    let events = first.json("/api/v1/alerts").to_string();
    assert!(!events.contains("before-the-rule") && !events.contains("SECRET"), "{events}");
    let page = String::from_utf8(second.get("/alerts").body).unwrap();
    assert!(
        page.contains("&lt;!channel&gt;")
            && !page.contains("<!channel>")
            && !page.contains("SECRET")
    );
    let rows = house.sql("select d::text || e::text || r::text from alert_deliveries d, alert_events e, alert_rules r");
    assert!(!rows.contains("SECRET"), "{rows}");
    assert!(!house.read("room.log").contains("SECRET"));
}

#[test]
fn receivers_that_refuse_are_tried_again_and_given_up_in_the_end() {
    let refuses = |number, got: &Got| match got.path.as_str() {
        "/slow" if number > 2 => Does::Status(204),
        "/moved" => Does::Status(302),
        _ => Does::Status(500),
    };
    let receiver = Receiver::new(refuses);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let targets = [
        ("slow", "json", receiver.url("/slow")),
        ("moved", "json", receiver.url("/moved")),
        ("gone", "json", format!("http://{nobody}/SECRET")),
    ];
    let (house, db, runtime) = set_up("first_retry_seconds = 0.1\ngive_up_hours = 0.003", &targets);
    let room = room(&house);
    rule(&room, &json!({"kind": "failed", "targets": ["slow", "moved", "gone"]}));
    failed(&house, &db, &runtime, "lost", "no luck");
    let state = |name: &str| {
        let states = states(&room);
        let found = states.into_iter().find(|(target, ..)| target == name);
        found.map(|(_, state, error)| (state, error.to_string())).unwrap_or_default()
    };
    until("the slow one takes it", || state("slow").0 == "sent");
    until("the others are given up", || {
        state("moved").0 == "given up" && state("gone").0 == "given up"
    });
    assert!(
        state("moved").1.contains("redirects (302), which is not followed"),
        "{:?}",
        state("moved")
    );
    assert!(
        state("gone").1.contains("refused") && !state("gone").1.contains("SECRET"),
        "{:?}",
        state("gone")
    );
    assert!(receiver.got().iter().all(|got| got.path != "/elsewhere"));
    assert!(!house.read("room.log").contains("SECRET"));
    let page = String::from_utf8(room.get("/alerts").body).unwrap();
    assert!(page.contains("gone: given up") && page.contains("slow: sent"));
}

#[test]
fn a_server_that_is_killed_while_it_sends_loses_no_message() {
    let receiver = Receiver::new(|number, _| match number {
        1 => Does::Hangs,
        _ => Does::Status(200),
    });
    let (house, db, runtime) = set_up("", &[("hook", "json", receiver.url("/hook"))]);
    let first = room(&house);
    rule(&first, &json!({"kind": "failed", "targets": ["hook"]}));
    failed(&house, &db, &runtime, "unlucky", "no luck");
    until("it sends", || receiver.got().len() == 1);
    let mut process = first.process;
    process.signal(Signal::SIGKILL);
    assert_eq!(process.end(), None);

    let second = room(&house);
    assert_eq!(states(&second)[0].1, "waiting", "it is the first one's for a minute");
    // The minute is over.
    house.sql("update alert_deliveries set next_at = now()");
    until("it is sent", || states(&second)[0].1 == "sent");
    let got = receiver.got();
    assert_eq!(got.len(), 2);
    let id = |got: &Got| got.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(id(&got[0]), id(&got[1]), "a receiver can tell that it is the same");
    assert!(
        got[1].head.to_ascii_lowercase().contains(&format!("idempotency-key: {}", id(&got[1])))
    );
}

#[test]
fn every_kind_of_rule_finds_what_it_is_for() {
    let receiver = Receiver::new(|_, _| Does::Status(200));
    let (house, db, runtime) = set_up("", &[("hook", "json", receiver.url("/hook"))]);
    let room = room(&house);
    let answer = room.post("/alerts/usual", &json!({}));
    assert_eq!(answer.status, 303);
    assert_eq!(room.json("/api/v1/alerts")["rules"].as_array().unwrap().len(), 7);
    rule(&room, &json!({"kind": "sweep", "amount": 2, "targets": ["hook"], "pauses": true}));
    for bad in [
        json!({"kind": "failed", "targets": ["nobody-knows"]}),
        json!({"kind": "failed", "targets": ["hook"], "amount": 3}),
        json!({"kind": "disk", "targets": ["hook"], "amount": 90}),
        json!({"kind": "pigeon", "targets": ["hook"]}),
        json!({"kind": "failed", "targets": []}),
    ] {
        assert_eq!(room.post("/api/v1/alerts/rules", &bad).status, 400, "{bad}");
    }

    // A sweep of four whose first two runs fail.
    let submit = |name: &str| {
        runtime.block_on(db.submit(NewJob::new(JobKind::Train, name, json!({})))).unwrap().job
    };
    house.sql("insert into sweeps (id, name, owner) values ('5eeb0000-0000-4000-8000-000000000000', 'grid', 'ann')");
    let runs: Vec<Job> = (0..4).map(|number| submit(&format!("grid-{number}"))).collect();
    let ids: Vec<String> = runs.iter().map(|job| format!("'{}'", job.id)).collect();
    house.sql(&format!(
        "update jobs set sweep_id = '5eeb0000-0000-4000-8000-000000000000', sweep_point = '{{}}' where id in ({})",
        ids.join(",")
    ));
    house.sql(&format!(
        "update jobs set state = 'failed', ended_at = now(), reason = 'no luck' where id in ({})",
        ids[..2].join(",")
    ));
    // A worker that was not seen for a minute, with a full disk; one job that nobody can do has waited for an hour.
    house.sql(
        "insert into workers (id, name, host, pid, slots, gpus, last_seen_at) values
             ('00000000-0000-4000-8000-000000000001', 'w1', 'node1', 1, 1, 0, now());
         insert into worker_samples (worker_id, slots_busy, slots, disk_left, disk)
             values ('00000000-0000-4000-8000-000000000001', 0, 1, 5, 100)",
    );
    let waits = submit("for-nobody");
    house.sql(&format!("update jobs set created_at = now() - interval '1 hour', run_after = now() - interval '1 hour' where id = '{}'", waits.id));
    // A run that trains, of which nothing was heard for an hour.
    let stuck = submit("stuck");
    house.sql(&format!(
        "insert into experiments (id, name) values ('{0}', 'stuck');
         insert into runs (id, experiment_id, kind, name, owner, config, config_digest, seed, uri, total_steps, best_metric)
             values ('{0}', '{0}', 'train', 'stuck', 'ann', '{{\"train\": {{\"log_every\": 10}}}}', 'd', 1, '/x', 100, 'loss');
         update jobs set state = 'running', run_id = id, attempt = 1, progress_done = 50, progress_total = 100,
             progress_at = now() - interval '1 hour', lease_expires_at = now() + interval '1 hour',
             worker_id = '00000000-0000-4000-8000-000000000001' where id = '{0}';
         insert into attempts (job_id, number, worker_id, host, started_at)
             values ('{0}', 1, '00000000-0000-4000-8000-000000000001', 'node1', now() - interval '70 minutes')",
        stuck.id
    ));
    let told = |kind: &str| {
        let kinds: Vec<String> = receiver
            .got()
            .iter()
            .map(|got| got.json()["kind"].as_str().unwrap().to_owned())
            .collect();
        kinds.iter().filter(|known| *known == kind).count()
    };
    until("each is told", || {
        ["failed", "sweep", "lost", "disk", "nobody", "stuck"].iter().all(|kind| told(kind) > 0)
    });
    // The losses of a run are looked at less often; what decides is tried with the registry.
    let text = |kind: &str| {
        let got = receiver.got();
        let found = got.iter().map(Got::json).find(|message| message["kind"] == kind).unwrap();
        format!("{} | {}", found["title"].as_str().unwrap(), found["text"].as_str().unwrap())
    };
    assert!(
        text("stuck").contains("at step 50")
            && text("stuck").contains("until then one was every 2 min"),
        "{}",
        text("stuck")
    );
    assert!(text("disk").contains("5 B left on node1"), "{}", text("disk"));
    assert!(text("lost").contains("worker w1 on node1"), "{}", text("lost"));
    until("the rest of the sweep is paused", || {
        house.sql("select count(*) from jobs where state = 'paused' and reason like '2 runs of its sweep%'").trim() == "2"
    });
    assert_eq!(told("sweep"), 1, "the usual rule waits for three");
    assert_eq!(told("failed"), 2);
}
