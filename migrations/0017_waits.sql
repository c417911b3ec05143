-- How many of the jobs that a job waits for have not succeeded yet, so that a claim never looks at what waits, however
-- much does; and whether any job waits for this one, so that the end of the others costs nothing.
alter table jobs
    add column waits integer not null default 0 constraint jobs_waits_check check (waits >= 0),
    add column awaited boolean not null default false;

create function unmet(of_job uuid) returns integer language sql stable as $$
    select count(*)::integer from dependencies join jobs on jobs.id = parent_id
    where job_id = of_job and state <> 'succeeded'
$$;

update jobs set waits = unmet(id) where id in (select job_id from dependencies);
update jobs set awaited = true where id in (select parent_id from dependencies);

drop index jobs_claim_idx;
create index jobs_claim_idx on jobs (priority desc, created_at, id) where state = 'queued' and waits = 0;

-- A job that is to wait. The parent is locked: it succeeds before this or after it, never unseen.
create function begin_waiting() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    parent record;
begin
    select state, awaited into parent from jobs where id = new.parent_id for no key update;
    if not parent.awaited then
        update jobs set awaited = true where id = new.parent_id;
    end if;
    if parent.state <> 'succeeded' then
        update jobs set waits = waits + 1 where id = new.job_id;
    end if;
    return null;
end
$$;

create trigger dependencies_inserted after insert on dependencies
    for each row execute function begin_waiting();

-- A job that has succeeded, or is to work on (`trainer extend`). What has ended is left alone: nothing waits there.
create function tell_waiting() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    update jobs set waits = waits + case new.state when 'succeeded' then -1 else 1 end
    from dependencies
    where parent_id = new.id and jobs.id = job_id and state in ('queued', 'running', 'paused');
    if new.state = 'succeeded' then
        perform pg_notify('jobs', '');
    end if;
    return null;
end
$$;

create trigger jobs_awaited after update of state on jobs
    for each row when (new.awaited and (old.state = 'succeeded') <> (new.state = 'succeeded'))
    execute function tell_waiting();

-- A job that had ended and is queued again.
create function wait_again() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    new.waits := unmet(new.id);
    return new;
end
$$;

create trigger jobs_waits_again before update of state on jobs
    for each row when (
        old.state in ('succeeded', 'failed', 'cancelled') and new.state in ('queued', 'running', 'paused')
    )
    execute function wait_again();
