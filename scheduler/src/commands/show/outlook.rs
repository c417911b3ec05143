//! What becomes of a job: what it waits for, whether it will be tried again, and when or why not.

use registry::{AttemptRow, BAD_CONFIGURATION, Job, JobState, Outcome, Sweep, WorkerRow};

use crate::commands::jobs::wish;

/// In words, for behind the state; nothing where that says all. `bad_configuration`: its newest attempt
/// ended by that. `after`: the jobs that it waits for. `workers`: those that there are.
pub fn outlook(
    job: &Job,
    bad_configuration: bool,
    after: &[Job],
    sweep: Option<&Sweep>,
    workers: &[WorkerRow],
) -> String {
    let short = &job.short;
    let why = job.reason.as_deref();
    match job.state {
        JobState::Succeeded => String::new(),
        JobState::Queued => {
            let what = waiting(job, after, sweep, workers);
            why.map_or_else(|| what.clone(), |why| format!("{why}; {what}"))
        }
        JobState::Running => {
            let tries = format!("try {} of {}", job.attempts_used + 1, job.max_attempts);
            match job.stop_requested {
                Some(asked) => format!("{tries}, {}", wish(asked)),
                None => tries,
            }
        }
        JobState::Paused => {
            let why = why.unwrap_or("set aside");
            format!("{why} (`scheduler resume {short}` queues it again)")
        }
        JobState::Cancelled => {
            let why = why.filter(|why| *why != "cancelled");
            let again = format!("`scheduler retry {short}` queues it again");
            why.map_or_else(|| again.clone(), |why| format!("{why} ({again})"))
        }
        JobState::Failed => {
            let why = why.unwrap_or("it is not known why");
            let (used, most) = (job.attempts_used, job.max_attempts);
            if bad_configuration {
                format!("{why} (not tried again: a bad configuration)")
            } else if used >= most {
                format!(
                    "{why} ({used} of {most} tries used; `scheduler retry {short}` gives new ones)"
                )
            } else {
                format!("{why} (not tried again; `scheduler retry {short}` queues it again)")
            }
        }
    }
}

/// Whether the newest attempt ended because the job can never work.
pub fn is_badly_configured(attempts: &[AttemptRow]) -> bool {
    attempts.last().is_some_and(|last| {
        last.outcome == Some(Outcome::Failed)
            && last.exit_status == Some(i32::from(BAD_CONFIGURATION))
    })
}

/// What a queued job waits for.
fn waiting(job: &Job, after: &[Job], sweep: Option<&Sweep>, workers: &[WorkerRow]) -> String {
    let parents: Vec<String> = after
        .iter()
        .filter(|parent| parent.state != JobState::Succeeded)
        .map(|parent| format!("{} {}", parent.short, parent.name))
        .collect();
    registry::waiting(job, &parents, sweep, workers, terminal::duration)
}

#[cfg(test)]
mod tests {
    use registry::{JobKind, StopRequest, Uuid, WorkerState};
    use serde_json::{Value, json};
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn job(state: JobState, reason: Option<&str>) -> Job {
        let now = OffsetDateTime::now_utc();
        Job {
            id: Uuid::nil(),
            short: "1a2b3c4d".into(),
            kind: JobKind::Train,
            state,
            reason: reason.map(str::to_owned),
            name: "demo".into(),
            owner: "ann".into(),
            tags: vec![],
            payload: json!({}),
            submit_key: None,
            run_id: None,
            priority: 0,
            gpus: 0,
            gpus_most: 0,
            ranks: 1,
            hosts: 1,
            hosts_most: 1,
            gpu_memory: 0,
            labels: json!({}),
            run_after: now,
            attempt: 0,
            attempts_used: 0,
            max_attempts: 3,
            worker_id: None,
            lease_expires_at: None,
            stop_requested: None,
            preempts: false,
            yields_to: None,
            sweep_id: None,
            sweep_point: None,
            progress_done: None,
            progress_total: None,
            progress_message: None,
            note: None,
            archived_at: None,
            created_at: now,
            started_at: None,
            ended_at: None,
        }
    }

    fn worker(gpus: i32, labels: Value) -> WorkerRow {
        let now = OffsetDateTime::now_utc();
        WorkerRow {
            id: Uuid::nil(),
            name: "w".into(),
            host: "h".into(),
            pid: 1,
            slots: 1,
            gpus,
            gpu_names: vec![],
            gpu_uuids: vec![],
            gpu_sizes: vec![24 << 30; usize::try_from(gpus).unwrap()],
            gpu_memory: 24 << 30,
            labels,
            kinds: vec!["train".into()],
            version: None,
            jobs: vec![],
            state: WorkerState::Alive,
            ails: None,
            unseen: 0.0,
            started_at: now,
            last_seen_at: now,
            ended_at: None,
            ends_at: None,
        }
    }

    fn alone(job: &Job) -> String {
        outlook(job, false, &[], None, &[])
    }

    #[test]
    fn a_failure_says_whether_another_try_is_possible() {
        let mut failed = job(JobState::Failed, Some("exit status 1: no luck"));
        failed.attempts_used = 3;
        assert_eq!(
            alone(&failed),
            "exit status 1: no luck (3 of 3 tries used; `scheduler retry 1a2b3c4d` gives new ones)"
        );
        let bad = job(JobState::Failed, Some("exit status 2: steps must be positive"));
        assert_eq!(
            outlook(&bad, true, &[], None, &[]),
            "exit status 2: steps must be positive (not tried again: a bad configuration)"
        );
    }

    #[test]
    fn a_job_that_failed_says_when_it_is_tried_again() {
        let mut queued = job(JobState::Queued, Some("exit status 1: no luck"));
        queued.attempts_used = 1;
        queued.run_after += Duration::seconds(100);
        let text = alone(&queued);
        assert!(text.starts_with("exit status 1: no luck; again in 1 min"), "{text}");
        assert!(text.ends_with(", try 2 of 3"), "{text}");
    }

    #[test]
    fn a_queued_job_says_what_it_waits_for() {
        let mut queued = job(JobState::Queued, None);
        let running = job(JobState::Running, None);
        assert_eq!(
            outlook(&queued, false, &[running.clone(), running.clone()], None, &[]),
            "waits for 1a2b3c4d demo and 1 more"
        );
        assert!(alone(&queued).starts_with("no worker is there"));
        let workers = [worker(1, json!({"zone": "a", "disk": "fast"}))];
        let with_workers = |job: &Job| outlook(job, false, &[], None, &workers);
        queued.labels = json!({"zone": "a"});
        (queued.gpus, queued.gpu_memory) = (1, 24 << 30);
        assert_eq!(with_workers(&queued), "waits for a free worker");
        for (gpus, memory, zone) in [(2, 0, "a"), (1, 25 << 30, "a"), (1, 0, "b")] {
            let labels = json!({ "zone": zone });
            let other = Job { gpus, gpu_memory: memory, labels, ..queued.clone() };
            assert_eq!(with_workers(&other), "none of the workers that are there (1) can do it");
        }
        let sweep = Sweep {
            id: Uuid::nil(),
            short: "s".into(),
            name: "grid".into(),
            owner: "ann".into(),
            at_most: Some(2),
            jobs: 3,
            queued: 1,
            running: 2,
            paused: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            note: None,
            archived_at: None,
            created_at: queued.created_at,
        };
        assert_eq!(
            outlook(&queued, false, &[], Some(&sweep), &workers),
            "waits for its sweep, 2 of 2 at most run"
        );
    }

    #[test]
    fn a_job_for_several_hosts_says_how_many_have_workers() {
        let on = |host: &str, gpus| WorkerRow { host: host.into(), ..worker(gpus, json!({})) };
        let mut workers = vec![on("a", 1), on("a", 1), on("b", 0)];
        let two = Job { hosts: 2, hosts_most: 2, gpus: 1, ..job(JobState::Queued, None) };
        let text = |workers: &[WorkerRow]| outlook(&two, false, &[], None, workers);
        assert_eq!(text(&workers), "wants 2 hosts, 1 has workers that can do it");
        workers.push(WorkerRow { state: WorkerState::Lost, ..on("c", 1) });
        assert_eq!(text(&workers), "wants 2 hosts, 1 has workers that can do it");
        workers.push(on("c", 1));
        assert_eq!(text(&workers), "waits for a free worker");
    }

    #[test]
    fn what_is_set_aside_or_asked_to_stop_says_so() {
        assert_eq!(
            alone(&job(JobState::Paused, None)),
            "set aside (`scheduler resume 1a2b3c4d` queues it again)"
        );
        assert_eq!(
            alone(&job(JobState::Cancelled, Some("job 5e6f7a8b failed"))),
            "job 5e6f7a8b failed (`scheduler retry 1a2b3c4d` queues it again)"
        );
        let mut running = job(JobState::Running, None);
        running.attempts_used = 1;
        running.stop_requested = Some(StopRequest::Yield);
        assert_eq!(alone(&running), "try 2 of 3, asked to give way");
    }
}
