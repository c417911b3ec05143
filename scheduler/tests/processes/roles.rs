//! A shared server with the roles of `migrations/roles.sql`: who may do what, through the programs
//! and past them.

use std::process::{Command, Output};

use registry::{
    Attempt, CheckpointKind, CheckpointRecord, Database, Ending, Error, JobKind, JobState, NewJob,
    NewRun, NewSampling, NewStudy,
};
use serde_json::json;
use testkit::{House, psql, text};
use tokio::runtime::Runtime;

use crate::database::job;

/// A server with the database `shared` of the role `keeper`, who is no superuser, and the login
/// roles `ann` (a reader), `bob` (a user), `wil` (a worker) and `eve` (nobody).
struct Shared {
    house: House,
    runtime: Runtime,
}

impl Shared {
    fn new() -> Self {
        let shared = Self { house: House::with_scripts(), runtime: Runtime::new().unwrap() };
        shared.house.ok("scheduler", &["up"]);
        let maintenance = shared.url("palette").replace("/shared", "/postgres");
        let roles = "create role keeper login; create role ann login; create role bob login;
                     create role wil login; create role eve login;";
        assert_ok(&psql(&maintenance, &["-c", roles]));
        assert_ok(&psql(&maintenance, &["-c", "create database shared owner keeper"]));
        shared
    }

    /// As [`Shared::new`], with tables and roles.
    fn with_roles() -> Self {
        let shared = Self::new();
        assert_ok(&shared.scheduler("keeper", &["up"]));
        assert_ok(&shared.roles("keeper"));
        let grants = "grant palette_reader to ann; grant palette_user to bob;
                      grant palette_worker to wil;";
        assert_ok(&shared.sql("palette", grants));
        shared
    }

    fn url(&self, role: &str) -> String {
        self.house
            .url()
            .replace("///palette?", "///shared?")
            .replace("user=palette", &format!("user={role}"))
    }

    fn roles(&self, owner: &str) -> Output {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/roles.sql");
        psql(&self.url("palette"), &["-v", &format!("owner={owner}"), "-f", file])
    }

    fn sql(&self, role: &str, statement: &str) -> Output {
        psql(&self.url(role), &["-c", statement])
    }

    /// A statement that must be refused for want of a right.
    fn refused(&self, role: &str, statement: &str) {
        let output = self.sql(role, statement);
        let stderr = text(&output.stderr);
        assert!(!output.status.success(), "{role} may {statement}");
        let refusal = stderr.contains("permission denied") || stderr.contains("must be owner");
        assert!(refusal, "{role}: {statement}: {stderr}");
    }

    fn command(&self, role: &str, arguments: &[&str]) -> Command {
        self.program(role, "scheduler", arguments)
    }

    fn program(&self, role: &str, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.house.command(name, arguments);
        command.env("DATABASE_URL", self.url(role));
        command
    }

    fn scheduler(&self, role: &str, arguments: &[&str]) -> Output {
        self.command(role, arguments).output().unwrap()
    }

    /// A command that must fail in one line, without a word of SQL states.
    fn fails(&self, role: &str, arguments: &[&str]) -> String {
        let stderr = testkit::failed(&mut self.command(role, arguments), 1);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("42501") && !stderr.contains("Database("), "{stderr}");
        stderr
    }

    fn open(&self, role: &str) -> Database {
        self.runtime.block_on(Database::open_url(&self.url(role))).unwrap()
    }
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn run(name: &str) -> NewRun {
    NewRun {
        name: name.into(),
        experiment: None,
        config: json!({}),
        seed: 1,
        total_steps: 10,
        uri: Some("/runs/shared".into()),
        under: None,
        best_metric: "loss".into(),
        git_revision: None,
        datasets: vec![registry::RunDataset {
            role: registry::DataRole::Train,
            name: "tiny".into(),
            uri: "/data/tiny".into(),
            manifest_digest: "d1".into(),
            rows: 100,
            weight: 1.0,
        }],
        fork: None,
        job: NewJob { submit_key: Some(format!("{name}-1")), ..job(name) },
    }
}

#[test]
fn the_file_of_roles_says_what_is_missing_and_can_be_run_again() {
    let shared = Shared::new();
    let fails = |owner: &str| {
        let output = shared.roles(owner);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        text(&output.stderr).lines().next().unwrap_or_default().to_owned()
    };
    assert!(fails("nobody").contains("there is no role nobody"));
    assert!(fails("").contains("name the role that migrates"));
    let message = fails("keeper");
    assert!(message.contains("no tables yet: run `scheduler up` as keeper"), "{message}");
    assert_ok(&shared.scheduler("keeper", &["up"]));
    let message = fails("ann");
    assert!(message.contains("jobs is of keeper"), "{message}");
    for _ in 0..2 {
        let output = shared.roles("keeper");
        assert_ok(&output);
        assert!(output.stderr.is_empty() && output.stdout.is_empty(), "{}", text(&output.stderr));
    }
}

#[test]
fn each_role_does_its_part_and_no_more() {
    let shared = Shared::with_roles();
    let bob = shared.open("bob");
    // What users submit: a job, one after it, a run with its dataset, again under its key, samples.
    shared.runtime.block_on(async {
        let first = bob.submit(job("first")).await.unwrap().job;
        bob.submit(NewJob { after: vec![first.id], ..job("second") }).await.unwrap();
        let made = bob.create_run(run("a-run")).await.unwrap();
        assert!(!made.existed);
        assert!(bob.create_run(run("a-run")).await.unwrap().existed);
        let other = NewRun { experiment: Some("a-run".into()), ..run("b-run") };
        bob.create_run(other).await.unwrap();
        let id = bob.new_run_id().await.unwrap();
        let checkpoint = registry::CheckpointRecord {
            step: 5,
            kind: registry::CheckpointKind::Regular,
            uri: "/copy".into(),
            bytes: 1,
            digest: "d".into(),
            metrics: Default::default(),
        };
        let fork = registry::Fork { run: id, parent: made.run.id, checkpoint };
        let config = json!({ "train": { "steps": 10 } });
        let fork = NewRun { fork: Some(fork), config, ..run("fork") };
        bob.create_run(fork).await.unwrap();
        let sampling = NewSampling {
            run_id: Some(made.run.id),
            step: None,
            dataset_uri: "/data/tiny".into(),
            task: "inpaint".into(),
            output_uri: "/out".into(),
            shares: 0,
            job: NewJob::new(JobKind::Sample, "samples", json!({})),
        };
        bob.submit_sampling(sampling).await.unwrap();
    });
    for command in ["pause", "resume", "cancel", "retry"] {
        assert_ok(&shared.scheduler("bob", &[command, "first"]));
    }

    // Readers look, and are told in one line that it ends there.
    for command in ["jobs", "runs"] {
        let output = shared.scheduler("ann", &[command]);
        assert_ok(&output);
        assert!(text(&output.stdout).contains("a-run"), "{}", text(&output.stdout));
    }
    for command in ["show", "metrics", "checkpoints"] {
        assert_ok(&shared.scheduler("ann", &[command, "a-run"]));
    }
    for command in ["cancel", "pause", "retry"] {
        let message = shared.fails("ann", &[command, "second"]);
        assert!(message.contains("permission denied for table jobs"), "{message}");
        assert!(message.contains("an administrator grants it"), "{message}");
    }
    let refused = shared.runtime.block_on(shared.open("ann").submit(job("third")));
    assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");

    // Past the programs: what belongs to attempts is not a user's.
    let forged = "insert into jobs (id, kind, name, owner, payload, attempt)
                  values (gen_random_uuid(), 'train', 'x', 'x', '{}', 7)";
    for statement in [
        forged,
        "insert into workers (id, name, host, pid, slots, gpus)
         values (gen_random_uuid(), 'x', 'x', 1, 1, 0)",
        "insert into attempts (job_id, number, worker_id, host)
         select id, 1, id, 'x' from jobs limit 1",
        "update attempts set outcome = 'succeeded', ended_at = now()",
        "insert into series (run_id, name) select id, 'loss' from runs limit 1",
        "insert into metrics (series_id, step, attempt, value) values (1, 1, 1, 0)",
        "insert into checkpoints (run_id, step, attempt, kind, uri, bytes, digest)
         select id, 1, 1, 'final', '/x', 0, 'd' from runs limit 1",
        "insert into evaluations (id, label, outputs_uri, scores)
         values (gen_random_uuid(), 'x', '/x', '{}')",
        "update jobs set attempt = attempt + 1",
        "update jobs set payload = '{}'",
        "update runs set latest = '{}'",
        "delete from jobs",
        "delete from runs",
    ] {
        shared.refused("ann", statement);
        shared.refused("bob", statement);
    }
    // Nobody but the owner changes the tables, nor what was migrated.
    for role in ["ann", "bob", "wil"] {
        for statement in [
            "drop table jobs",
            "alter table jobs add column mine integer",
            "create table mine (id integer)",
            "truncate metrics",
            "drop function notify_jobs() cascade",
            "alter type job_state add value 'mine'",
            "delete from _sqlx_migrations",
            "delete from jobs",
        ] {
            shared.refused(role, statement);
        }
        assert_ok(&shared.sql(role, "select version from _sqlx_migrations"));
    }
    for statement in [
        "select begin_fork(id, id, 3, '/x', 0, 'd', '{}') from runs where name = 'fork'",
        "select extend_run(id, 20, '{\"seed\": 2}', 'd', '{}') from runs where name = 'fork'",
    ] {
        shared.refused("ann", statement);
        assert!(!shared.sql("bob", statement).status.success(), "{statement}");
    }
    let extend = "select extend_run(id, 20, '{\"train\": {\"steps\": 20}}', 'd', payload)
                  from runs join jobs using (id) where runs.name = 'fork'";
    shared.refused("ann", extend);
    assert_ok(&shared.sql("bob", extend));
    let message = shared.fails("eve", &["jobs"]);
    assert!(message.contains("permission denied for database"), "{message}");
    assert!(message.contains("an administrator grants"), "{message}");
    let message = shared.fails("bob", &["worker", "--drain"]);
    assert!(message.contains("no program"), "{message}");
    shared.house.script("trainer", "exit 0");
    let message = shared.fails("bob", &["worker", "--drain"]);
    assert!(message.contains("permission denied for table workers"), "{message}");
}

/// A caller's temporary tables take the place of those that a function with the owner's rights names, and a trigger on
/// them does what its caller wants with those rights.
const TRAP: &str = "
    create temp table attempts (job_id uuid, number integer, ended_at timestamptz, outcome attempt_outcome, reason text);
    create temp table jobs (id uuid, state job_state);
    insert into attempts values ('00000000-0000-0000-0000-000000000000', 1);
    create function pg_temp.spring() returns trigger language plpgsql as $$
    begin
        execute 'grant all on all tables in schema public to ' || session_user;
        return new;
    end $$;
    create trigger spring before update on attempts for each row execute function pg_temp.spring();
    grant all on attempts, jobs to public;
    set search_path = pg_temp, public;
    select public.end_by_force('00000000-0000-0000-0000-000000000000', 1);";

#[test]
fn nobody_borrows_the_rights_of_the_owner() {
    let shared = Shared::new();
    assert_ok(&shared.scheduler("keeper", &["up"]));
    let caught = |role: &str| {
        let output = shared.sql(role, TRAP);
        let said = text(&output.stderr);
        let rights =
            format!("select has_table_privilege('{role}', 'public.jobs', 'delete')::integer");
        let gained = psql(&shared.url("palette"), &["-At", "-c", &rights]);
        assert_eq!(text(&gained.stdout).trim(), "0", "{role} owns the queue: {said}");
        (output.status.success(), said)
    };
    // Before there are roles, anybody who can log in may make temporary tables, and nothing else.
    let (done, said) = caught("eve");
    assert!(!done && said.contains("permission denied for function end_by_force"), "{said}");
    // Who may call the function does not get past its names.
    let temporary = "grant connect, temporary on database shared to public;
                     grant execute on function end_by_force to eve, bob; grant usage on schema public to eve";
    assert_ok(&shared.sql("palette", temporary));
    let (done, said) = caught("eve");
    assert!(!done && said.contains("permission denied for table jobs"), "{said}");
    assert_ok(&shared.roles("keeper"));
    assert_ok(&shared.sql("palette", "grant palette_reader to ann; grant palette_user to bob"));
    assert_ok(&shared.sql("palette", temporary));
    let (_, said) = caught("bob");
    assert!(!said.contains("spring"), "{said}");
    for role in ["ann", "eve"] {
        assert!(!caught(role).0);
    }
}

#[test]
fn every_function_with_the_rights_of_the_owner_looks_for_names_where_nobody_else_writes() {
    let shared = Shared::with_roles();
    let found = |condition: &str| {
        let functions = format!(
            "select oid::regprocedure from pg_proc where pronamespace = 'public'::regnamespace and prosecdef
                 and {condition} order by 1"
        );
        let output = psql(&shared.url("palette"), &["-At", "-c", &functions]);
        assert_ok(&output);
        text(&output.stdout)
    };
    assert!(found("true").lines().count() >= 8, "{}", found("true"));
    let form = "proconfig is distinct from array['search_path=pg_catalog, public, pg_temp']";
    assert_eq!(found(form), "");
    // A trigger's function cannot be called; of the others users may call three.
    let public = "exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)";
    assert_eq!(found(public), "");
    assert_eq!(found("has_function_privilege('palette_reader', oid, 'execute')"), "");
    let users = found("has_function_privilege('palette_user', oid, 'execute')");
    assert_eq!(users.lines().count(), 3, "{users}");
}

#[test]
fn only_workers_say_that_a_job_runs_and_how_it_ended() {
    let shared = Shared::with_roles();
    let (bob, wil) = (shared.open("bob"), shared.open("wil"));
    let lease = registry::Lease {
        length: std::time::Duration::from_secs(600),
        retry_delay: std::time::Duration::ZERO,
    };
    let worker = registry::WorkerInfo::this_process(Some("wil".into()), 1);
    let (queued, running, done) = shared.runtime.block_on(async {
        wil.register_worker(&worker).await.unwrap();
        let mut jobs = Vec::new();
        for name in ["queued", "running", "done"] {
            jobs.push(bob.submit(job(name)).await.unwrap().job.id);
        }
        for job in &jobs[1..] {
            let claimed = wil.claim_job(&worker, *job, &lease).await.unwrap();
            if *job == jobs[2] {
                let ended = registry::Ended::new(registry::Outcome::Succeeded, None);
                wil.finish(claimed.fence, &ended, &lease).await.unwrap();
            }
        }
        (jobs[0], jobs[1], jobs[2])
    });
    let lease = "lease_expires_at = now() + interval '1 day'";
    for statement in [
        format!("update jobs set state = 'succeeded' where id = '{queued}'"),
        format!("update jobs set state = 'failed' where id = '{queued}'"),
        format!(
            "update jobs set state = 'running', worker_id = gen_random_uuid(), {lease} where id = '{queued}'"
        ),
        format!(
            "update jobs set state = 'running', worker_id = '{}', {lease} where id = '{queued}'",
            worker.id
        ),
        format!(
            "update jobs set state = 'succeeded', worker_id = null, lease_expires_at = null where id = '{running}'"
        ),
        format!(
            "update jobs set state = 'queued', worker_id = null, lease_expires_at = null where id = '{running}'"
        ),
        format!("update jobs set {lease} where id = '{running}'"),
        format!("update jobs set worker_id = gen_random_uuid() where id = '{running}'"),
        format!("update jobs set state = 'cancelled' where id = '{done}'"),
        "insert into jobs (id, kind, state, name, owner, payload)
         values (gen_random_uuid(), 'train', 'succeeded', 'x', 'bob', '{}')"
            .to_owned(),
        "update sweeps set running = 0".to_owned(),
    ] {
        shared.refused("bob", &statement);
    }
    // What users do stays theirs.
    for command in
        [&["pause", "queued"][..], &["resume", "queued"], &["cancel", "--force", "running"]]
    {
        assert_ok(&shared.scheduler("bob", command));
    }
    let running = shared.runtime.block_on(bob.job(running)).unwrap();
    assert_eq!((running.state, running.worker_id), (JobState::Cancelled, None));
}

/// What no program could read would hide all other rows of a list, and stop each worker that claims it.
#[test]
fn no_row_of_a_user_stops_a_worker_or_hides_others() {
    let shared = Shared::with_roles();
    let bob = shared.open("bob");
    let (known, waits) = shared.runtime.block_on(async {
        bob.create_run(run("run")).await.unwrap();
        let (known, waits) = (bob.submit(job("known")).await, bob.submit(job("waits")).await);
        (known.unwrap().job, waits.unwrap().job)
    });
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let insert = |column: &str, value: &str| {
        format!(
            "insert into jobs (id, kind, name, owner, payload{column})
             values (gen_random_uuid(), 'ingest', 'x', 'bob', {value})"
        )
    };
    let payload = |text: &str| insert("", &format!("'{{\"x\": {text}}}'"));
    let of_known = |change: &str| format!("update jobs set {change} where id = '{}'", known.id);
    for statement in [
        insert(", created_at", "'{}', 'infinity'"),
        insert(", created_at", "'{}', '290000-01-01'"),
        insert(", run_after", "'{}', '-infinity'"),
        insert(", tags", "'{}', '{null}'"),
        insert(", tags", "'{}', '{{a,b},{c,d}}'"),
        insert(", labels", &format!("'{{}}', '{{\"x\": {}}}'", nested(300))),
        payload(&nested(129)),
        payload(&"9".repeat(400)),
        payload("1e400"),
        of_known("run_after = 'infinity'"),
        of_known("ended_at = 'infinity'"),
        of_known("archived_at = '-infinity'"),
        of_known("tags = '{null}'"),
        of_known("note = repeat('x', 1000000)"),
        of_known("reason = repeat('x', 1000000)"),
        of_known("attempts_used = 2147483647"),
        "update runs set tags = '{null}'".to_owned(),
        "update runs set archived_at = 'infinity'".to_owned(),
        // Logs of jobs whose ids begin alike would lie in one folder.
        format!(
            "insert into jobs (id, kind, name, owner, payload)
             values ('{}-1111-1111-1111-111111111111', 'ingest', 'x', 'bob', '{{}}')",
            known.short
        ),
        // Checkpoints of a run that is not new are its attempts'.
        "begin; update runs set note = 'x';
         select begin_fork(id, id, 5, '/x', 1, 'abc', '{}') from runs; commit"
            .to_owned(),
    ] {
        let output = shared.sql("bob", &statement);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{statement}");
        let refused = ["violates check constraint", "is nested too deep", "permission denied"]
            .iter()
            .chain(&["another job begins with", "is not new", "multidimensional arrays"])
            .any(|words| said.contains(words));
        assert!(refused, "{statement}: {said}");
    }
    assert_ok(&shared.sql("bob", &payload(&nested(98))));
    assert_ok(&shared.sql("bob", &payload("\"[[[[\\\"{{{{ 1e999\"")));
    for list in ["jobs", "runs"] {
        let listed = shared.scheduler("ann", &[list, "--json"]);
        assert_ok(&listed);
    }
    let cancelled = shared.scheduler("bob", &["cancel", &waits.short]);
    assert_ok(&cancelled);
}

#[test]
fn what_is_submitted_belongs_to_the_role_that_is_logged_in() {
    let shared = Shared::with_roles();
    let owner = |role: &str, name: &str| {
        let new = NewJob { owner: "boss".into(), ..job(name) };
        shared.runtime.block_on(shared.open(role).submit(new)).unwrap().job.owner
    };
    assert_eq!(owner("bob", "first"), "bob");
    assert_eq!(owner("wil", "second"), "wil");
    assert_eq!(owner("keeper", "third"), "boss");
    assert_ok(&shared.sql("palette", "grant palette_proxy to bob"));
    assert_eq!(owner("bob", "fourth"), "boss");
    assert_ok(&shared.sql("palette", "revoke palette_proxy from bob"));
    shared.refused("bob", "update jobs set owner = 'boss'");
    let as_nobody = shared.url("bob") + "&options=-crole%3Dpalette_user";
    let mut command = shared.command("bob", &["submit", "ingest", "--name", "fifth", "--", "x"]);
    testkit::run_ok(command.env("DATABASE_URL", as_nobody));
    let fifth = shared.runtime.block_on(shared.open("bob").find_job("fifth")).unwrap();
    assert_eq!(fifth.owner, "bob");
    let made = shared.runtime.block_on(shared.open("bob").create_run(run("mine"))).unwrap();
    assert_eq!((made.run.owner.as_str(), made.job.owner.as_str()), ("bob", "bob"));
    let mine = shared.scheduler("bob", &["jobs", "--mine", "--json"]);
    assert_ok(&mine);
    let mine = text(&mine.stdout);
    assert!(mine.contains("first") && mine.contains("mine") && !mine.contains("second"), "{mine}");
}

#[test]
fn an_owner_that_the_database_does_not_take_is_a_warning() {
    let shared = Shared::with_roles();
    shared.house.script("pipeline", "exit 0");
    let submitted = |role: &str, options: &[&str]| {
        let arguments = [&["submit", "ingest"][..], options, &["--", "photos", "--out", "y"]];
        let mut command = shared.command(role, &arguments.concat());
        let output = command.env("USER", "boss").output().unwrap();
        assert_ok(&output);
        text(&output.stderr)
    };
    let warning = "owner is bob: only a login with palette_proxy names others";
    for options in [&["--owner", "carl"][..], &["--owner", "boss"]] {
        let said = submitted("bob", options);
        assert_eq!(said.matches(warning).count(), 1, "{options:?}: {said}");
    }
    for options in [&["--owner", "bob"][..], &[]] {
        let said = submitted("bob", options);
        assert!(!said.contains("palette_proxy"), "{options:?}: {said}");
    }
    assert!(!submitted("keeper", &["--owner", "carl"]).contains("palette_proxy"));
}

#[test]
fn what_a_role_may_not_do_to_its_end_is_not_begun() {
    let shared = Shared::with_roles();
    shared.house.dataset(4);
    let fails = |name: &str, arguments: &[&str]| {
        let said = testkit::failed(&mut shared.program("bob", name, arguments), 1);
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        said
    };
    let score =
        ["run", "--outputs", "scenes", "--reference", "scenes", "--no-structure", "--label", "x"];
    let details = shared.house.path("details.csv");
    let said = fails("evaluator", &[&score[..], &["--details", "details.csv"]].concat());
    for part in ["may not keep scores", "INSERT on evaluations", "palette_worker", "--dry-run"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!details.exists(), "it was scored all the same");
    let mut dry = shared.program("bob", "evaluator", &[&score[..], &["--dry-run"]].concat());
    assert!(testkit::run_ok(&mut dry).contains("PSNR"));

    let config = shared.house.config("train", 10);
    let said = fails("trainer", &["run", &config]);
    assert!(said.contains("may not do jobs (it lacks INSERT on workers"), "{said}");
    assert!(said.contains("palette_worker"), "{said}");
    for list in ["jobs", "runs"] {
        let left = shared.scheduler("ann", &[list, "--all", "--json"]);
        assert_eq!(text(&left.stdout).trim(), "[]", "{list}");
    }

    let said = fails("scheduler", &["bench", "claims"]);
    assert!(said.contains("gives the role bob CREATEDB"), "{said}");
    assert!(!said.contains("palette_reader"), "{said}");
}

#[test]
fn a_user_makes_and_serves_a_study_and_nobody_changes_an_answer() {
    let shared = Shared::with_roles();
    let study = NewStudy {
        name: "faces".into(),
        owner: "bob".into(),
        seed: 0,
        seconds: vec![3.0],
        reference_uri: "/photographs".into(),
        systems: vec![("palette".into(), "/out".into())],
        images: vec![registry::NewStudyImage {
            set: 1,
            key: "a".into(),
            reference: vec![1],
            outputs: vec![vec![2]],
        }],
    };
    let trial = registry::NewTrial { image: 0, system: 0, reference_side: registry::Side::Left };
    let rater = registry::NewRater {
        set: 1,
        seconds: 3.0,
        number: 0,
        token: "secret".into(),
        trials: vec![trial],
    };
    let answer = registry::NewAnswer {
        trial: 1,
        chosen: registry::Side::Left,
        shown_ms: 1200.0,
        response_ms: 300.0,
        interrupted: true,
        input: registry::RaterInput::Touch,
    };
    let (bob, ann) = (shared.open("bob"), shared.open("ann"));
    shared.runtime.block_on(async {
        let refused = ann.create_study(&study).await;
        assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
        let made = bob.create_study(&study).await.unwrap();
        bob.invite_raters(made.id, &[rater]).await.unwrap();
        let rater = bob.rater(made.id, "secret").await.unwrap().unwrap().id;
        bob.start_rater(rater).await.unwrap();
        assert!(bob.show_trial(rater, 1).await.unwrap());
        assert_eq!(bob.answer_trial(rater, &answer).await.unwrap(), registry::Answered::Kept);
        assert!(!ann.study_answers(made.id).await.unwrap()[0].fooled);
    });
    let mut serve = shared.program("ann", "evaluator", &["study", "serve", "faces"]);
    let said = testkit::failed(serve.args(["--bind", "127.0.0.1:0"]), 1);
    assert!(said.contains("may not serve studies (it lacks UPDATE on study_raters"), "{said}");
    assert!(said.contains("an administrator grants it palette_user"), "{said}");
    let mut create = shared.program("ann", "evaluator", &["study", "create", "mine"]);
    create.args(["--system", "a=/nowhere", "--reference", "/nowhere", "--images", "2"]);
    let said = testkit::failed(&mut create, 1);
    assert!(said.contains("may not make studies"), "{said}");
    for role in ["ann", "bob", "wil"] {
        for statement in [
            "update study_answers set chosen = 'right'",
            "delete from study_answers",
            "update study_trials set reference_side = 'right'",
            "update study_raters set token_digest = '\\x00'",
            "update study_outputs set output = '\\x00'",
            "delete from studies",
        ] {
            shared.refused(role, statement);
        }
    }
}

#[test]
fn what_a_later_migration_makes_can_be_read_and_worked_with() {
    let shared = Shared::with_roles();
    let later = "create type taste as enum ('sweet');
                 create table later (id integer generated always as identity, taste taste);
                 create function sweeten() returns taste language sql as 'select ''sweet''::taste'";
    assert_ok(&shared.sql("keeper", later));
    assert_ok(&shared.sql("ann", "select sweeten(), * from later"));
    shared.refused("bob", "insert into later (taste) values ('sweet')");
    assert_ok(&shared.sql("wil", "insert into later (taste) values (sweeten())"));
}

#[test]
fn tables_that_miss_a_migration_are_one_line_for_who_may_not_migrate() {
    let shared = Shared::with_roles();
    assert_ok(&shared.sql("keeper", "delete from _sqlx_migrations where version in (5, 6)"));
    for role in ["ann", "wil"] {
        let message = shared.fails(role, &["jobs"]);
        assert!(
            message.contains("database misses migrations 5, 6: run `scheduler up`"),
            "{message}"
        );
        assert!(message.contains("may not change them"), "{message}");
    }
    assert_ok(&shared.sql("keeper", "revoke select on _sqlx_migrations from palette_reader"));
    let message = shared.fails("ann", &["jobs"]);
    assert!(message.contains("hides its tables"), "{message}");
}

/// Not a test: the trainer of the test below.
#[test]
fn act_as_trainer_of_a_role() {
    let Some(attempt) = Attempt::from_env().unwrap() else { return };
    let from = attempt.resume_point().unwrap().map_or(0, |checkpoint| checkpoint.step);
    attempt.resumed_at(from).unwrap();
    attempt
        .run_facts(registry::RunFacts {
            device: "cpu".into(),
            libtorch: "0".into(),
            git_revision: None,
        })
        .unwrap();
    for step in from + 1..=10 {
        attempt.metrics(step, &[("loss", 1.0)]);
        attempt.progress(step, 10, "");
        if step % 5 == 0 {
            let kind = if step == 10 { CheckpointKind::Final } else { CheckpointKind::Regular };
            let record = CheckpointRecord {
                step,
                kind,
                uri: format!("/step-{step}"),
                bytes: 1,
                digest: "d".into(),
                metrics: [].into(),
            };
            attempt.checkpoint(&record).unwrap();
        }
    }
    let retention = registry::Retention { keep_last: 1, keep_every: 0 };
    for retired in attempt.retire_checkpoints(&retention).unwrap() {
        attempt.checkpoint_gone(retired.step).unwrap();
    }
    let job = attempt.job().id;
    attempt.create_chunks(job, 10, 5).unwrap();
    let chunk = attempt.claim_chunk(job).unwrap().unwrap();
    attempt.finish_chunk(job, chunk.number, "/chunk", 1, "d").unwrap();
    let scores = registry::NewEvaluation {
        run_id: Some(attempt.job().id),
        step: Some(10),
        label: "x".into(),
        task: None,
        outputs_uri: "/out".into(),
        reference_uri: None,
        scores: json!({}),
    };
    attempt.evaluation(&scores).unwrap();
    attempt.finish(Ending::Succeeded).unwrap();
}

#[test]
fn a_worker_with_its_role_does_a_whole_job() {
    let shared = Shared::with_roles();
    let myself = std::env::current_exe().unwrap();
    let trainer =
        format!("exec '{}' --exact roles::act_as_trainer_of_a_role --nocapture", myself.display());
    shared.house.script("trainer", &trainer);
    let made = shared.runtime.block_on(shared.open("bob").create_run(run("whole"))).unwrap();
    let command = shared.command("wil", &["worker", "--drain", "--poll", "0.1"]);
    let mut worker = shared.house.start("report", command);
    assert_eq!(worker.end(), Some(0), "{}", worker.said());

    let ann = shared.open("ann");
    shared.runtime.block_on(async {
        let job = ann.job(made.job.id).await.unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1), "{job:?}");
        let run = ann.run(made.run.id).await.unwrap();
        assert_eq!((run.last_step, run.device.as_deref()), (10, Some("cpu")));
        assert_eq!(ann.metric_series(run.id, Some("loss")).await.unwrap().len(), 10);
        assert!(!ann.checkpoints(run.id).await.unwrap().is_empty());
        assert_eq!(ann.evaluations(run.id).await.unwrap().len(), 1);
    });
}
