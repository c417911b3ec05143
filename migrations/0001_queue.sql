-- The queue: jobs, what they wait for, their attempts, and the workers that make them.
--
-- One row a job holds everything that a claim has to look at (state, priority, resources, lease),
-- so that a claim touches one table besides the dependencies. All times are the server's now().

create type job_kind as enum ('train', 'sample', 'evaluate', 'ingest');
create type job_state as enum ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled');
create type stop_request as enum ('pause', 'cancel');
create type attempt_outcome as enum ('succeeded', 'stopped', 'failed', 'lost');

-- A worker is one start of a process, never a host: a host that comes back is another worker.
create table workers (
    id uuid primary key,
    name text not null,
    host text not null,
    pid integer not null,
    slots integer not null,
    gpus integer not null,
    started_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    ended_at timestamptz
);

create table jobs (
    id uuid primary key,
    -- What people type: the first eight hex digits of the id.
    short text not null generated always as (left(id::text, 8)) stored,
    kind job_kind not null,
    state job_state not null default 'queued',
    -- Why it is in this state, where there is something to say (the failure, the cancelled parent).
    reason text,
    name text not null,
    owner text not null,
    tags text[] not null default '{}',
    payload jsonb not null,
    -- Two submissions with the same key are one job.
    submit_key text,
    -- The run that a train job makes, or that another job is about.
    run_id uuid,

    priority integer not null default 0,
    gpus integer not null default 0,
    -- Bytes of memory that each of its GPUs must have.
    gpu_memory bigint not null default 0,
    -- Labels that the worker must carry.
    labels jsonb not null default '{}',
    run_after timestamptz not null default now(),

    -- Number of the newest attempt: the fencing token of every write that the work makes.
    attempt integer not null default 0,
    -- Attempts that count against the limit; one that was asked to stop does not.
    attempts_used integer not null default 0,
    max_attempts integer not null default 3,
    worker_id uuid constraint jobs_worker_fkey references workers (id),
    lease_expires_at timestamptz,
    stop_requested stop_request,

    progress_done bigint,
    progress_total bigint,
    progress_message text,
    progress_at timestamptz,

    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,

    constraint jobs_short_key unique (short),
    constraint jobs_submit_key_key unique (submit_key),
    constraint jobs_resources_check check (gpus >= 0 and gpu_memory >= 0),
    constraint jobs_attempts_check check (max_attempts >= 1 and attempts_used >= 0),
    -- A lease is held exactly while the job runs.
    constraint jobs_lease_check check (
        (state = 'running') = (lease_expires_at is not null and worker_id is not null)
    )
);

-- The claim: what is queued, best first. The leases: what may have been lost.
create index jobs_claim_idx on jobs (priority desc, created_at, id) where state = 'queued';
create index jobs_lease_idx on jobs (lease_expires_at) where state = 'running';
create index jobs_newest_idx on jobs (created_at desc);
create index jobs_run_idx on jobs (run_id) where run_id is not null;
create index jobs_name_idx on jobs (name, created_at desc);
create index jobs_id_text_idx on jobs ((id::text) text_pattern_ops);

create table dependencies (
    job_id uuid not null constraint dependencies_job_fkey references jobs (id) on delete cascade,
    parent_id uuid not null constraint dependencies_parent_fkey references jobs (id),
    primary key (job_id, parent_id),
    constraint dependencies_self_check check (job_id <> parent_id)
);

create index dependencies_parent_idx on dependencies (parent_id);

create table attempts (
    job_id uuid not null constraint attempts_job_fkey references jobs (id) on delete cascade,
    number integer not null,
    worker_id uuid not null constraint attempts_worker_fkey references workers (id),
    host text not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    outcome attempt_outcome,
    exit_status integer,
    signal integer,
    reason text,
    log_path text,
    log_tail text,
    -- The step from which this attempt went on; what earlier attempts recorded past it is hidden.
    resumed_at bigint,
    primary key (job_id, number),
    constraint attempts_outcome_check check ((ended_at is null) = (outcome is null))
);

-- Wakes the workers when a job becomes claimable, and whoever holds a job when it is asked to stop.
-- Only these changes notify: a notification makes commits queue up, so claims and renewals send none.
create function notify_jobs() returns trigger language plpgsql as $$
begin
    if new.state = 'queued' then
        perform pg_notify('jobs', '');
    elsif new.state = 'running' then
        perform pg_notify('stops', new.id::text);
    elsif exists (select from dependencies where parent_id = new.id) then
        perform pg_notify('jobs', '');
    end if;
    return null;
end
$$;

create trigger jobs_inserted after insert on jobs
    for each row when (new.state = 'queued')
    execute function notify_jobs();

create trigger jobs_changed after update of state, stop_requested, run_after, priority on jobs
    for each row when (
        (new.state = 'queued')
        or (new.state = 'running' and new.stop_requested is not null
            and new.stop_requested is distinct from old.stop_requested)
        or (new.state = 'succeeded' and old.state <> 'succeeded')
    )
    execute function notify_jobs();
