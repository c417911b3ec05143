//! The jobs that are queued: always some to run, as long as harm is done.

use registry::{JobKind, JobState, NewJob, NewRun, NewSampling, Uuid};
use serde_json::json;

use crate::audit::Group;
use crate::fleet::Fleet;
use crate::job::{Dice, Sampling, Scoring, Training};

/// Jobs that are not done yet, at least.
const OPEN: usize = 12;

/// What was queued.
pub struct Supply {
    /// All of these must succeed.
    pub groups: Vec<Group>,
    /// Trainings that may be cancelled.
    pub victims: Vec<Uuid>,
    dice: Dice,
}

impl Supply {
    pub fn new(seed: u64) -> Self {
        Self { groups: Vec::new(), victims: Vec::new(), dice: Dice(seed.rotate_left(32)) }
    }

    /// Queues until enough is open.
    pub fn refill(&mut self, fleet: &Fleet) {
        while self.unfinished(fleet) < OPEN {
            let group = self.group(fleet, 40..160);
            self.groups.push(group);
            if self.groups.len() % 4 == 1 {
                let training = self.training(40..160);
                self.victims.push(train(fleet, &training, "victim"));
            }
        }
    }

    /// Queues a training of so many steps, what is sampled with it, and the score of that.
    pub fn group(&mut self, fleet: &Fleet, steps: std::ops::Range<usize>) -> Group {
        let training = self.training(steps);
        let run = train(fleet, &training, "train");
        let sampling = Sampling {
            run: format!("{run}@latest"),
            seed: self.dice.next(),
            rows: self.number(40..120),
            chunk_rows: self.number(4..12),
            out: fleet.house.path("outputs").join(run.to_string()),
        };
        let payload = |value| serde_json::to_value(value).unwrap();
        let sample = fleet.ask(async || {
            let job = NewJob { after: vec![run], ..job(JobKind::Sample, "sample") };
            let new = NewSampling {
                run_id: Some(run),
                step: None,
                dataset_uri: "none".into(),
                task: "none".into(),
                output_uri: sampling.out.to_string_lossy().into_owned(),
                shares: 0,
                job: NewJob { payload: payload(&sampling), ..job },
            };
            fleet.database.submit_sampling(new).await
        });
        let scoring = Scoring { sampling: sampling.clone() };
        let evaluate = fleet.ask(async || {
            let job = NewJob {
                after: vec![sample.job.id],
                run_id: Some(run),
                payload: serde_json::to_value(&scoring).unwrap(),
                ..job(JobKind::Evaluate, "evaluate")
            };
            fleet.database.submit(job).await
        });
        Group { training, run, sampling, sample: sample.job.id, evaluate: evaluate.job.id }
    }

    fn training(&mut self, steps: std::ops::Range<usize>) -> Training {
        Training {
            seed: self.dice.next(),
            steps: self.number(steps),
            checkpoint_every: self.number(5..15),
        }
    }

    fn number(&mut self, range: std::ops::Range<usize>) -> i64 {
        i64::try_from(self.dice.within(range)).unwrap()
    }

    /// How many jobs that must succeed have not ended.
    pub fn unfinished(&self, fleet: &Fleet) -> usize {
        self.left(fleet).len()
    }

    /// Jobs that must succeed and have not ended, and where they stand.
    pub fn left(&self, fleet: &Fleet) -> Vec<(Uuid, JobState)> {
        fleet.ask(async || {
            sqlx::query_as(
                "select id, state from jobs
                 where state in ('queued', 'running', 'paused') and name <> 'victim'",
            )
            .fetch_all(&fleet.pool)
            .await
        })
    }

    /// Resumes what a remedy that came too early has left paused.
    pub fn resume_paused(&self, fleet: &Fleet) {
        for (job, state) in self.left(fleet) {
            if state == JobState::Paused {
                let _ = fleet.try_ask(async || fleet.database.resume(job).await);
            }
        }
    }

    /// Victims that have neither succeeded nor been cancelled.
    pub fn victims_not_ended(&self, fleet: &Fleet) -> Vec<String> {
        let states =
            self.victims.iter().map(|id| fleet.ask(async || fleet.database.job(*id).await));
        states
            .filter(|job| !matches!(job.state, JobState::Succeeded | JobState::Cancelled))
            .map(|job| format!("job {}, a victim, is {}", job.id, job.state))
            .collect()
    }

    /// Jobs and attempts by their end.
    pub fn summary(&self, fleet: &Fleet) -> String {
        let counts: Vec<(String, i64)> = fleet.ask(async || {
            sqlx::query_as(
                "select 'attempts ' || coalesce(outcome::text, 'open'), count(*)
                 from attempts group by 1
                 union all
                 select 'jobs ' || state::text, count(*) from jobs group by 1
                 union all
                 select 'writes by ' || place, count(*) from audit group by 1
                 order by 1",
            )
            .fetch_all(&fleet.pool)
            .await
        });
        let counts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        counts.join(", ")
    }
}

fn job(kind: JobKind, name: &str) -> NewJob {
    NewJob { max_attempts: 1000, ..NewJob::new(kind, name, json!({})) }
}

fn train(fleet: &Fleet, training: &Training, name: &str) -> Uuid {
    let runs = fleet.house.path("runs").to_string_lossy().into_owned();
    let run = fleet.ask(async || {
        let new = NewRun {
            name: name.into(),
            experiment: None,
            config: serde_json::to_value(training).unwrap(),
            seed: training.seed.cast_signed(),
            total_steps: training.steps,
            uri: None,
            under: Some(runs.clone()),
            best_metric: "loss".into(),
            git_revision: None,
            datasets: vec![],
            fork: None,
            job: job(JobKind::Train, name),
        };
        fleet.database.create_run(new).await
    });
    run.run.id
}
