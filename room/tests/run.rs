//! The pages of runs and jobs, and what runs now: their buttons in every state, the log as it grows, a server that is
//! started again under an open page, and what strangers write.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::process::Command;

use registry::{Database, Job, JobKind, JobState, NewJob};
use serde_json::{Value, json};
use testkit::{Browser, ControlRoom, House, http};
use tokio::runtime::Runtime;

/// Markup, sequences of a terminal and characters that turn text around, where they are not expected.
const HOSTILE: &str = "<script>document.title='taken'</script><img src=x onerror=alert(1)>";

/// Sends a form as a page without scripts does.
fn send(room: &ControlRoom, path: &str, fields: &[(&str, &str)]) -> http::Answer {
    let (cookie, csrf) = room.session();
    let mut body = format!("csrf={csrf}");
    for (name, value) in fields {
        body += &format!("&{name}={}", encoded(value));
    }
    let headers =
        [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    http::ask(&room.address, "POST", path, &headers, Some(body.as_bytes()))
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes().fold(String::new(), |all, byte| match plain(byte) {
        true => all + &(byte as char).to_string(),
        false => all + &format!("%{byte:02X}"),
    })
}

fn body(answer: &http::Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// A house whose worker finds scripts alone, and its database.
struct Queue {
    house: House,
    runtime: Runtime,
    db: Database,
}

impl Queue {
    fn new() -> Self {
        let house = House::with_scripts();
        // Starts the private Postgres.
        house.ok("scheduler", &["jobs"]);
        let runtime = registry::runtime().unwrap();
        let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
        Self { house, runtime, db }
    }

    fn job(&self, name: &str) -> Job {
        let new = NewJob::new(JobKind::Train, name, json!({ "name": name }));
        self.runtime.block_on(self.db.submit(new)).unwrap().job
    }

    fn state(&self, job: &Job) -> JobState {
        self.runtime.block_on(self.db.job(job.id)).unwrap().state
    }

    /// A pipe that an attempt waits at until [`Queue::open`].
    fn gate(&self, name: &str) {
        assert!(Command::new("mkfifo").arg(self.house.path(name)).status().unwrap().success());
    }

    /// Lets an attempt go on that waits there.
    fn open(&self, name: &str) {
        let gate = std::fs::File::options().write(true).open(self.house.path(name));
        gate.unwrap().write_all(b"go\n").unwrap();
    }
}

/// The buttons that can be pressed.
fn pressable(room: &ControlRoom, job: &Job) -> Vec<String> {
    let story = room.json(&format!("/api/v1/jobs/{}", job.short));
    let buttons = story["buttons"].as_array().unwrap();
    let can = buttons.iter().filter(|button| button["refused"].is_null());
    can.map(|button| button["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn buttons_do_what_the_state_allows_and_say_why_not() {
    let queue = Queue::new();
    queue.house.script("trainer", "cat \"$HOUSE/gate\" > /dev/null");
    queue.gate("gate");
    let room = queue.house.room(&[]);
    let job = queue.job("first");
    let page = format!("/jobs/{}", job.short);
    let press = |action: &str| send(&room, &format!("{page}/do"), &[("action", action)]);
    let done = |action: &str, state: JobState| {
        let answer = press(action);
        assert_eq!(answer.status, 303, "{action}: {}", body(&answer));
        let said = room.get(answer.header("location"));
        assert!(body(&said).contains("role=\"status\""), "{action}: {}", body(&said));
        assert_eq!(queue.state(&job), state, "{action}");
    };
    let refused = |action: &str, why: &str| {
        let before = queue.state(&job);
        let answer = press(action);
        assert_eq!(answer.status, 409, "{action}: {}", body(&answer));
        assert!(body(&answer).contains("Not done: "), "{action}");
        assert!(body(&answer).contains(why), "{action}: {}", body(&answer));
        assert_eq!(queue.state(&job), before, "{action}");
    };

    assert_eq!(pressable(&room, &job), ["pause", "cancel"]);
    refused("archive", "only what has ended is archived");
    done("pause", JobState::Paused);
    assert_eq!(pressable(&room, &job), ["resume", "cancel"]);
    done("resume", JobState::Queued);
    let priority = |value: &str| {
        send(&room, &format!("{page}/do"), &[("action", "priority"), ("priority", value)])
    };
    assert_eq!(priority("7").status, 303);
    assert_eq!(queue.runtime.block_on(queue.db.job(job.id)).unwrap().priority, 7);
    assert_eq!(priority("high").status, 400);

    let mut worker = queue.house.worker("worker.log", &[]);
    worker.says("attempt 1");
    testkit::until("it runs", || queue.state(&job) == JobState::Running);
    testkit::until("the page knows", || {
        pressable(&room, &job) == ["pause", "cancel", "cancel_now"]
    });
    done("pause", JobState::Running);
    let story = room.json(&format!("/api/v1/jobs/{}", job.short));
    assert_eq!(story["asked"], "pause");
    assert!(pressable(&room, &job).contains(&"resume".to_owned()));
    done("resume", JobState::Running);
    done("cancel_now", JobState::Cancelled);
    assert_eq!(pressable(&room, &job), ["retry", "archive"]);
    refused("pause", "cancelled");
    done("archive", JobState::Cancelled);
    done("unarchive", JobState::Cancelled);
    // The worker may have it already.
    assert_eq!(press("retry").status, 303);
    worker.says("attempt 2");
    queue.open("gate");
    testkit::until("it is done", || queue.state(&job) == JobState::Succeeded);
    testkit::until("the page knows", || pressable(&room, &job) == ["archive"]);
    for action in ["pause", "resume", "retry", "cancel", "cancel_now"] {
        refused(action, "succeeded");
    }
    assert_eq!(press("explode").status, 400);
    assert_eq!(room.get("/jobs/nobody").status, 404);
}

#[test]
fn the_api_does_what_the_buttons_do() {
    let queue = Queue::new();
    let room = queue.house.room(&[]);
    let job = queue.job("first");
    let path = format!("/api/v1/jobs/{}/actions", job.short);
    let act = |action: Value| room.post(&path, &action);
    assert_eq!(act(json!({ "action": "pause" })).json()["state"], "paused");
    assert_eq!(act(json!({ "action": "priority", "priority": -2 })).json()["priority"], -2);
    assert_eq!(
        act(json!({ "action": "tag", "tags": ["a", "b"] })).json()["tags"],
        json!(["a", "b"])
    );
    assert_eq!(act(json!({ "action": "tag", "tags": ["b"] })).json()["tags"], json!(["b"]));
    assert_eq!(act(json!({ "action": "note", "note": "mine" })).json()["note"], "mine");
    assert_eq!(act(json!({ "action": "rename", "name": "second" })).json()["name"], "second");
    let answer = act(json!({ "action": "rename", "name": "a/b" }));
    assert_eq!(answer.status, 400, "{}", body(&answer));
    assert_eq!(act(json!({ "action": "retry" })).status, 409);
    assert!(matches!(act(json!({ "action": "explode" })).status, 400 | 422));
    // Nothing is changed without the token of a session.
    let (cookie, _) = room.session();
    let headers = [("cookie", cookie.as_str()), ("content-type", "application/json")];
    let answer =
        http::ask(&room.address, "POST", &path, &headers, Some(b"{\"action\":\"resume\"}"));
    assert_eq!(answer.status, 403);
    assert_eq!(queue.state(&job), JobState::Paused);
}

#[test]
fn what_strangers_write_is_text() {
    let queue = Queue::new();
    queue.house.script(
        "trainer",
        "printf '%s\\n' \"$(cat \"$HOUSE/hostile\")\"; printf '\\033[31mred\\033[0m\\n'; exit 1",
    );
    std::fs::write(queue.house.path("hostile"), HOSTILE).unwrap();
    let room = queue.house.room(&[]);
    // A name may have brackets, but no spaces.
    let job = queue.job("<b>bold</b>".replace('/', "|").as_str());
    let page = format!("/jobs/{}", job.short);
    assert_eq!(
        send(&room, &format!("{page}/do"), &[("action", "note"), ("note", HOSTILE)]).status,
        303
    );
    let mut worker = queue.house.worker("worker.log", &["--drain"]);
    worker.end();
    assert_eq!(queue.state(&job), JobState::Failed);
    for path in [page.as_str(), "/", &format!("{page}?done=%3Cscript%3E")] {
        let text = body(&room.get(path));
        assert!(!text.contains("<script>document") && !text.contains("<img src=x"), "{path}");
        assert!(!text.contains("<b>bold"), "{path}");
        assert!(text.contains("&lt;b&gt;bold"), "{path}: {text}");
    }
    let piece = room.json(&format!("/api/v1/jobs/{}/log", job.short));
    assert_eq!(piece["text"], format!("{HOSTILE}\nred\n"));
    assert_eq!(piece["ended"], true);
    let text = room.get(&format!("{page}/log.txt"));
    assert!(text.header("content-type").starts_with("text/plain"));
    assert!(text.header("content-disposition").starts_with("attachment"));
    let Some(browser) = Browser::start() else { return };
    browser.open(&room.url(&page));
    browser.until("document.getElementById('log').textContent.includes('red')");
    assert_eq!(browser.run("return document.title.includes('taken')"), json!(false));
    assert_eq!(
        browser.run("return document.querySelectorAll('main script, main img').length"),
        json!(0)
    );
}

#[test]
fn a_log_that_leads_out_of_the_home_is_not_read() {
    let queue = Queue::new();
    queue.house.script("trainer", "echo printed");
    let room = queue.house.room(&[]);
    let job = queue.job("first");
    queue.house.worker("worker.log", &["--drain"]).end();
    std::fs::write(queue.house.path("secret"), "secret\n").unwrap();
    let secret = queue.house.path("secret").display().to_string();
    queue.house.sql(&format!("update attempts set log_path = '{secret}'"));
    let piece = room.json(&format!("/api/v1/jobs/{}/log", job.short));
    assert_eq!(
        (piece["source"].as_str(), piece["text"].as_str()),
        (Some("tail"), Some("printed\n"))
    );
    let text = room.get(&format!("/jobs/{}/log.txt", job.short));
    assert_eq!(body(&text), "printed\n");
}

#[test]
fn a_page_follows_its_job_and_outlives_its_server() {
    let Some(browser) = Browser::start() else { return };
    let queue = Queue::new();
    queue.house.script(
        "trainer",
        "echo begun; cat \"$HOUSE/one\" > /dev/null; echo further; cat \"$HOUSE/two\" > /dev/null; echo last",
    );
    queue.gate("one");
    queue.gate("two");
    let mut room = queue.house.room(&[]);
    let job = queue.job("first");
    let url = room.url(&format!("/jobs/{}", job.short));
    browser.open(&url);
    let log = |text: &str| {
        browser.until(&format!("document.getElementById('log').textContent.includes('{text}')"));
    };
    let state = |name: &str| {
        browser
            .until(&format!("document.querySelector('#standing .state').textContent === '{name}'"));
    };
    state("queued");
    // Opened before anything was taken: the page is never loaded again.
    browser.run("window.same = true");
    let _worker = queue.house.worker("worker.log", &[]);
    state("running");
    log("begun");
    queue.open("one");
    log("further");
    let address = room.address.clone();
    room.process.kill();
    browser.until("!document.getElementById('lost').hidden");
    queue.open("two");
    let room = queue.house.room_at(&address, &[]);
    state("succeeded");
    log("last");
    browser.until("document.getElementById('lost').hidden");
    let printed = browser.run("return document.getElementById('log').textContent");
    assert_eq!(printed, json!("begun\nfurther\nlast\n"));
    assert_eq!(browser.run("return window.same"), json!(true));
    drop(room);
}

#[test]
fn now_shows_what_failed_until_it_was_seen() {
    let queue = Queue::new();
    queue.house.script("trainer", "echo 'error: no luck today' >&2; exit 2");
    let room = queue.house.room(&[]);
    let page =
        |cookie: &str| body(&http::ask(&room.address, "GET", "/", &[("cookie", cookie)], None));
    let (cookie, csrf) = room.session();
    assert!(page(&cookie).contains("Nothing runs and nothing waits"));
    let job = queue.job("first");
    testkit::until("the job waits", || page(&cookie).contains("no worker is there"));
    queue.house.worker("worker.log", &["--drain"]).end();
    testkit::until("the failure is shown", || page(&cookie).contains("Failed since you looked"));
    let text = page(&cookie);
    assert!(text.contains("no luck today") && text.contains(&job.short), "{text}");
    let overview = room.json("/api/v1/now");
    assert_eq!(overview["failed"][0]["short"], job.short.as_str());
    assert_eq!(room.json("/api/v1/now?since=2999-01-01T00:00:00Z")["failed"], json!([]));

    let form = format!("csrf={csrf}");
    let headers =
        [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let answer = http::ask(&room.address, "POST", "/seen", &headers, Some(form.as_bytes()));
    assert_eq!(answer.status, 303);
    let seen = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    // Failures of the same second count as seen only where they came before it.
    queue.house.sql("update jobs set ended_at = ended_at - interval '2 seconds'");
    testkit::until("it is seen", || {
        !page(&format!("{cookie}; {seen}")).contains("Failed since you looked")
    });
}

#[test]
fn a_run_is_told_submitted_again_and_made_longer() {
    let house = House::new();
    house.trained();
    let room = house.room(&[]);
    let run = house.json("scheduler", &["runs", "--json"])[0]["short"].as_str().unwrap().to_owned();
    let story = room.json(&format!("/api/v1/runs/{run}"));
    assert_eq!((story["last_step"].as_i64(), story["total_steps"].as_i64()), (Some(5), Some(5)));
    assert_eq!(story["datasets"][0]["role"], "train");
    let last = story["checkpoints"].as_array().unwrap().last().unwrap();
    assert!(last["needed"].as_array().unwrap().contains(&json!("end of the run")), "{last}");

    let page = body(&room.get(&format!("/runs/{run}")));
    assert!(
        page.contains("<span class=\"default\">weight = 1.0") || page.contains("<span>steps = 5"),
        "{page}"
    );
    assert!(page.contains("<span>steps = 5\n"), "steps are no default");
    assert!(page.contains("<span class=\"default\">explode = 20.0\n"), "what nobody said is");
    assert!(page.contains("class=\"lineage\""));

    // The form keeps what was typed, and says what is wrong.
    let again = format!("/runs/{run}/again");
    let form = body(&room.get(&again));
    assert!(form.contains("learning_rate = 0.001"), "{form}");
    let toml = house.ok("scheduler", &["show", &run, "--config"]);
    let wrong = [("config", toml.as_str()), ("set", "train.stepz=7"), ("nonce", "n")];
    let answer = send(&room, &again, &wrong);
    assert_eq!(answer.status, 400);
    let said = body(&answer);
    assert!(
        said.contains("train.stepz is not a known key") && said.contains("train.steps"),
        "{said}"
    );
    assert!(said.contains("train.stepz=7</textarea>"), "{said}");
    assert!(!said.contains("palette-room-"), "{said}");

    let right = [("config", toml.as_str()), ("set", "train.steps=7\nname=longer"), ("nonce", "n")];
    let answer = send(&room, &again, &right);
    assert_eq!(answer.status, 303, "{}", body(&answer));
    let made = answer.header("location").to_owned();
    // Pressed twice it is one run.
    assert_eq!(send(&room, &again, &right).header("location"), made);
    let short = made.trim_start_matches("/runs/").split('?').next().unwrap().to_owned();
    let new = room.json(&format!("/api/v1/runs/{short}"));
    assert_eq!((new["name"].as_str(), new["total_steps"].as_i64()), (Some("longer"), Some(7)));
    assert_eq!(new["job"]["state"], "queued");

    let more = format!("/runs/{run}/more");
    let answer = send(&room, &more, &[("steps", "5")]);
    assert_eq!(answer.status, 400);
    assert!(body(&answer).contains("makes 5 steps already"), "{}", body(&answer));
    assert_eq!(send(&room, &more, &[("steps", "+5")]).status, 303);
    assert_eq!(room.json(&format!("/api/v1/runs/{run}"))["total_steps"], 10);

    let fork = room.post(
        &format!("/api/v1/runs/{run}/again"),
        &json!({ "from": "latest", "set": ["seed=9"] }),
    );
    assert_eq!(fork.status, 200, "{}", body(&fork));
    let fork = room.json(&format!("/api/v1/runs/{}", fork.json()["run"].as_str().unwrap()));
    assert_eq!(fork["parent"]["short"], run.as_str());
    assert_eq!(room.json(&format!("/api/v1/runs/{run}"))["forks"][0]["short"], fork["short"]);

    let Some(browser) = Browser::start() else { return };
    let faults = [room.faults(&browser, &format!("/runs/{run}")), room.faults(&browser, &again)];
    assert!(faults.concat().is_empty(), "{}", faults.concat().join("\n"));
}
