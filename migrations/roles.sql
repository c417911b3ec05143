-- Roles for a server that several people share. An administrator runs this with psql, once the owner
-- has made the tables (`scheduler up`), and again after each upgrade; running it twice changes nothing:
--
--     psql -v owner=ROLE -f migrations/roles.sql "$URL"
--
-- owner is the role that migrates: the tables are its, only it may alter or drop them. Everybody else
-- is granted one of three roles, each of which holds the one before:
--
--     palette_reader   looks at everything
--     palette_user     and submits, cancels, pauses, resumes, retries
--     palette_worker   and does the work: `scheduler worker`, `trainer run`
--
-- What they submit belongs to their login. A login that several people share is granted palette_proxy beside one of
-- these: it may name other owners.
--
-- This file is no migration: its name has no version, and the migrator passes it over.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner}
\else
\set owner ''
\endif
set client_min_messages = warning;

begin;

-- Where something is missing it is said in one line, and nothing is changed.
select set_config('palette.owner', :'owner', true) \g /dev/null
do $$
declare
    owner text := current_setting('palette.owner');
    others text;
begin
    if owner = '' then
        raise exception 'name the role that migrates: psql -v owner=ROLE -f migrations/roles.sql';
    elsif not exists (select from pg_roles where rolname = owner) then
        raise exception 'there is no role %: create it first', owner;
    elsif to_regclass('public._sqlx_migrations') is null then
        raise exception 'there are no tables yet: run `scheduler up` as % first', owner;
    end if;
    select string_agg(relname || ' is of ' || pg_get_userbyid(relowner), ', ' order by relname)
    into others
    from pg_class
    where relnamespace = 'public'::regnamespace
      and relname in ('_sqlx_migrations', 'jobs', 'runs')
      and pg_get_userbyid(relowner) <> owner;
    if others is not null then
        raise exception 'the owner is not %: %', owner, others;
    end if;
end
$$;

do $$
declare
    role text;
begin
    foreach role in array array['palette_reader', 'palette_user', 'palette_worker', 'palette_proxy'] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I nologin', role);
        end if;
    end loop;
end
$$;
grant palette_reader to palette_user;
grant palette_user to palette_worker;

-- Nothing is everybody's, and nothing is left from an earlier version of this file.
select current_database() as database \gset
revoke all on database :"database" from public;
grant connect on database :"database" to palette_reader;
grant connect, temporary on database :"database" to :"owner";
revoke all on schema public from public, palette_reader, palette_user, palette_worker;
grant usage on schema public to palette_reader;
grant usage, create on schema public to :"owner";
revoke all on all tables in schema public from public, palette_reader, palette_user, palette_worker;
revoke all on all sequences in schema public from public, palette_reader, palette_user, palette_worker;
revoke all on all functions in schema public from public, palette_reader, palette_user, palette_worker;
-- Revoking a table's rights revokes those of its columns too; types have no `all types in schema`.
do $$
declare
    type text;
begin
    for type in
        select oid::regtype from pg_type
        where typnamespace = 'public'::regnamespace and typtype = 'e'
    loop
        execute format('revoke all on type %s from public', type);
        execute format('grant usage on type %s to palette_reader', type);
    end loop;
end
$$;

-- What later migrations make can be read at once, and new tables can be worked with; what users may
-- write of them is granted when this file is run again.
alter default privileges for role :"owner" revoke execute on functions from public;
alter default privileges for role :"owner" revoke usage on types from public;
alter default privileges for role :"owner" in schema public grant select on tables to palette_reader;
alter default privileges for role :"owner" in schema public grant select on sequences to palette_reader;
alter default privileges for role :"owner" in schema public grant execute on functions to palette_reader;
alter default privileges for role :"owner" in schema public grant usage on types to palette_reader;
alter default privileges for role :"owner" in schema public
    grant insert, update, delete on tables to palette_worker;
alter default privileges for role :"owner" in schema public grant usage on sequences to palette_worker;

-- Readers.
grant select on all tables in schema public to palette_reader;
grant select on all sequences in schema public to palette_reader;
-- But for those that work with the owner's rights.
do $$
declare
    harmless regprocedure;
begin
    for harmless in
        select oid from pg_proc where pronamespace = 'public'::regnamespace and not prosecdef
    loop
        execute format('grant execute on function %s to palette_reader', harmless);
    end loop;
end
$$;
grant execute on function end_by_force, begin_fork, extend_run to palette_user;

-- Users: new jobs, runs and sweeps as they are submitted, never as if they had begun.
grant insert (id, kind, state, name, owner, tags, payload, submit_key, run_id, priority, gpus,
    gpus_most, ranks, hosts, hosts_most, gpu_memory, labels, run_after, max_attempts, preempts, sweep_id, sweep_point,
    created_at) on jobs to palette_user;
grant insert on dependencies, experiments, datasets, run_datasets, samplings, submissions to palette_user;
grant insert (id, kind, experiment_id, name, owner, tags, config, config_digest, seed, uri,
    git_revision, total_steps, best_metric) on runs to palette_user;
grant insert (id, name, owner, submit_key, at_most) on sweeps to palette_user;
-- `on conflict do update` of what is there already.
grant update (name) on experiments to palette_user;
grant update (uri) on datasets to palette_user;
-- Users: what they ask of a job. The lease is among it because `cancel --force` ends it. Triggers refuse what only
-- workers may say: that a job runs, and how its work ended.
grant update (state, reason, stop_requested, priority, ranks, run_after, attempts_used, ended_at, name, tags, note,
    archived_at, worker_id, lease_expires_at, yields_to, place) on jobs to palette_user;
-- The right to change a column is also the right to lock a row (`for key share`).
grant update (name, tags, note, archived_at, accepts_data) on runs to palette_user;
-- `scheduler retry --from` sets later checkpoints aside.
grant update (state) on checkpoints to palette_user;
grant update (at_most, name, note, archived_at) on sweeps to palette_user;
-- Users: human studies, also as the server of the rating page. Nobody but the owner changes an answer.
grant insert on studies, study_systems, study_images, study_outputs, study_answers to palette_user;
grant insert (id, study_id, set, seconds, number, token_digest) on study_raters to palette_user;
grant insert (rater_id, number, study_id, image, system, reference_side) on study_trials to palette_user;
grant update (started_at) on study_raters to palette_user;
grant update (shown, shown_at) on study_trials to palette_user;
-- Users: pictures to try, with what is given; to cancel, keep and remove them.
grant insert (id, owner, name, weights, run_id, task, framing, short_side, mask_invert, any_task, process, steps,
    spacing, eta, samples, seed) on tries to palette_user;
grant insert on try_pictures to palette_user;
grant update (state, kept, ended_at) on tries to palette_user;
grant delete on tries to palette_user;

-- Users: rules of alerts, and as the server of the control room what they find and what is sent.
grant insert, update, delete on alert_rules to palette_user;
grant insert on alert_events to palette_user;
grant insert, update on alert_deliveries to palette_user;
grant delete on alert_events to palette_user;
-- The control room notes when its tokens are used. Whoever makes one is whom they like in the room, which is for those
-- who may name owners, beside the owner of the tables.
grant update (used_on) on room_tokens to palette_user;
grant insert (id, name, role, digest, made_by, expires_at) on room_tokens to palette_proxy;
grant update (revoked_at) on room_tokens to palette_proxy;

-- Workers: claims, and all that an attempt makes.
grant update on jobs to palette_worker;
grant insert, update on workers, attempts, gangs, seats, series, chunks to palette_worker;
grant insert on data_changes to palette_worker;
grant delete on run_datasets to palette_worker;
grant insert, update, delete on metrics, metric_blocks, checkpoints, pictures, tries, try_pictures to palette_worker;
grant insert, delete on run_moments, worker_samples to palette_worker;
grant insert on run_rewinds to palette_worker;
grant insert on evaluations to palette_worker;
grant usage on all sequences in schema public to palette_worker;
-- What later migrations make is granted to them whole (above), but for this.
revoke insert, update, delete on room_tokens from palette_worker;
grant update (last_step, latest, initial, git_revision, host, device, libtorch) on runs to palette_worker;
grant update (step) on samplings to palette_worker;

commit;
