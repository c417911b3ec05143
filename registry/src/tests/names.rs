//! What people type and what they write: ids before names, names that several have, notes, tags, the archive.

use std::collections::BTreeMap;

use serde_json::json;

use super::{anything, job, lease, new_run, set_up, worker};
use crate::queue::attempts::Ended;
use crate::{
    Database, Error, JobFilter, Kind, NewJob, NewSweep, Outcome, RunFilter, Several, Target, Uuid,
};

const ALL: [Kind; 3] = [Kind::Job, Kind::Run, Kind::Sweep];

fn target(kind: Kind, id: Uuid) -> Target {
    Target { kind, id }
}

async fn named(db: &Database, name: &str) -> Uuid {
    db.submit(NewJob { held: true, ..job(name) }).await.unwrap().job.id
}

fn sweep(name: &str, points: i32) -> NewSweep {
    let run = |n: i32| (new_run(&format!("{name}-{n}")), json!({"lr": n}));
    NewSweep {
        name: name.into(),
        owner: "ann".into(),
        submit_key: None,
        at_most: None,
        runs: (1..=points).map(run).collect(),
    }
}

async fn jobs(db: &Database, archived: Option<bool>) -> Vec<String> {
    let jobs = db.jobs(JobFilter { archived, ..JobFilter::default() }).await.unwrap();
    jobs.into_iter().map(|job| job.name).collect()
}

/// Claims the only job there is, and ends it.
async fn end(db: &Database) {
    let me = worker(db).await;
    let fence = db.claim(&me, &anything(), &lease()).await.unwrap().unwrap().fence;
    db.finish(fence, &Ended::new(Outcome::Succeeded, None), &lease()).await.unwrap();
}

#[test]
fn a_whole_id_comes_before_a_name_and_a_name_before_the_beginning_of_an_id() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let first = named(&db, "first").await;
        let short = crate::short(&first);
        let whole = first.to_string();
        let find = async |name: &str| db.find_among(name, &ALL, Several::Refuse).await.unwrap().id;
        // Jobs that are called like its ids never take its place, whatever is asked of it.
        named(&db, &short).await;
        named(&db, &whole).await;
        assert_eq!((find(&short).await, find(&whole).await), (first, first));
        let beginning = named(&db, &short[..7]).await;
        assert_eq!(find(&short[..7]).await, beginning);
        let hexadecimal = named(&db, "cafebabe").await;
        assert_eq!(find("cafebabe").await, hexadecimal);
    });
}

#[test]
fn of_several_of_one_name_the_newest_is_read_and_none_is_changed() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let old = named(&db, "demo").await;
        let new = named(&db, "demo").await;
        let find = async |several| db.find_among("demo", &[Kind::Job, Kind::Sweep], several).await;
        assert_eq!(find(Several::Newest).await.unwrap().id, new);
        let error = find(Several::Refuse).await.unwrap_err().to_string();
        let (old_id, new_id) = (crate::short(&old), crate::short(&new));
        let wanted = format!("2 jobs are called `demo` ({new_id}, {old_id}): give the id of one");
        assert_eq!(error, wanted);
        // A sweep of the same name is another that may be meant.
        let grid = db.submit_sweep(sweep("demo", 1)).await.unwrap().sweep;
        let error = find(Several::Refuse).await.unwrap_err().to_string();
        assert!(error.starts_with("3 things are called `demo`"), "{error}");
        assert!(error.contains(&format!("sweep {}, job {new_id}", grid.short)), "{error}");

        // Of those in the archive nobody speaks while one is not.
        for id in [new, grid.id] {
            let kind = if id == new { Kind::Job } else { Kind::Sweep };
            if kind == Kind::Sweep {
                let run = db.sweep_jobs(id).await.unwrap()[0].id;
                db.cancel(run).await.unwrap();
            } else {
                db.cancel(id).await.unwrap();
            }
            db.archive(target(kind, id)).await.unwrap();
        }
        assert_eq!(find(Several::Refuse).await.unwrap().id, old);
        db.cancel(old).await.unwrap();
        db.archive(target(Kind::Job, old)).await.unwrap();
        assert_eq!(
            find(Several::Newest).await.unwrap().id,
            grid.id,
            "the archive is searched last"
        );
    });
}

#[test]
fn a_run_and_its_job_are_one_and_what_is_not_there_names_what_is_like_it() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let run = db.create_run(new_run("demo")).await.unwrap().run;
        let found = db.find_among("demo", &ALL, Several::Refuse).await.unwrap();
        assert_eq!(found, target(Kind::Job, run.id));
        let error = db.find_run("dmo").await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }));
        assert_eq!(error.to_string(), "no run `dmo`; did you mean `demo`? (see `scheduler runs`)");
        let error = db.find_among("other", &[Kind::Job, Kind::Sweep], Several::Newest).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "no job or sweep `other` (see `scheduler jobs` or `scheduler sweeps`)"
        );
    });
}

#[test]
fn names_tags_and_notes_are_those_of_a_run_and_its_job() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let id = db.create_run(new_run("before")).await.unwrap().run.id;
        let it = target(Kind::Job, id);
        db.rename(it, "after").await.unwrap();
        db.note(it, Some("the one for the paper")).await.unwrap();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        db.tag(it, &words(&["b", "a"]), &[]).await.unwrap();
        db.tag(it, &words(&["a", "c"]), &words(&["b"])).await.unwrap();
        let (job, run) = (db.job(id).await.unwrap(), db.run(id).await.unwrap());
        assert_eq!((job.name.as_str(), run.name.as_str()), ("after", "after"));
        assert_eq!((&job.tags, &run.tags), (&words(&["a", "c"]), &words(&["a", "c"])));
        assert_eq!(job.note.as_deref(), Some("the one for the paper"));
        assert_eq!(job.note, run.note);
        db.note(target(Kind::Run, id), None).await.unwrap();
        assert_eq!(db.job(id).await.unwrap().note, None);
        for wrong in ["", "two words", "run@5", "a/b", &"x".repeat(101)] {
            assert!(db.rename(it, wrong).await.unwrap_err().is_usage(), "{wrong}");
        }
        assert!(db.tag(it, &words(&["a,b"]), &[]).await.unwrap_err().is_usage());
        assert!(db.note(it, Some(&"x".repeat(10_001))).await.unwrap_err().is_usage());
        let nobody = target(Kind::Run, Uuid::new_v4());
        assert!(matches!(db.rename(nobody, "x").await, Err(Error::NotFound { .. })));
        assert!(matches!(db.tag(nobody, &words(&["x"]), &[]).await, Err(Error::NotFound { .. })));
    });
}

#[test]
fn what_is_archived_is_left_out_of_lists_and_found_by_name() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let run = db.create_run(new_run("demo")).await.unwrap().run;
        let it = target(Kind::Job, run.id);
        let error = db.archive(it).await.unwrap_err().to_string();
        assert!(error.contains(&format!("job {} is queued", run.short)), "{error}");
        assert!(error.contains("wait, or `scheduler cancel"), "{error}");
        end(&db).await;
        db.archive(it).await.unwrap();
        db.submit(job("other")).await.unwrap();
        let (demo, other) = ("demo".to_owned(), "other".to_owned());
        assert_eq!(jobs(&db, Some(false)).await, [other.as_str()]);
        assert_eq!(jobs(&db, Some(true)).await, [demo.as_str()]);
        assert_eq!(jobs(&db, None).await, [other.as_str(), demo.as_str()]);
        let runs = async |archived| {
            db.runs(RunFilter { archived, ..RunFilter::default() }).await.unwrap().len()
        };
        assert_eq!((runs(Some(false)).await, runs(Some(true)).await), (0, 1));
        let counts = db.count_jobs(&JobFilter::default()).await.unwrap();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<i64>(), 1);
        assert_eq!(db.find_run("demo").await.unwrap().id, run.id);
        assert!(db.find_job("demo").await.unwrap().archived_at.is_some());
        db.unarchive(it).await.unwrap();
        assert_eq!((runs(Some(false)).await, jobs(&db, Some(true)).await.len()), (1, 0));
    });
}

#[test]
fn a_sweep_is_archived_with_its_jobs_and_comes_back_when_one_is_queued_again() {
    let (_cluster, runtime, db) = set_up();
    runtime.block_on(async {
        let grid = db.submit_sweep(sweep("grid", 2)).await.unwrap();
        let it = target(Kind::Sweep, grid.sweep.id);
        let error = db.archive(it).await.unwrap_err().to_string();
        assert!(error.contains("(and 1 more have not ended)"), "{error}");
        for run in &grid.runs {
            db.cancel(run.job.id).await.unwrap();
        }
        db.archive(it).await.unwrap();
        let sweeps = async |archived| db.sweeps(archived, None).await.unwrap().len();
        assert_eq!((sweeps(Some(false)).await, sweeps(Some(true)).await), (0, 1));
        assert_eq!(jobs(&db, Some(true)).await.len(), 2);

        let again = grid.runs[0].job.id;
        db.retry(again).await.unwrap();
        assert!(db.job(again).await.unwrap().archived_at.is_none());
        assert!(db.run(again).await.unwrap().archived_at.is_none());
        assert_eq!((sweeps(Some(false)).await, jobs(&db, Some(true)).await.len()), (1, 1));

        db.tag(it, &["night".to_owned()], &[]).await.unwrap();
        db.rename(it, "lattice").await.unwrap();
        db.note(it, Some("coarse")).await.unwrap();
        let row = db.find_sweep("lattice").await.unwrap();
        assert_eq!((row.id, row.note.as_deref()), (grid.sweep.id, Some("coarse")));
        let tags: BTreeMap<String, Vec<String>> = db
            .sweep_jobs(grid.sweep.id)
            .await
            .unwrap()
            .into_iter()
            .map(|job| (job.name, job.tags))
            .collect();
        assert!(tags.values().all(|tags| tags == &["night"]), "{tags:?}");
    });
}
