//! What every `submit` can say of a job: one set of options for all programs.

use jiff::tz::TimeZone;
use time::OffsetDateTime;

use crate::queue::amounts::bytes;
use storage::names::{key, label, word};

use crate::queue::moments::{ToCome, in_zone, local};
use crate::{Blocking, Error, GpuCount, JobKind, Kind, NewJob, Result, Several, Target, once};

/// Options of a submission.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct JobOptions {
    /// Jobs with a higher priority are taken first [default: 0].
    #[arg(long, allow_hyphen_values = true)]
    priority: Option<i32>,
    /// Wait until this job, or all jobs of this sweep, have succeeded (short id or name); may be repeated.
    #[arg(long, value_name = "JOB")]
    after: Vec<String>,
    /// GPUs that the job takes: N of them, or LEAST..MOST, as many of these as are free when it starts
    /// [default: 0..1, a GPU where one is free; 0 where its program uses none].
    #[arg(long, value_name = "N")]
    gpus: Option<GpuCount>,
    /// Hosts that the job runs on at once, each with these GPUs: N of them, or LEAST..MOST; each is a worker of another
    /// host [default: 1].
    #[arg(long, value_name = "N")]
    hosts: Option<GpuCount>,
    /// Memory that each of its GPUs must have, such as 24GiB (B, kB, MB, GB, KiB, MiB, GiB).
    #[arg(long, value_name = "SIZE", value_parser = bytes, requires = "gpus")]
    gpu_memory: Option<i64>,
    /// A label that the worker must carry; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A word to find the job by (`scheduler jobs --tag WORD`); may be repeated.
    #[arg(long = "tag", value_name = "WORD", value_parser = word)]
    tags: Vec<String>,
    /// Whose job it is [default: the current user; on a server with roles it is always the login's, unless that has
    /// palette_proxy].
    #[arg(long, value_name = "NAME", value_parser = word)]
    owner: Option<String>,
    /// Do not start it before this moment: 2026-11-27T18:00, the next 18:00, or +2h from now by the clock of the
    /// database, at most a year away. It is local time (TZ, or the machine's zone) unless an offset follows (18:00+01:00, 18:00Z).
    #[arg(long, value_name = "MOMENT")]
    not_before: Option<ToCome>,
    /// Ask jobs of lower priority to stop at a checkpoint and give way, where no worker is free.
    #[arg(long)]
    preempt: bool,
    /// Submitting again with the same key gives the same job.
    #[arg(long, value_parser = key)]
    key: Option<String>,
    /// Attempts that it may use up before it fails for good [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    attempts: Option<i32>,
}

impl JobOptions {
    /// The key by which submitting again gives the same job.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The job with these options: what they leave out stays as it is, tags and labels are added.
    ///
    /// # Errors
    /// When a job to wait for is not there, or the options contradict each other.
    pub fn apply(self, db: &Blocking, job: NewJob) -> Result<NewJob> {
        let now = match self.not_before {
            Some(_) => db.wait(db.now())?,
            None => OffsetDateTime::now_utc(),
        };
        let mut job = self.amend(job, now)?;
        for other in &self.after {
            let found = db.find_among(other, &[Kind::Job, Kind::Sweep], Several::Newest);
            let parents = match db.wait(found)? {
                Target { kind: Kind::Sweep, id } => {
                    let jobs = db.wait(db.sweep_jobs(id))?;
                    jobs.into_iter().map(|job| job.id).collect()
                }
                Target { id, .. } => vec![id],
            };
            let new = parents.into_iter().filter(|id| !job.after.contains(id));
            job.after.extend(new.collect::<Vec<_>>());
        }
        if let (Some(_), Some(moment)) = (&self.not_before, job.run_after) {
            let zone = local().unwrap_or(TimeZone::UTC);
            let said = format!("not before {}", in_zone(moment, &zone));
            if once::first(&said) {
                tracing::info!("{said}");
            }
        }
        Ok(job)
    }

    /// The part that needs no database; `now` is what its clock says.
    fn amend(&self, job: NewJob, now: OffsetDateTime) -> Result<NewJob> {
        if self.gpus.is_some_and(|gpus| gpus.most == 0)
            && self.gpu_memory.is_some_and(|bytes| bytes > 0)
        {
            return Err(Error::Invalid(
                "--gpu-memory is what each of the job's GPUs must have: give --gpus 1 or 0..1 too"
                    .into(),
            ));
        }
        self.gpus.unwrap_or_default().check(job.kind)?;
        let hosts = self.hosts.unwrap_or(job.hosts);
        if hosts.least < 1 || hosts.most > 1024 {
            return Err(Error::Invalid(format!("--hosts {hosts}: a job runs on 1 to 1024 hosts")));
        }
        if hosts.most > 1 && job.kind != JobKind::Train {
            return Err(Error::Invalid(format!(
                "--hosts {hosts}: {} runs on one host; its work is taken by as many workers as there are",
                job.kind.program()
            )));
        }
        let run_after = self.not_before.as_ref().map(|moment| moment.from(now)).transpose();
        let run_after = run_after.map_err(|why| Error::Invalid(format!("--not-before {why}")))?;
        let mut job = NewJob {
            priority: self.priority.unwrap_or(job.priority),
            gpus: self.gpus.unwrap_or(job.gpus),
            hosts,
            gpu_memory: self.gpu_memory.unwrap_or(job.gpu_memory),
            owner_asked: self.owner.is_some() || job.owner_asked,
            owner: self.owner.clone().unwrap_or(job.owner),
            run_after: run_after.or(job.run_after),
            preempts: self.preempt || job.preempts,
            submit_key: self.key.clone().or(job.submit_key),
            max_attempts: self.attempts.unwrap_or(job.max_attempts),
            ..job
        };
        for (at, (key, value)) in self.labels.iter().enumerate() {
            if let Some((_, other)) = self.labels[..at].iter().find(|(one, _)| one == key)
                && other != value
            {
                return Err(Error::Invalid(format!(
                    "--label {key} is asked to be both `{other}` and `{value}`: no worker is"
                )));
            }
            job.labels.insert(key.clone(), value.clone());
        }
        for tag in &self.tags {
            if !job.tags.contains(tag) {
                job.tags.push(tag.clone());
            }
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::JobKind;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: JobOptions,
    }

    fn parse(arguments: &[&str]) -> Result<JobOptions, clap::Error> {
        let all = std::iter::once("program").chain(arguments.iter().copied());
        Program::try_parse_from(all).map(|program| program.options)
    }

    fn now() -> OffsetDateTime {
        time::macros::datetime!(2019-05-04 12:00 UTC)
    }

    fn job() -> NewJob {
        let job = NewJob::new(JobKind::Train, "demo", json!({}));
        NewJob { tags: vec!["mine".into()], owner: "ann".into(), ..job }
    }

    #[test]
    fn what_is_given_is_in_the_job_and_what_is_not_stays() {
        let arguments = "--gpus 1 --gpu-memory 24GiB --label zone=a --label disk=fast --tag mine \
                         --tag grid --owner bob --not-before +2h --preempt --priority -3 --key k";
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let made = parse(&arguments).unwrap().amend(job(), now()).unwrap();
        let one = GpuCount::exactly(1);
        assert_eq!((made.gpus, made.gpu_memory, made.priority), (one, 24 << 30, -3));
        let labels: Vec<_> = made.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["disk=fast", "zone=a"]);
        assert_eq!(made.tags, ["mine", "grid"]);
        assert_eq!((made.owner.as_str(), made.preempts), ("bob", true));
        assert_eq!(made.submit_key.as_deref(), Some("k"));
        // By the clock that it is given, and no other.
        assert_eq!(made.run_after, Some(now() + time::Duration::hours(2)));

        // Other options on top, which leave out what these say.
        let again = parse(&["--owner", "carl"]).unwrap().amend(made, now()).unwrap();
        assert_eq!((again.gpus, again.gpu_memory, again.priority), (one, 24 << 30, -3));
        assert_eq!((again.owner.as_str(), again.submit_key.as_deref()), ("carl", Some("k")));

        for options in [parse(&[]).unwrap(), JobOptions::default()] {
            let made = options.amend(job(), now()).unwrap();
            let if_free = GpuCount::up_to(1);
            assert_eq!((made.owner.as_str(), made.preempts, made.gpus), ("ann", false, if_free));
            assert_eq!(
                (made.tags, made.run_after, made.max_attempts),
                (vec!["mine".into()], None, 3)
            );
        }
    }

    #[test]
    fn nonsense_is_refused_and_the_refusal_says_what_is_wanted() {
        for (arguments, says) in [
            (&["--gpu-memory", "24GiB"][..], "--gpus"),
            (&["--gpus", "1", "--gpu-memory", "much"], "24GiB"),
            (&["--gpus", "1..0"], "0..1"),
            (&["--label", "zone"], "KEY=VALUE"),
            (&["--tag", "two words"], "without spaces"),
            (&["--owner", ""], "one word"),
            (&["--not-before", "tomorrow"], "+2h"),
            (&["--not-before", "99999999h"], "+2h"),
            (&["--not-before", "+99999999h"], "more than a year"),
            (&["--tag", "a\u{202e}b"], "invisible"),
            (&["--label", "a=\u{1b}[2J"], "invisible"),
            (&["--key", ""], "a key is"),
            (&["--attempts", "0"], "1"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
        for (arguments, says) in [
            (&["--gpus", "0", "--gpu-memory", "24GiB"][..], "give --gpus 1"),
            (&["--gpus", "2000"], "trainer uses 1024 GPUs of a host at most"),
            (&["--label", "zone=a", "--label", "zone=b"], "both `a` and `b`"),
            (&["--not-before", "2019-01-01T00:00Z"], "is past"),
        ] {
            let error = parse(arguments).unwrap().amend(job(), now()).unwrap_err().to_string();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
