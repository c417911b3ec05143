-- How busy workers are, once a minute, and an order of the queue that people may change.

-- One row a worker and minute; of those older than a day one a quarter of an hour is kept, for a week.
create table worker_samples (
    worker_id uuid not null constraint worker_samples_worker_fkey references workers (id) on delete cascade,
    at timestamptz not null default now(),
    slots_busy integer not null,
    slots integer not null,
    -- Share of the host's processors that was busy since the sample before.
    cpu real,
    -- Bytes of the host, and of the file system of the worker's home.
    memory_used bigint,
    memory bigint,
    disk_left bigint,
    disk bigint,
    -- In the order of workers.gpu_uuids at that moment; null where the driver does not say.
    gpu_use real[] not null default '{}',
    gpu_memory_used bigint[] not null default '{}',
    primary key (worker_id, at),
    constraint worker_samples_shares_check check (cpu between 0 and 1),
    constraint worker_samples_gpus_check check (cardinality(gpu_use) <= 1024 and cardinality(gpu_memory_used) <= 1024),
    constraint worker_samples_at_check check (at between '0001-01-01' and '9999-01-01')
);
create index worker_samples_at_idx on worker_samples (at);

-- Where a job stands among those of its priority; null: where its age puts it. A move changes one job.
alter table jobs
    add column place timestamptz
    constraint jobs_place_check check (place between '0001-01-01' and '9999-01-01');

drop index jobs_claim_idx;
create index jobs_claim_idx on jobs (priority desc, (coalesce(place, created_at)), id)
    where state = 'queued' and waits = 0;
drop index jobs_preempts_idx;
create index jobs_preempts_idx on jobs (priority desc, (coalesce(place, created_at)), id)
    where state = 'queued' and preempts;
