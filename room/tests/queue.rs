//! The queue as people change it, and machines as they note themselves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use registry::{Database, Job, JobKind, Lease, NewJob, Resources, WorkerInfo};
use serde_json::{Value, json};
use testkit::gpus::Driver;
use testkit::{Browser, ControlRoom, House, Look, until};

/// The names of the jobs that wait, in their order.
fn order(room: &ControlRoom) -> Vec<String> {
    let queue = room.json("/api/v1/queue");
    let names = queue["waiting"].as_array().unwrap().iter();
    names.map(|job| job["name"].as_str().unwrap().to_owned()).collect()
}

fn submit(house: &House, jobs: &[(&str, i32)]) -> (Database, tokio::runtime::Runtime, Vec<Job>) {
    let runtime = registry::runtime().unwrap();
    house.ok("scheduler", &["up"]);
    let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
    let all = jobs.iter().map(|(name, priority)| {
        let new = NewJob { priority: *priority, ..NewJob::new(JobKind::Ingest, *name, json!({})) };
        runtime.block_on(db.submit(new)).unwrap().job
    });
    let all = all.collect();
    (db, runtime, all)
}

#[test]
fn a_move_changes_one_job_and_claims_follow_it() {
    let house = House::new();
    let (db, runtime, jobs) = submit(&house, &[("a", 0), ("b", 0), ("c", 0), ("high", 5)]);
    let room = house.room(&[]);
    assert_eq!(order(&room), ["high", "a", "b", "c"]);
    let to = |job: usize, before: Option<usize>| {
        let before = before.map(|before| jobs[before].short.clone());
        let path = format!("/api/v1/queue/{}/move", jobs[job].short);
        let answer = room.post(&path, &json!({ "before": before }));
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    };
    assert_eq!(to(2, Some(1)), json!({"position": 3, "priority": 0}));
    assert_eq!(order(&room), ["high", "a", "c", "b"]);
    assert_eq!(to(1, Some(3)), json!({"position": 1, "priority": 5}));
    assert_eq!(order(&room), ["b", "high", "a", "c"]);
    assert_eq!(to(3, None), json!({"position": 4, "priority": 0}));
    assert_eq!(order(&room), ["b", "a", "c", "high"]);
    // By its form, without a script.
    let (cookie, csrf) = room.session();
    let form = format!("csrf={csrf}&to=2");
    let headers =
        [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let path = format!("/queue/{}/move", jobs[3].short);
    let answer = testkit::http::ask(&room.address, "POST", &path, &headers, Some(form.as_bytes()));
    assert_eq!(answer.status, 303);
    let wanted = ["b", "high", "a", "c"];
    assert_eq!(order(&room), wanted);
    // Workers take them so.
    let worker = WorkerInfo::this_process(None, 8);
    let lease = Lease::from_env().unwrap();
    let resources = Resources { kinds: JobKind::ALL.to_vec(), ..Resources::default() };
    let taken = runtime.block_on(async {
        db.register_worker(&worker).await.unwrap();
        let mut taken = Vec::new();
        while let Some(claimed) = db.claim(&worker, &resources, &lease).await.unwrap() {
            taken.push(claimed.job.name);
        }
        taken
    });
    assert_eq!(taken, wanted);
    // What does not wait has no place.
    let answer =
        room.post(&format!("/api/v1/queue/{}/move", jobs[0].short), &json!({"before": null}));
    assert_eq!(answer.status, 409, "{}", answer.json());
    assert_eq!(room.post("/api/v1/queue/nothing/move", &json!({"before": null})).status, 404);
}

#[test]
fn many_moves_between_two_jobs_keep_their_order() {
    let house = House::new();
    let names: Vec<String> = (0..40).map(|number| format!("job-{number}")).collect();
    let jobs: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let (db, runtime, jobs) = submit(&house, &jobs);
    // Each goes before the last: as bisections of one gap.
    for job in &jobs[..38] {
        runtime.block_on(db.move_job(job.id, Some(jobs[39].id))).unwrap();
    }
    let queue = runtime.block_on(db.queue(0, 100)).unwrap();
    let shown: Vec<&str> = queue.iter().map(|job| job.name.as_str()).collect();
    let mut wanted: Vec<&str> = vec!["job-38"];
    wanted.extend(names[..38].iter().map(String::as_str));
    wanted.push("job-39");
    assert_eq!(shown, wanted);
    assert!(queue.iter().all(|job| job.priority == 0));
}

#[test]
fn the_order_is_changed_by_keys_and_by_dragging() {
    let Some(browser) = Browser::start() else { return };
    let house = House::new();
    let (_db, _runtime, _jobs) = submit(&house, &[("a", 0), ("b", 0), ("c", 0)]);
    house.sql("update jobs set name = '<b>c</b>' where name = 'c'");
    let room = house.room(&[]);
    room.open(&browser, "/queue", Look { width: 1280, dark: false });
    let key = "const grip = [...document.querySelectorAll('#order li')].find((item) => item.querySelector('.name').textContent === '<b>c</b>').querySelector('.grip'); grip.focus();
        grip.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowUp', bubbles: true, cancelable: true }));";
    browser.run(key);
    browser.until("document.getElementById('moved').textContent.includes('number 2')");
    until("the server knows", || order(&room) == ["a", "<b>c</b>", "b"]);
    let drag = "const items = [...document.querySelectorAll('#order li')];
        const grip = items[2].querySelector('.grip');
        const from = grip.getBoundingClientRect(), to = items[0].getBoundingClientRect();
        const send = (type, y) => grip.dispatchEvent(new PointerEvent(type, { bubbles: true, cancelable: true, pointerId: 1, button: 0, clientX: from.x + 5, clientY: y }));
        send('pointerdown', from.y + 5); send('pointermove', to.y + 2); send('pointerup', to.y + 2);";
    browser.run(drag);
    browser.until("document.getElementById('moved').textContent.includes('number 1')");
    until("the server knows", || order(&room) == ["b", "a", "<b>c</b>"]);
    assert_eq!(room.faults(&browser, "/queue"), Vec::<String>::new());
}

#[test]
fn workers_note_how_busy_they_are() {
    let driver = Driver::new(
        "ok GPU-a 00000000:07:00.0 85899345920 NVIDIA H100 80GB HBM3\nload 37 1073741824\n",
    );
    let mut house = House::with_scripts();
    house.set([
        ("PALETTE_SAMPLE_SECONDS", "0.3"),
        ("PALETTE_GPU_SECONDS", "0.1"),
        ("PALETTE_NVML", driver.library().to_str().unwrap()),
    ]);
    house.script("pipeline", "trap 'exit 75' TERM; while :; do sleep 0.05; done");
    let (_db, _runtime, jobs) = submit(&house, &[("long", 0), ("behind", 0)]);
    let mut command = house.command("scheduler", &["worker", "--poll", "0.1", "--label", "zone=a"]);
    command.env_remove("CUDA_VISIBLE_DEVICES");
    let _worker = house.start("worker.log", command);
    let room = house.room(&[]);
    let machines = || room.json("/api/v1/machines");
    let sample = || -> Value { machines()["groups"][0]["workers"][0]["sample"].clone() };
    until("a sample is noted", || {
        let sample = sample();
        sample["slots_busy"] == 1
            && sample["gpu_use"][0].as_f64().is_some_and(|it| (it - 0.37).abs() < 0.01)
    });
    let sample = sample();
    assert_eq!(sample["gpu_memory_used"][0], 1_073_741_824_i64);
    let number = |name: &str| sample[name].as_i64().unwrap();
    assert!(0 < number("memory_used") && number("memory_used") < number("memory"));
    assert!(0 <= number("disk_left") && number("disk_left") <= number("disk"));
    let group = machines()["groups"][0].clone();
    assert_eq!(group["labels"], "zone=a");
    assert_eq!(group["workers"][0]["jobs"][0], jobs[0].short.as_str());
    let queue = room.json("/api/v1/queue");
    assert_eq!(queue["waiting"][0]["why"], "waits for a free worker");
    assert_eq!(queue["running"][0]["name"], "long");
    // Samples that are old are thinned.
    house.sql(
        "insert into worker_samples (worker_id, at, slots_busy, slots)
         select id, date_trunc('hour', now()) - interval '2 days' + make_interval(mins => minute), 0, 1
         from workers, generate_series(0, 59) as minute;
         insert into worker_samples (worker_id, at, slots_busy, slots)
         select id, now() - interval '8 days', 0, 1 from workers",
    );
    let runtime = registry::runtime().unwrap();
    let db = runtime.block_on(Database::open_url(&house.url())).unwrap();
    assert_eq!(runtime.block_on(db.thin_samples()).unwrap(), 57);
    let hours = runtime.block_on(db.owner_hours(7)).unwrap();
    assert_eq!(hours.len(), 1);
    assert!(hours[0].hours > 0.0 && hours[0].jobs == 1);
}
