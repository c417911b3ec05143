-- Who may do what is held by the database itself.

-- Functions with the owner's rights find nothing that their caller made: each name is looked for in the catalog and
-- here before the caller's temporary tables, and the bodies name the schema too. Trigger functions that such a
-- function sets off go by the same path. Only who is granted it may call them (roles.sql).
do $migration$
declare
    here text := quote_ident(current_schema());
    path text := format('set search_path = pg_catalog, %s, pg_temp', here);
begin
    execute replace(replace(replace($functions$
        create or replace function {here}.check_user() returns void
        language plpgsql {safe} as $$
        begin
            if not has_column_privilege(session_user, '{here}.jobs', 'state', 'update') then
                raise insufficient_privilege using message = 'permission denied for table jobs';
            end if;
        end
        $$;

        create or replace function {here}.end_by_force(of_job uuid, attempt_number integer) returns void
        language sql {safe} as $$
            select {here}.check_user();
            update {here}.attempts
            set ended_at = now(), outcome = 'stopped', reason = 'killed: the job was cancelled by force'
            where job_id = of_job and number = attempt_number and ended_at is null
                and not exists (select from {here}.jobs where id = of_job and state = 'running')
        $$;

        create or replace function {here}.begin_fork(of_run uuid, parent uuid, at_step bigint, copy text,
            size bigint, sha256 text, measured jsonb) returns void
        language plpgsql {safe} as $$
        begin
            perform {here}.check_user();
            -- Nobody but the owner writes `created_at`, so that of a new run is this transaction's time. A row carries
            -- the lower half of the number of the transaction that wrote it last.
            if not exists (
                select from {here}.runs
                where id = of_run and created_at = now()
                    and xmin::text::bigint = txid_current() % (2::bigint ^ 32)::bigint
            ) then
                raise exception 'run % is not new', of_run;
            end if;
            insert into {here}.run_origins (run_id, parent_id, step, digest)
            values (of_run, parent, at_step, sha256);
            insert into {here}.checkpoints (run_id, step, attempt, kind, uri, bytes, digest, metrics)
            values (of_run, at_step, 0, 'regular', copy, size, sha256, measured);
            update {here}.runs set last_step = at_step where id = of_run;
        end
        $$;

        create or replace function {here}.extend_run(of_run uuid, steps bigint, with_config jsonb,
            run_digest text, with_payload jsonb) returns boolean
        language plpgsql {safe} as $$
        begin
            perform {here}.check_user();
            if not exists (select from {here}.jobs where id = of_run and state in ('queued', 'paused')) then
                raise exception 'run % does not wait', of_run;
            end if;
            if exists (
                select from {here}.runs where id = of_run and (total_steps = steps or last_step > steps)
            ) then
                return false;
            end if;
            update {here}.runs set config = with_config, config_digest = run_digest, total_steps = steps
            where id = of_run and config #- '{train,steps}' = with_config #- '{train,steps}'
                and with_config #>> '{train,steps}' = steps::text;
            if not found then
                raise exception 'another configuration than that of run %', of_run;
            end if;
            update {here}.jobs
            set payload = with_payload,
                progress_total = case when progress_total is not null then steps end
            where id = of_run and payload - 'config_digest' = with_payload - 'config_digest';
            if not found then
                raise exception 'another payload than that of run %', of_run;
            end if;
            return true;
        end
        $$;

        create or replace function {here}.count_sweep() returns trigger
        language plpgsql {safe} as $$
        begin
            update {here}.sweeps
            set running = running + case when new.state = 'running' then 1 else -1 end
            where id = new.sweep_id;
            return null;
        end
        $$;

        create or replace function {here}.unmet(of_job uuid) returns integer
        language sql stable as $$
            select count(*)::integer
            from {here}.dependencies join {here}.jobs parent on parent.id = parent_id
            where job_id = of_job and parent.state <> 'succeeded'
        $$;

        create or replace function {here}.begin_waiting() returns trigger
        language plpgsql {safe} as $$
        declare
            parent record;
        begin
            select state, awaited into parent from {here}.jobs where id = new.parent_id for no key update;
            if not parent.awaited then
                update {here}.jobs set awaited = true where id = new.parent_id;
            end if;
            if parent.state <> 'succeeded' then
                update {here}.jobs set waits = waits + 1 where id = new.job_id;
            end if;
            return null;
        end
        $$;

        create or replace function {here}.tell_waiting() returns trigger
        language plpgsql {safe} as $$
        begin
            update {here}.jobs set waits = waits + case new.state when 'succeeded' then -1 else 1 end
            from {here}.dependencies
            where parent_id = new.id and jobs.id = job_id and state in ('queued', 'running', 'paused');
            if new.state = 'succeeded' then
                perform pg_notify('jobs', '');
            end if;
            return null;
        end
        $$;

        create or replace function {here}.wait_again() returns trigger
        language plpgsql {safe} as $$
        begin
            new.waits := {here}.unmet(new.id);
            return new;
        end
        $$;

        -- Who works for the queue: the owner of its tables, and workers. Where there are no roles (roles.sql) nobody
        -- else was granted anything.
        create function {here}.works_here() returns boolean
        language sql stable {path} as $$
            select pg_has_role(relowner, 'usage')
                or coalesce(pg_has_role(to_regrole('palette_worker'), 'usage'), false)
            from pg_class where oid = '{here}.jobs'::regclass
        $$;

        -- What users do to a job: set it aside, queue it again, cancel it, ask it to stop. That it runs, and how its
        -- work ended, is said by who does it.
        create function {here}.refuse_move() returns trigger
        language plpgsql {path} as $$
        begin
            if {here}.works_here() then
                return new;
            end if;
            raise insufficient_privilege using message = format(
                'permission denied for table %s: only workers say that one is %s', tg_table_name, new.state);
        end
        $$;

        create function {here}.check_move() returns trigger
        language plpgsql {path} as $$
        begin
            if (
                (new.state in ('running', 'succeeded', 'failed') and new.state <> old.state)
                or (old.state = 'running' and new.state in ('queued', 'paused'))
                or (old.state = 'succeeded' and new.state = 'cancelled')
                or (new.worker_id is not null and new.worker_id is distinct from old.worker_id)
                or (new.lease_expires_at is not null
                    and new.lease_expires_at is distinct from old.lease_expires_at)
                -- `retry` counts anew.
                or new.attempts_used not in (0, old.attempts_used)
            ) and not {here}.works_here() then
                raise insufficient_privilege using message = format(
                    'permission denied for table %s: only workers say that one is %s', tg_table_name, new.state);
            end if;
            return new;
        end
        $$;

        -- Who submits is the role that is logged in, whatever role it has set: every user may set palette_user. The
        -- owner of the tables, and roles of whom an administrator says so (palette_proxy: a login that several people
        -- share), name whomever they like; all do where there are no roles (roles.sql).
        create function {here}.names_owners() returns boolean
        language sql stable {path} as $$
            select pg_has_role(relowner, 'member')
                or coalesce(pg_has_role(to_regrole('palette_proxy'), 'member'), true)
            from pg_class where oid = '{here}.jobs'::regclass
        $$;

        create function {here}.settle_owner() returns trigger
        language plpgsql {path} as $$
        begin
            if not {here}.names_owners() then
                new.owner := session_user;
            end if;
            return new;
        end
        $$;

        -- Folders of logs are named by the first eight digits of an id, and people type them. Whoever submits by the
        -- programs gets an id whose digits no other job has.
        create function {here}.refuse_digits() returns trigger
        language plpgsql {path} as $$
        declare
            digits text := left(new.id::text, 8);
        begin
            perform pg_advisory_xact_lock(hashtextextended('job ' || digits, 0));
            if exists (
                select from {here}.jobs
                where id between (digits || '-0000-0000-0000-000000000000')::uuid
                    and (digits || '-ffff-ffff-ffff-ffffffffffff')::uuid
            ) then
                raise unique_violation using message = format('another job begins with %s', digits);
            end if;
            return new;
        end
        $$;

        -- Whether programs can read a value: not nested deeper than a hundred levels, no number beyond what a
        -- double holds, of 16 MB at most.
        create function {here}.is_readable(document jsonb) returns boolean
        language plpgsql immutable {path} as $$
        declare
            rest text := document::text;
        begin
            if octet_length(rest) > 16777216 then
                return false;
            end if;
            rest := regexp_replace(rest, '"(\\.|[^"\\])*"', '', 'g');
            if rest ~ '[0-9]{150}[0-9]{150}' then
                return false;
            end if;
            rest := regexp_replace(rest, '[^][{}]', '', 'g');
            for level in 1..100 loop
                exit when rest = '';
                rest := regexp_replace(rest, '\[\]|[{][}]', '', 'g');
            end loop;
            return rest = '';
        end
        $$;

        -- One row that no program can read would hide all others of its list, and stop each worker that claims it.
        create function {here}.refuse_unreadable() returns trigger
        language plpgsql {path} as $$
        begin
            if not {here}.is_readable(to_jsonb(new)) then
                raise check_violation using message = format(
                    'a value for table %s is nested too deep, too long, or has too big a number', tg_table_name);
            end if;
            return new;
        end
        $$;
    $functions$, '{safe}', 'security definer {path}'), '{path}', path), '{here}', here);
end
$migration$;

do $$
declare
    definer regprocedure;
begin
    for definer in
        select oid from pg_proc where pronamespace = current_schema()::regnamespace and prosecdef
    loop
        execute format('revoke all on function %s from public', definer);
    end loop;
end
$$;

-- Only workers say that a job runs, and how its work ended. A condition is read anew for every statement, also a
-- claim, so it is short: where the role of a worker claims, or where there are no roles, nothing else is done.
create trigger jobs_made before insert on jobs
    for each row when (new.state not in ('queued', 'paused')) execute function refuse_move();
create trigger jobs_moved before update of state, worker_id, lease_expires_at, attempts_used on jobs
    for each row when (not pg_has_role(to_regrole('palette_worker'), 'usage'))
    execute function check_move();

-- Users set checkpoints aside (`scheduler retry --from`) and do nothing else to them.
create trigger checkpoints_moved before update of state on checkpoints
    for each row when (new.state is distinct from old.state and not (old.state = 'kept' and new.state = 'aside'))
    execute function refuse_move();

create trigger jobs_named before insert on jobs
    for each row when (not pg_has_role(to_regrole('palette_worker'), 'usage')) execute function refuse_digits();

create trigger jobs_readable before insert or update of payload, labels, sweep_point on jobs
    for each row execute function refuse_unreadable();
create trigger runs_readable before insert or update of config on runs
    for each row execute function refuse_unreadable();
create trigger checkpoints_readable before insert or update of metrics on checkpoints
    for each row execute function refuse_unreadable();
create trigger submissions_readable before insert or update of request on submissions
    for each row execute function refuse_unreadable();

-- So it is with times that no calendar of a program has, and with lists that are no lists of texts.
do $$
declare
    found record;
begin
    for found in
        select relname as of_table, attname as col, format_type(atttypid, null) as type
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        where relnamespace = current_schema()::regnamespace and relkind = 'r' and attnum > 0
            and not attisdropped and left(relname, 1) <> '_'
            and format_type(atttypid, null) in ('timestamp with time zone', 'text[]')
    loop
        execute format(
            case found.type
                when 'text[]' then
                    'alter table %1$I add constraint %3$I
                     check (array_position(%2$I, null) is null and coalesce(array_ndims(%2$I), 1) = 1)'
                else
                    'alter table %1$I add constraint %3$I check (%2$I between ''0001-01-01'' and ''9999-01-01'')'
            end,
            found.of_table, found.col, format('%s_%s_check', found.of_table, found.col));
    end loop;
end
$$;

alter table jobs add constraint jobs_texts_check
    check (greatest(octet_length(name), octet_length(note), octet_length(reason)) <= 65536);
alter table runs add constraint runs_texts_check
    check (greatest(octet_length(name), octet_length(note)) <= 65536);

create trigger jobs_owned before insert on jobs
    for each row when (not pg_has_role(to_regrole('palette_proxy'), 'member')) execute function settle_owner();
create trigger runs_owned before insert on runs
    for each row when (not pg_has_role(to_regrole('palette_proxy'), 'member')) execute function settle_owner();
create trigger sweeps_owned before insert on sweeps
    for each row when (not pg_has_role(to_regrole('palette_proxy'), 'member')) execute function settle_owner();
create trigger studies_owned before insert on studies
    for each row when (not pg_has_role(to_regrole('palette_proxy'), 'member')) execute function settle_owner();

-- What sides and orders of a study are drawn by, so that nobody who knows its seed knows them. Older studies have
-- none and go on by their seed.
alter table studies add column secret bytea
    constraint studies_secret_check check (octet_length(secret) = 32);

-- Whether two runs have a checkpoint at one place: the files of neither are removed then.
create index checkpoints_digest_idx on checkpoints (digest);
