-- A fork begins with another run's checkpoint: from which, for whoever wants to make it again. The checkpoint
-- itself is copied and registered with the fork.
create table run_origins (
    run_id uuid primary key constraint run_origins_run_fkey references runs (id) on delete cascade,
    parent_id uuid not null constraint run_origins_parent_fkey references runs (id),
    step bigint not null constraint run_origins_step_check check (step >= 0),
    digest text not null
);

-- What users may do of what is otherwise an attempt's, with the rights of the owner: whoever may move a job.
create function check_user() returns void
language plpgsql as $$
begin
    if not has_column_privilege(session_user, 'jobs', 'state', 'update') then
        raise insufficient_privilege using message = 'permission denied for table jobs';
    end if;
end
$$;

-- Registers what a new run begins with: only in the transaction that makes it.
create function begin_fork(of_run uuid, parent uuid, at_step bigint, copy text, size bigint, sha256 text,
    measured jsonb) returns void
language plpgsql security definer set search_path from current as $$
begin
    perform check_user();
    -- A row carries the lower half of the number of the transaction that wrote it.
    if not exists (
        select from runs
        where id = of_run and xmin::text::bigint = txid_current() % (2::bigint ^ 32)::bigint
    ) then
        raise exception 'run % is not new', of_run;
    end if;
    insert into run_origins (run_id, parent_id, step, digest) values (of_run, parent, at_step, sha256);
    insert into checkpoints (run_id, step, attempt, kind, uri, bytes, digest, metrics)
    values (of_run, at_step, 0, 'regular', copy, size, sha256, measured);
    update runs set last_step = at_step where id = of_run;
end
$$;

-- Gives a run that waits another number of steps: nothing else of its configuration changes. False where it
-- makes so many already, or has made more.
create function extend_run(of_run uuid, steps bigint, with_config jsonb, run_digest text, with_payload jsonb)
    returns boolean
language plpgsql security definer set search_path from current as $$
begin
    perform check_user();
    if not exists (select from jobs where id = of_run and state in ('queued', 'paused')) then
        raise exception 'run % does not wait', of_run;
    end if;
    if exists (select from runs where id = of_run and (total_steps = steps or last_step > steps)) then
        return false;
    end if;
    update runs set config = with_config, config_digest = run_digest, total_steps = steps
    where id = of_run and config #- '{train,steps}' = with_config #- '{train,steps}'
        and with_config #>> '{train,steps}' = steps::text;
    if not found then
        raise exception 'another configuration than that of run %', of_run;
    end if;
    update jobs
    set payload = with_payload, progress_total = case when progress_total is not null then steps end
    where id = of_run and payload - 'config_digest' = with_payload - 'config_digest';
    if not found then
        raise exception 'another payload than that of run %', of_run;
    end if;
    return true;
end
$$;
