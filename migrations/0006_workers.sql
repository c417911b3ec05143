-- What there is to know of a worker from elsewhere, and the log of an attempt while it grows.

alter table workers
    add column labels jsonb not null default '{}',
    add column gpu_names text[] not null default '{}',
    -- Bytes of its smallest GPU.
    add column gpu_memory bigint not null default 0,
    add column kinds text[] not null default '{}',
    add column version text,
    -- When it will end by itself (its wall time).
    add column ends_at timestamptz;

create index workers_alive_idx on workers (last_seen_at desc) where ended_at is null;

alter table attempts
    -- The GPUs that its child was given, as CUDA_VISIBLE_DEVICES names them.
    add column gpus text,
    -- Bytes that the log had when log_tail was taken: a follower elsewhere knows by it what is new.
    add column log_bytes bigint not null default 0;

-- Of logs that were kept before, the end is all that is known.
update attempts set log_bytes = octet_length(log_tail) where log_tail is not null;
