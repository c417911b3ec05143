-- Sweeps: many jobs that were submitted as one and are shown, limited and cancelled as one.

create table sweeps (
    id uuid primary key,
    short text not null generated always as (left(id::text, 8)) stored,
    name text not null,
    owner text not null,
    submit_key text constraint sweeps_submit_key_key unique,
    -- How many of its jobs may run at once; null for as many as workers take.
    at_most integer,
    -- How many do. Kept by a trigger, so that no path of a job's life can forget it, and checked,
    -- so that two workers that claim at the same moment cannot pass the limit together.
    running integer not null default 0,
    created_at timestamptz not null default now(),
    constraint sweeps_short_key unique (short),
    constraint sweeps_at_most_check check (at_most >= 1),
    constraint sweeps_running_check check (running >= 0 and running <= at_most)
);

create index sweeps_newest_idx on sweeps (created_at desc);
create index sweeps_name_idx on sweeps (name, created_at desc);

alter table jobs
    add column sweep_id uuid constraint jobs_sweep_fkey references sweeps (id),
    -- What this job changes, a JSON object of keys of the configuration.
    add column sweep_point jsonb,
    add constraint jobs_sweep_check check ((sweep_id is null) = (sweep_point is null));

create index jobs_sweep_idx on jobs (sweep_id, created_at) where sweep_id is not null;

create function count_sweep() returns trigger language plpgsql as $$
begin
    update sweeps
    set running = running + case when new.state = 'running' then 1 else -1 end
    where id = new.sweep_id;
    return null;
end
$$;

create trigger jobs_sweep_counted after update of state on jobs
    for each row when (
        new.sweep_id is not null and (old.state = 'running') <> (new.state = 'running')
    )
    execute function count_sweep();

-- Preemption: a job that may ask a lower one to give way, and whom a running job gives way to.
alter type stop_request add value 'yield';

alter table jobs
    add column preempts boolean not null default false,
    add column yields_to uuid constraint jobs_yields_to_fkey references jobs (id);

create index jobs_yields_to_idx on jobs (yields_to) where yields_to is not null;

-- Ends the attempt that a job was taken from by force. With the rights of the owner, so that users need
-- none on attempts; only where the job does not run any more, so that nothing else can be done with it.
create function end_by_force(of_job uuid, attempt_number integer) returns void
language sql security definer set search_path from current as $$
    update attempts
    set ended_at = now(), outcome = 'stopped', reason = 'killed: the job was cancelled by force'
    where job_id = of_job and number = attempt_number and ended_at is null
        and not exists (select from jobs where id = of_job and state = 'running')
$$;

-- Only a queued job asks others to give way.
create index jobs_preempts_idx on jobs (priority desc, created_at, id)
    where state = 'queued' and preempts;

-- Lists by state, owner and tag.
create index jobs_state_idx on jobs (state, created_at desc);
create index jobs_owner_idx on jobs (owner, created_at desc);
create index runs_owner_idx on runs (owner, created_at desc);
create index runs_tags_idx on runs using gin (tags);

-- A change of state writes every index of jobs that covers all rows, so there must be few of them.
-- The beginning of an id is a range of the primary key, also the eight digits that people type; a
-- submission chooses an id whose eight digits no other job has.
drop index jobs_id_text_idx;
drop index runs_id_text_idx;
alter table jobs drop constraint jobs_short_key;
alter table jobs drop constraint jobs_submit_key_key;
create unique index jobs_submit_key_key on jobs (submit_key) where submit_key is not null;

-- The worker of a running job is that of its open attempt, which refers to workers already.
alter table jobs drop constraint jobs_worker_fkey;

-- As before, but for two things. The end of a job that runs makes room in its limited sweep. And whoever
-- writes a success tells of it himself, in the same statement, where another job waits for it: a trigger
-- on every success took a good part of the time of a claim and its end.
create or replace function notify_jobs() returns trigger language plpgsql as $$
begin
    if new.state = 'queued' then
        perform pg_notify('jobs', '');
    elsif new.state = 'running' then
        perform pg_notify('stops', new.id::text);
    elsif exists (select from sweeps where id = new.sweep_id and at_most is not null) then
        perform pg_notify('jobs', '');
    end if;
    return null;
end
$$;

drop trigger jobs_changed on jobs;
create trigger jobs_changed after update of state, stop_requested, run_after, priority on jobs
    for each row when (
        (new.state = 'queued')
        or (new.state = 'running' and new.stop_requested is not null
            and new.stop_requested is distinct from old.stop_requested)
        or (old.state = 'running' and new.state <> 'running' and new.sweep_id is not null)
    )
    execute function notify_jobs();
