//! The queue against a model of it: whatever users and workers do in whatever order, each job is in
//! the state that [`next`] gives, and the columns beside the state agree with it.

use sqlx::Row;

use super::{anything, lease, no_lease, set_up, worker};
use crate::queue::attempts::Ended;
use crate::queue::state::{Event, Next, next};
use crate::{
    Database, Error, Fence, JobState, NewJob, Outcome, Result, StopRequest, Uuid, WorkerInfo,
};

/// What should be true of a job.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    id: Uuid,
    state: JobState,
    asked: Option<StopRequest>,
    attempt: i32,
    used: i32,
    most: i32,
    priority: i32,
    parents: Vec<Uuid>,
    /// Its lease has run out.
    expired: bool,
}

/// Numbers of a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

/// The database, and beside it what should be in it, in the order of the submissions.
struct Queue {
    db: Database,
    me: WorkerInfo,
    jobs: Vec<Model>,
}

#[test]
fn whatever_is_done_the_queue_is_where_its_states_lead() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        for seed in 0..30 {
            // Jobs of another seed must not be claimed by this one.
            sqlx::query("truncate jobs cascade").execute(&db.pool).await.unwrap();
            let me = worker(&db).await;
            let mut queue = Queue { db: db.clone(), me, jobs: Vec::new() };
            let mut dice = Dice(seed);
            let mut done = Vec::new();
            for _ in 0..60 {
                done.push(queue.act(&mut dice).await);
                if let Some(wrong) = queue.wrong().await {
                    panic!("seed {seed}: {wrong}\nafter\n{}", done.join("\n"));
                }
            }
        }
    });
}

impl Queue {
    /// Does something to the database and to the model, and says what.
    async fn act(&mut self, dice: &mut Dice) -> String {
        let job = dice.below(self.jobs.len().max(1));
        match dice.below(12) {
            _ if self.jobs.is_empty() => self.submit(dice).await,
            0 | 1 => self.submit(dice).await,
            2..=4 => self.claim(dice.below(3) == 0).await,
            5 | 6 => self.finish(dice).await,
            7 => self.reclaim().await,
            8 => self.ask(job, Event::Cancel).await,
            9 => self.ask(job, Event::Pause).await,
            10 => self.ask(job, Event::Resume).await,
            _ => self.ask(job, Event::Retry).await,
        }
    }

    async fn submit(&mut self, dice: &mut Dice) -> String {
        let mut parents = Vec::new();
        for _ in 0..dice.below(3) {
            parents.extend(self.jobs.get(dice.below(self.jobs.len() + 1)).map(|job| job.id));
        }
        parents.sort();
        parents.dedup();
        let new = NewJob {
            max_attempts: 1 + i32::try_from(dice.below(3)).unwrap(),
            priority: i32::try_from(dice.below(3)).unwrap(),
            held: dice.below(5) == 0,
            after: parents.clone(),
            ..super::job("any")
        };
        let ended = parents.iter().any(|parent| {
            matches!(self.find(*parent).state, JobState::Failed | JobState::Cancelled)
        });
        match self.db.submit(new.clone()).await {
            Ok(submitted) => {
                assert!(!ended, "queued after a job that has failed");
                self.jobs.push(Model {
                    id: submitted.job.id,
                    state: if new.held { JobState::Paused } else { JobState::Queued },
                    asked: None,
                    attempt: 0,
                    used: 0,
                    most: new.max_attempts,
                    priority: new.priority,
                    parents,
                    expired: false,
                });
            }
            Err(Error::ParentEnded { .. }) => assert!(ended, "refused though no parent has failed"),
            Err(other) => panic!("{other}"),
        }
        format!("submit {:?}", self.jobs.last())
    }

    async fn claim(&mut self, expired: bool) -> String {
        // The first of the highest priority, and of those the oldest.
        let fits = |job: &&Model| {
            let succeeded = |parent: &Uuid| self.find(*parent).state == JobState::Succeeded;
            job.state == JobState::Queued && job.parents.iter().all(succeeded)
        };
        let best = self.jobs.iter().filter(fits).rev().max_by_key(|job| job.priority);
        let best = best.map(|job| job.id);
        let lease = if expired { no_lease() } else { lease() };
        let claimed = self.db.claim(&self.me, &anything(), &lease).await.unwrap();
        assert_eq!(claimed.map(|claimed| claimed.job.id), best, "another job was claimed");
        if let Some(id) = best {
            let job = self.find_mut(id);
            job.attempt += 1;
            job.expired = expired;
            job.apply(Event::Claim).unwrap();
        }
        format!("claim {best:?}, expired {expired}")
    }

    /// Ends an attempt; often one that is not the newest or not open any more.
    async fn finish(&mut self, dice: &mut Dice) -> String {
        let running: Vec<Uuid> = self
            .jobs
            .iter()
            .filter(|job| job.state == JobState::Running)
            .map(|job| job.id)
            .collect();
        let id = match running.is_empty() || dice.below(4) == 0 {
            true => self.jobs[dice.below(self.jobs.len())].id,
            false => running[dice.below(running.len())],
        };
        let older = i32::from(dice.below(4) == 0);
        let fence = Fence { job: id, number: self.find(id).attempt - older };
        let outcome =
            [Outcome::Succeeded, Outcome::Stopped, Outcome::Failed, Outcome::Failed][dice.below(4)];
        let ended = Ended {
            again: dice.below(4) > 0,
            hold: dice.below(4) == 0,
            ..Ended::new(outcome, Some("x".into()))
        };
        let after = self.db.finish(fence, &ended, &lease()).await;
        let job = self.find_mut(id);
        if older == 1 || job.state != JobState::Running {
            assert!(after.unwrap_err().is_stale(), "the end of a stale attempt was taken");
        } else {
            job.end(&ended);
            let state = job.state;
            assert_eq!(after.unwrap().state, state);
            self.doom();
        }
        format!("finish {fence:?} {ended:?}")
    }

    async fn reclaim(&mut self) -> String {
        let taken = self.db.reclaim(&lease(), &[]).await.unwrap().len();
        let mut lost = 0;
        for job in &mut self.jobs {
            if job.state == JobState::Running && job.expired {
                job.end(&Ended::new(Outcome::Lost, None));
                lost += 1;
            }
        }
        self.doom();
        assert_eq!(taken, lost);
        format!("reclaim {taken}")
    }

    async fn ask(&mut self, job: usize, event: Event) -> String {
        let (db, id) = (&self.db, self.jobs[job].id);
        let answer = match event {
            Event::Cancel => db.cancel(id).await,
            Event::Pause => db.pause(id).await,
            Event::Resume => db.resume(id).await,
            _ => db.retry(id).await,
        };
        let parents_ended = self.jobs[job].parents.iter().any(|parent| {
            matches!(self.find(*parent).state, JobState::Failed | JobState::Cancelled)
        });
        let text = format!("{event:?} {id}");
        if event == Event::Retry && parents_ended {
            assert!(matches!(answer, Err(Error::ParentEnded { .. })), "{text}: {answer:?}");
            return text;
        }
        let job = &mut self.jobs[job];
        match job.apply(event) {
            Ok(()) => {
                if event == Event::Retry {
                    job.used = 0;
                }
                let state = job.state;
                assert_eq!(answer.unwrap().state, state, "{text}");
            }
            Err(_) => assert!(matches!(answer, Err(Error::Refused { .. })), "{text}: {answer:?}"),
        }
        self.doom();
        text
    }

    /// What waits for a job that will not succeed is cancelled.
    fn doom(&mut self) {
        loop {
            let doomed = self.jobs.iter().position(|job| {
                matches!(job.state, JobState::Queued | JobState::Paused)
                    && job.parents.iter().any(|parent| {
                        matches!(self.find(*parent).state, JobState::Failed | JobState::Cancelled)
                    })
            });
            let Some(doomed) = doomed else { return };
            self.jobs[doomed].state = JobState::Cancelled;
        }
    }

    fn find(&self, id: Uuid) -> &Model {
        self.jobs.iter().find(|job| job.id == id).unwrap()
    }

    fn find_mut(&mut self, id: Uuid) -> &mut Model {
        self.jobs.iter_mut().find(|job| job.id == id).unwrap()
    }

    /// The first difference between the model and the database, or within the database.
    async fn wrong(&self) -> Option<String> {
        for model in &self.jobs {
            let job = self.db.job(model.id).await.unwrap();
            let is = Model {
                state: job.state,
                asked: job.stop_requested,
                attempt: job.attempt,
                used: job.attempts_used,
                ..model.clone()
            };
            if is != *model {
                return Some(format!("it is\n{is:?}, but should be\n{model:?}"));
            }
        }
        broken(&self.db).await.unwrap()
    }
}

impl Model {
    fn apply(&mut self, event: Event) -> std::result::Result<(), crate::queue::state::Refused> {
        match next(self.state, self.asked, event)? {
            Next::State(state) => {
                self.state = state;
                self.asked = None;
            }
            Next::Ask(request) => self.asked = Some(request),
            Next::TakeBack => self.asked = None,
        }
        Ok(())
    }

    fn end(&mut self, ended: &Ended) {
        self.used += i32::from(matches!(ended.outcome, Outcome::Failed | Outcome::Lost));
        let again = ended.again && self.used < self.most;
        if ended.hold && self.asked.is_none() {
            self.asked = Some(StopRequest::Pause);
        }
        self.apply(match ended.outcome {
            Outcome::Succeeded => Event::Succeed,
            Outcome::Stopped => Event::Stop,
            Outcome::Failed => Event::Fail { again },
            Outcome::Lost => Event::Lose { again },
        })
        .unwrap();
    }
}

/// A job whose row contradicts itself or its attempts.
async fn broken(db: &Database) -> Result<Option<String>> {
    let row = sqlx::query(
        "select row_to_json(jobs)::text from jobs
         where (state = 'running') <> (lease_expires_at is not null)
            or (state = 'running') <> (worker_id is not null)
            or (state <> 'running' and stop_requested is not null)
            or (state in ('succeeded', 'failed', 'cancelled')) <> (ended_at is not null)
            or (attempt > 0) <> (started_at is not null)
            or attempts_used > max_attempts
            or attempts_used > attempt
            or attempt <> (select count(*) from attempts where job_id = jobs.id)
            or attempt <> (select coalesce(max(number), 0) from attempts where job_id = jobs.id)
            or (state = 'running') <> exists (
                select from attempts
                where job_id = jobs.id and number = attempt and ended_at is null)
            or exists (
                select from attempts
                where job_id = jobs.id and number < attempt and ended_at is null)
            or (state in ('queued', 'running') and attempts_used >= max_attempts)
            or (state = 'succeeded') <> exists (
                select from attempts
                where job_id = jobs.id and number = attempt and outcome = 'succeeded')
            or (state in ('queued', 'paused', 'running') and exists (
                select from dependencies join jobs parent on parent.id = parent_id
                where job_id = jobs.id and parent.state in ('failed', 'cancelled')))
            or (state in ('queued', 'paused', 'running') and waits <> unmet(id))
            or awaited <> exists (select from dependencies where parent_id = jobs.id)
         limit 1",
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(row.map(|row| row.get(0)))
}
