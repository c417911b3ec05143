//! Counts what a worker reports: its attempts by kind, how they ended, how long they took.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry::{JobState, WorkerInfo};

use super::exposition::{Exposition, number};
use crate::worker::WorkerEvent;

/// Upper bounds of the histogram of durations, in seconds: from a failure at the start to a week.
const BOUNDS: [f64; 11] =
    [1.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0];

/// States that a job can be in when an attempt at it has ended.
const AFTER: [JobState; 5] = [
    JobState::Queued,
    JobState::Paused,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
];

/// The counts of one worker since its start.
#[derive(Default)]
pub struct Meter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    worker: Option<WorkerInfo>,
    kinds: BTreeMap<&'static str, KindCounts>,
    /// The attempts that run, by the short id of their job.
    running: HashMap<String, &'static str>,
    /// The seats in attempts of other hosts.
    seats: HashSet<(String, i32)>,
    dropped: u64,
    taken_back: u64,
    ails: Option<String>,
}

/// The attempts at jobs of one kind.
#[derive(Default)]
struct KindCounts {
    started: u64,
    ended: BTreeMap<&'static str, u64>,
    /// Attempts by the first bound that they did not pass; the last is above all bounds.
    durations: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Meter {
    /// Counts a report.
    pub fn count(&self, report: &WorkerEvent) {
        // Of an attempt whose program could not be started there was no report before its end.
        const UNKNOWN: &str = "unknown";
        let mut counts = self.lock();
        match report {
            WorkerEvent::Ready { worker, kinds } => {
                counts.worker = Some(worker.clone());
                counts.kinds =
                    kinds.iter().map(|kind| (kind.name(), KindCounts::default())).collect();
            }
            WorkerEvent::Started { job, kind, .. } => {
                counts.running.insert(job.clone(), kind.name());
                counts.kinds.entry(kind.name()).or_default().started += 1;
            }
            WorkerEvent::Seated { job, attempt, .. } => {
                counts.seats.insert((job.clone(), *attempt));
            }
            WorkerEvent::Left { job, attempt, .. } => {
                counts.seats.remove(&(job.clone(), *attempt));
            }
            WorkerEvent::Ended { job, state, took: Some(took), .. } => {
                let kind = counts.running.remove(job).unwrap_or(UNKNOWN);
                counts.kinds.entry(kind).or_default().end(*state, *took);
            }
            WorkerEvent::Ended { took: None, .. } => counts.taken_back += 1,
            WorkerEvent::Dropped { job, .. } => {
                counts.running.remove(job);
                counts.dropped += 1;
            }
            WorkerEvent::Gpus(worker) => counts.worker = Some(worker.clone()),
            WorkerEvent::Ails(ails) => counts.ails.clone_from(ails),
            WorkerEvent::Joined { .. } | WorkerEvent::Line { .. } | WorkerEvent::Note(_) => {}
        }
    }

    /// The worker, once it is ready.
    pub fn worker(&self) -> Option<WorkerInfo> {
        self.lock().worker.clone()
    }

    /// Why it claims no jobs; none where it does.
    pub fn unready(&self) -> Option<String> {
        let counts = self.lock();
        match (&counts.worker, &counts.ails) {
            (None, _) => Some("starting: not registered with the database yet".to_owned()),
            (Some(_), Some(ails)) => Some(format!("ailing: {ails}")),
            (Some(_), None) => None,
        }
    }

    /// Writes all that was counted.
    pub fn write(&self, text: &mut Exposition) {
        let counts = self.lock();
        if let Some(worker) = &counts.worker {
            text.family("palette_worker_info", "gauge", "This worker; always 1.");
            let labels = [
                ("name", worker.name.as_str()),
                ("version", env!("CARGO_PKG_VERSION")),
                ("host", worker.host.as_str()),
            ];
            text.sample("palette_worker_info", &labels, 1.0);
            text.gauge("palette_worker_slots", "Jobs that it does at a time.", worker.slots.into());
            let gpus = worker.gpus.len() as f64;
            text.gauge("palette_worker_gpus", "GPUs that it hands out.", gpus);
        }
        let seats = counts.seats.len() as f64;
        let busy = counts.running.len() as f64 + seats;
        text.gauge("palette_worker_slots_busy", "Attempts that run here, and seats.", busy);
        let help = "Seats that it has in attempts of other hosts.";
        text.gauge("palette_worker_seats", help, seats);
        let help = "1 while something ails its host, so that it claims nothing.";
        text.gauge("palette_worker_ailing", help, f64::from(u8::from(counts.ails.is_some())));
        counts.write_attempts(text);
        let name = "palette_worker_attempts_dropped_total";
        text.family(name, "counter", "Attempts here whose job was given to another worker.");
        text.sample(name, &[], counts.dropped as f64);
        let name = "palette_worker_attempts_taken_back_total";
        text.family(name, "counter", "Attempts of lost workers that this one ended.");
        text.sample(name, &[], counts.taken_back as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn write_attempts(&self, text: &mut Exposition) {
        let name = "palette_worker_attempts_started_total";
        text.family(name, "counter", "Attempts that were started here.");
        for (kind, counted) in &self.kinds {
            text.sample(name, &[("kind", kind)], counted.started as f64);
        }
        let name = "palette_worker_attempts_ended_total";
        text.family(name, "counter", "Attempts that ended here, by the state of their job then.");
        for (kind, counted) in &self.kinds {
            for state in AFTER.map(JobState::name) {
                let count = counted.ended.get(state).copied().unwrap_or(0);
                text.sample(name, &[("kind", kind), ("state", state)], count as f64);
            }
        }
        let name = "palette_worker_attempt_duration_seconds";
        text.family(name, "histogram", "How long the attempts took that ended here.");
        for (kind, counted) in &self.kinds {
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().chain(&[f64::INFINITY]).zip(counted.durations) {
                below += count;
                let labels = [("kind", *kind), ("le", &number(*bound))];
                text.sample(&format!("{name}_bucket"), &labels, below as f64);
            }
            text.sample(&format!("{name}_sum"), &[("kind", kind)], counted.seconds);
            text.sample(&format!("{name}_count"), &[("kind", kind)], below as f64);
        }
    }
}

impl KindCounts {
    fn end(&mut self, state: JobState, took: Duration) {
        *self.ended.entry(state.name()).or_default() += 1;
        let seconds = took.as_secs_f64();
        self.durations[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.seconds += seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::JobKind;

    #[test]
    fn attempts_are_counted_from_start_to_end_and_a_dropped_one_frees_its_slot() {
        let meter = Meter::default();
        assert!(meter.unready().unwrap().starts_with("starting: "));
        let worker = WorkerInfo::this_process(Some("w".into()), 2);
        meter.count(&WorkerEvent::Ready { worker, kinds: vec![JobKind::Train] });
        meter.count(&WorkerEvent::Ails(Some("no room".into())));
        assert_eq!(meter.unready().unwrap(), "ailing: no room");
        meter.count(&WorkerEvent::Ails(None));
        assert_eq!(meter.unready(), None);
        for job in ["a", "b"] {
            meter.count(&WorkerEvent::Started {
                job: job.into(),
                name: job.into(),
                kind: JobKind::Train,
                attempt: 1,
                ranks: None,
                gpus: None,
                log: "/log".into(),
            });
        }
        let ended = |job: &str, took| WorkerEvent::Ended {
            job: job.into(),
            name: job.into(),
            state: JobState::Failed,
            reason: None,
            took,
            wait: Duration::ZERO,
        };
        meter.count(&ended("a", Some(Duration::from_secs(60))));
        meter.count(&ended("not started", Some(Duration::from_secs(61))));
        meter.count(&ended("elsewhere", None));
        meter.count(&WorkerEvent::Dropped {
            job: "b".into(),
            name: "b".into(),
            attempt: 1,
            why: None,
        });
        for (job, ends) in [("c", true), ("d", false)] {
            let (job, name) = (job.to_owned(), job.to_owned());
            let seated = WorkerEvent::Seated { job: job.clone(), name: name.clone(), attempt: 1 };
            meter.count(&seated);
            if ends {
                meter.count(&WorkerEvent::Left { job, name, attempt: 1, reason: None });
            }
        }
        let mut text = Exposition::default();
        meter.write(&mut text);
        let text = text.finish();
        for line in [
            "palette_worker_slots_busy 1",
            "palette_worker_seats 1",
            r#"palette_worker_attempts_started_total{kind="train"} 2"#,
            r#"palette_worker_attempts_ended_total{kind="train",state="failed"} 1"#,
            r#"palette_worker_attempts_ended_total{kind="train",state="succeeded"} 0"#,
            r#"palette_worker_attempts_ended_total{kind="unknown",state="failed"} 1"#,
            r#"palette_worker_attempt_duration_seconds_bucket{kind="train",le="10"} 0"#,
            r#"palette_worker_attempt_duration_seconds_bucket{kind="train",le="60"} 1"#,
            r#"palette_worker_attempt_duration_seconds_bucket{kind="unknown",le="60"} 0"#,
            r#"palette_worker_attempt_duration_seconds_bucket{kind="train",le="+Inf"} 1"#,
            r#"palette_worker_attempt_duration_seconds_sum{kind="train"} 60"#,
            "palette_worker_attempts_dropped_total 1",
            "palette_worker_attempts_taken_back_total 1",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
    }
}
