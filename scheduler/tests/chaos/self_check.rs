//! The checks themselves: they find nothing where nothing is wrong, and each finds what it is for.

use registry::Uuid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::audit;
use crate::faults::look;
use crate::fleet::Fleet;
use crate::supply::Supply;

#[test]
fn every_check_finds_what_it_is_for_and_nothing_where_nothing_is_wrong() {
    let mut fleet = Fleet::new(1);
    let mut supply = Supply::new(5);
    let group = supply.group(&fleet, 20..21);
    fleet.fill_seats();
    let deadline = std::time::Instant::now() + crate::fleet::PATIENCE;
    while supply.unfinished(&fleet) > 0 {
        assert!(std::time::Instant::now() < deadline, "{}", fleet.reports());
        look();
    }
    fleet.send_home();
    let (db, pool) = (&fleet.database, &fleet.pool);
    let groups = [group];
    let group = &groups[0];
    let (run, sample, evaluate) = (group.run, group.sample, group.evaluate);

    fleet.runtime.block_on(async {
        let found = audit::all(db, pool, &groups).await;
        assert_eq!(found, [""; 0]);
        assert!(audit::writes(pool).await.unwrap() > 60, "the audit saw nothing");

        // Does it in SQL, and sees that what was not found before is found.
        let finds = async |sql: String, what: &str| {
            let before = audit::all(db, pool, &groups).await;
            sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(pool).await.unwrap();
            new(&before, &audit::all(db, pool, &groups).await, what, &sql);
        };
        let attempt = |job: Uuid, number: &str, began: &str| {
            format!(
                "insert into attempts
                     (job_id, number, worker_id, host, started_at, ended_at, outcome)
                 select job_id, {number}, worker_id, host, {began}, now(), 'failed'
                 from attempts where job_id = '{job}' and number = 1"
            )
        };
        finds(attempt(run, "3", "now()"), "its attempt 2 is number 3").await;
        finds(attempt(sample, "2", "started_at"), "the one before ended at").await;
        finds(attempt(evaluate, "2", "now()"), "its attempts ended as").await;
        let ends = format!("update jobs set state = 'failed' where id = '{evaluate}'");
        finds(ends, "is failed").await;
        finds(format!("update jobs set attempt = 7 where id = '{evaluate}'"), "counts 7").await;

        let of_run = format!("series_id in (select id from series where run_id = '{run}')");
        let copy = |step: &str, attempt: &str, value: &str| {
            format!(
                "insert into metrics select series_id, {step}, {attempt}, {value}
                 from metrics where {of_run} and step = 3 and attempt = 1"
            )
        };
        finds(copy("step", "attempt + 1", "value"), "of step 4 is of abandoned attempt 1").await;
        finds(copy("step", "attempt + 2", "value + 1e-9"), "loss of step 3 is").await;
        finds(copy("21", "attempt", "value"), "loss of step 21 is too much").await;
        let gone = format!("delete from metrics where {of_run} and step = 5");
        finds(gone, "loss of step 5 is missing").await;
        finds(format!("update runs set latest = '{{}}' where id = '{run}'"), "its latest").await;
        finds(format!("update runs set last_step = 19 where id = '{run}'"), "last step").await;

        let checkpoint = format!(
            "insert into checkpoints (run_id, step, attempt, kind, uri, bytes, digest)
             values ('{run}', 1, 1, 'regular', '/nowhere', 1, '')"
        );
        finds(checkpoint, "the checkpoint of step 1 is not there").await;
        let last = format!("update checkpoints set digest = 'x' where run_id = '{run}'");
        finds(last, "has another digest on disk").await;

        let of_sample = format!("job_id = '{sample}' and number");
        let taken = format!("update chunks set state = 'taken' where {of_sample} = 0");
        finds(taken, "chunk 0 is Taken").await;
        finds(format!("delete from chunks where {of_sample} = 1"), "do not cover").await;
        let before = audit::chunks(db, group).await;
        std::fs::write(group.sampling.file(2), "").unwrap();
        new(&before, &audit::chunks(db, group).await, "chunk 2 holds something else", "a file");

        let again = format!(
            "insert into evaluations select gen_random_uuid(), job_id, run_id, step,
             label, task, outputs_uri, reference_uri, scores from evaluations
             where job_id = '{evaluate}'"
        );
        finds(again, "has recorded its score twice").await;
        let other = format!(
            "update evaluations set scores = '{{\"mean\": 7}}' where job_id = '{evaluate}'"
        );
        finds(other, "is not").await;
    });
}

#[test]
fn the_audit_finds_every_kind_of_stale_write() {
    let fleet = Fleet::new(0);
    let mut supply = Supply::new(6);
    let job = supply.group(&fleet, 20..21).run;
    let pool = &fleet.pool;
    fleet.runtime.block_on(async {
        let sql = async |sql: String| {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
        };
        // The job in the hands of an attempt, as far as the row says.
        let give = async |attempt: i32| {
            sql(format!(
                "update jobs set state = 'running', attempt = {attempt},
                     worker_id = (select id from workers), lease_expires_at = now()
                 where id = '{job}'"
            ))
            .await;
        };
        sql("insert into workers (id, name, host, pid, slots, gpus)
             values (gen_random_uuid(), 'w', 'h', 1, 1, 0)"
            .into())
        .await;
        sql(format!("insert into series (run_id, name) values ('{job}', 'loss')")).await;
        let point = |step: i32, attempt: i32| {
            format!("insert into metrics select id, {step}, {attempt}, 0 from series")
        };
        let found = async || audit::fencing(pool).await.unwrap();
        let mut first = writer(&fleet.database, job, 1).await;
        let mut second = writer(&fleet.database, job, 2).await;

        give(1).await;
        execute(&mut first, point(1, 1)).await;
        assert_eq!(found().await, [""; 0], "a write in time is none");

        execute(&mut first, point(2, 7)).await;
        let before = found().await;
        new(&[], &before, "in the name of attempt 7", "another's name");

        // Made in time and committed too late.
        let mut late = first.begin().await.unwrap();
        execute(&mut late, point(3, 1)).await;
        give(2).await;
        late.commit().await.unwrap();
        let after = found().await;
        new(&before, &after, "when attempt 2 had it", "a late commit");

        execute(&mut second, point(4, 2)).await;
        assert_eq!(found().await, after, "a write in time is none");

        execute(&mut first, format!("update jobs set progress_done = 1 where id = '{job}'")).await;
        let before = found().await;
        new(&after, &before, "wrote jobs", "a late progress");

        // Were the job given back to the first: an earlier attempt after a later one.
        give(1).await;
        execute(&mut first, point(5, 1)).await;
        let after = found().await;
        new(&before, &after, "attempt 2 had written", "an earlier attempt after a later one");

        sql(format!(
            "update jobs set state = 'succeeded', worker_id = null, lease_expires_at = null,
                 attempt = 2 where id = '{job}'"
        ))
        .await;
        execute(&mut second, "delete from metrics where step = 4".into()).await;
        new(&after, &found().await, "succeeded", "a write after the end");
    });
}

/// A connection of an attempt's process.
async fn writer(database: &registry::Database, job: Uuid, number: i32) -> PgConnection {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    execute(&mut connection, format!("set {} = '{job}:{number}'", audit::WRITER)).await;
    connection
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Something of this kind was found that was not before.
#[track_caller]
fn new(before: &[String], after: &[String], what: &str, why: &str) {
    let new: Vec<&String> = after.iter().filter(|found| !before.contains(found)).collect();
    assert!(new.iter().any(|found| found.contains(what)), "{why}: {what} is not in {new:?}");
}
