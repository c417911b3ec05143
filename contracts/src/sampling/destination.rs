//! Whether a sampling job may write to a place: what is there, and which other jobs are going to. Asked when a
//! job is submitted, by whichever program; what comes between, an attempt meets by the file
//! [`ORIGIN`].

use serde_json::Value;
use storage::{Place, Store};

use crate::files::{MANIFEST, ORIGIN};
use crate::{Error, Origin, Result};

/// The longest origin that is read.
pub const LONGEST_ORIGIN: u64 = 16 << 20;

/// A sampling job that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Unfinished<'a> {
    /// Its short id.
    pub id: &'a str,
    /// Its state, in a word.
    pub state: &'a str,
    /// The key that it was submitted with.
    pub key: Option<&'a str>,
    /// Its payload.
    pub payload: &'a Value,
}

/// The job whose outputs a place holds, finished or not; none where it holds none.
///
/// # Errors
/// When the place cannot be read, and wrong use where it holds another dataset.
pub fn job_of(store: &Store) -> Result<Option<String>> {
    match store.read(ORIGIN, LONGEST_ORIGIN)? {
        Some(text) => Origin::job_of(&text, store.place()).map(Some),
        None => refuse_dataset(store).map(|()| None),
    }
}

/// As [`job_of`], for a job that is going to be done later, and nothing is made. Where this user's own workers do
/// it (`own`, the private database) the place must be writable now. Elsewhere a worker makes it, as its own user: who
/// submits need neither write there nor read.
///
/// # Errors
/// As [`job_of`]; with `own` when the place cannot be written.
pub fn job_to_be(store: &Store, own: bool) -> Result<Option<String>> {
    match job_of(store) {
        Ok(None) if own => Ok(store.check_writable().map(|()| None)?),
        Err(Error::Storage(error)) if !own && error.is_denied() => Ok(None),
        found => found,
    }
}

/// Refuses a place that holds a dataset.
///
/// # Errors
/// When it does, and when it cannot be read.
pub fn refuse_dataset(store: &Store) -> Result<()> {
    match store.size(MANIFEST)? {
        Some(_) => Err(Error::Refused(format!(
            "{} holds another dataset: choose another --out",
            store.place()
        ))),
        None => Ok(()),
    }
}

/// Refuses a place that one of the `jobs` is going to write to, unless it has this `key`: then it is the job
/// that is submitted again. `again` says how to get the job with a key, where that is possible; `other` how to
/// choose another place.
///
/// # Errors
/// Names the job and what can be done.
pub fn refuse_taken<'a>(
    place: &Place,
    key: Option<&str>,
    jobs: impl IntoIterator<Item = Unfinished<'a>>,
    again: impl FnOnce(&str) -> Option<String>,
    other: &str,
) -> Result<()> {
    let writes_there = |job: &Unfinished| {
        // Of any version, and shares have none of their own.
        let out = job.payload.get("out").and_then(Value::as_str);
        out.and_then(|out| Place::stored(out).ok()).is_some_and(|out| out == *place)
    };
    let is_this = |job: &Unfinished| key.is_some() && job.key == key;
    let Some(job) = jobs.into_iter().find(|job| writes_there(job) && !is_this(job)) else {
        return Ok(());
    };
    let Unfinished { id, state, .. } = job;
    let again =
        job.key.and_then(again).map(|how| format!("{how} to get that job, ")).unwrap_or_default();
    Err(Error::Refused(format!(
        "job {id} ({state}) already writes its outputs to {place}: {again}cancel it (`scheduler cancel \
         {id}`), or {other}"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(place: &str, key: Option<&str>) -> Option<String> {
        let payloads = [
            json!({ "share_of": "1" }),
            json!({ "out": "s3://bucket/out" }),
            // As it was typed, by a program of before.
            json!({ "out": "file:///out", "more": 1, "version": 9 }),
        ];
        let jobs = payloads.iter().map(|payload| Unfinished {
            id: "0123abcd",
            state: "queued",
            key: payload.get("more").map(|_| "mine"),
            payload,
        });
        let again = |key: &str| Some(format!("say --key \"{key}\""));
        refuse_taken(&place.parse().unwrap(), key, jobs, again, "choose another --out")
            .map_err(|error| error.to_string())
            .err()
    }

    #[test]
    fn a_place_is_one_jobs() {
        for (place, key) in [("/other", None), ("/out", Some("mine")), ("/out/in", None)] {
            assert_eq!(refused(place, key), None, "{place}");
        }
        assert_eq!(
            refused("/out", Some("other")).unwrap(),
            "job 0123abcd (queued) already writes its outputs to /out: say --key \"mine\" to get that job, \
             cancel it (`scheduler cancel 0123abcd`), or choose another --out"
        );
        // Neither has a key: they are not the same job.
        let without = refused("s3://bucket/out", None).unwrap();
        assert!(without.contains("/out: cancel it"), "{without}");
    }

    #[test]
    fn a_place_of_a_job_to_be_is_not_made_by_whoever_submits_it() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            |name: &str| Store::open(&Place::folder(folder.path().join(name)).unwrap()).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        for own in [true, false] {
            assert_eq!(job_to_be(&store("a/b"), own).unwrap(), None);
        }
        for place in ["file/in", "link/in"] {
            assert!(job_to_be(&store(place), true).is_err(), "{place}");
            assert_eq!(job_to_be(&store(place), false).unwrap(), None, "{place}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_place_with_outputs_is_their_jobs_and_one_with_a_dataset_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Place::folder(folder.path()).unwrap()).unwrap();
        assert_eq!(job_of(&store).unwrap(), None);
        std::fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        let error = job_of(&store).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("holds another dataset"));
        std::fs::write(folder.path().join(ORIGIN), r#"{"job": "x", "version": 9}"#).unwrap();
        assert_eq!(job_of(&store).unwrap().as_deref(), Some("x"));
        std::fs::write(folder.path().join(ORIGIN), "{").unwrap();
        assert!(job_of(&store).unwrap_err().to_string().contains("is damaged"));
    }
}
