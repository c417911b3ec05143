-- The registry: what was run, on what, and what came out. Lists read the columns of runs, never
-- the series of metrics.

create table experiments (
    id uuid primary key,
    name text not null constraint experiments_name_key unique,
    created_at timestamptz not null default now()
);

create type run_kind as enum ('train', 'import');

-- A run that a job makes has that job's id; its state is the job's. An imported one has no job.
create table runs (
    id uuid primary key,
    short text not null generated always as (left(id::text, 8)) stored,
    kind run_kind not null,
    experiment_id uuid not null constraint runs_experiment_fkey references experiments (id),
    name text not null,
    owner text not null,
    tags text[] not null default '{}',
    -- The configuration with every default written out, and the sha256 of its canonical JSON.
    config jsonb not null,
    config_digest text not null,
    seed bigint not null,
    -- The folder that its checkpoints go to.
    uri text not null,
    git_revision text,
    host text,
    device text,
    libtorch text,

    total_steps bigint not null,
    last_step bigint not null default 0,
    -- The newest value of each metric, and what each was when it was first recorded.
    latest jsonb not null default '{}',
    initial jsonb not null default '{}',
    -- The metric by which @best chooses among the checkpoints (the lowest value wins).
    best_metric text not null default 'loss',

    created_at timestamptz not null default now(),
    constraint runs_short_key unique (short),
    constraint runs_steps_check check (total_steps >= 0 and last_step >= 0)
);

create index runs_newest_idx on runs (created_at desc);
create index runs_experiment_idx on runs (experiment_id);
create index runs_name_idx on runs (name, created_at desc);
create index runs_id_text_idx on runs ((id::text) text_pattern_ops);

alter table jobs add constraint jobs_run_fkey foreign key (run_id) references runs (id);

-- The key leads with what a series is asked by; attempt last, because a step that was made twice
-- is kept twice and the newer attempt is shown.
create table metrics (
    run_id uuid not null constraint metrics_run_fkey references runs (id) on delete cascade,
    name text not null,
    step bigint not null,
    attempt integer not null,
    value double precision not null,
    recorded_at timestamptz not null default now(),
    constraint metrics_pkey primary key (run_id, name, step, attempt)
);

create type checkpoint_kind as enum ('regular', 'final', 'imported');

create table checkpoints (
    run_id uuid not null constraint checkpoints_run_fkey references runs (id) on delete cascade,
    step bigint not null,
    attempt integer not null,
    kind checkpoint_kind not null,
    uri text not null,
    bytes bigint not null,
    digest text not null,
    metrics jsonb not null default '{}',
    created_at timestamptz not null default now(),
    constraint checkpoints_pkey primary key (run_id, step),
    constraint checkpoints_size_check check (step >= 0 and bytes >= 0)
);

-- A dataset is its manifest: the same digest is the same data, wherever it lies.
create table datasets (
    id uuid primary key,
    name text not null,
    uri text not null,
    manifest_digest text not null constraint datasets_manifest_digest_key unique,
    rows bigint not null,
    created_at timestamptz not null default now()
);

create table run_datasets (
    run_id uuid not null constraint run_datasets_run_fkey references runs (id) on delete cascade,
    dataset_id uuid not null
        constraint run_datasets_dataset_fkey references datasets (id),
    weight double precision not null,
    primary key (run_id, dataset_id)
);

-- What a sample job draws: one row a job, cut into chunks that any attempt takes, in any order.
create table samplings (
    job_id uuid primary key constraint samplings_job_fkey references jobs (id) on delete cascade,
    run_id uuid constraint samplings_run_fkey references runs (id),
    step bigint,
    dataset_uri text not null,
    task text not null,
    output_uri text not null
);

create index samplings_run_idx on samplings (run_id);

create type chunk_state as enum ('waiting', 'taken', 'done');

create table chunks (
    job_id uuid not null constraint chunks_job_fkey references jobs (id) on delete cascade,
    number integer not null,
    first_row bigint not null,
    end_row bigint not null,
    state chunk_state not null default 'waiting',
    -- Who has it: an attempt of this job, or of another that helps with it.
    taken_by uuid,
    taken_attempt integer,
    output_uri text,
    bytes bigint,
    digest text,
    done_at timestamptz,
    constraint chunks_pkey primary key (job_id, number),
    constraint chunks_rows_check check (0 <= first_row and first_row < end_row),
    constraint chunks_taken_check check ((state = 'waiting') = (taken_by is null))
);

create table evaluations (
    id uuid primary key,
    job_id uuid constraint evaluations_job_fkey references jobs (id) on delete set null,
    run_id uuid constraint evaluations_run_fkey references runs (id),
    step bigint,
    label text not null,
    task text,
    outputs_uri text not null,
    reference_uri text,
    scores jsonb not null,
    created_at timestamptz not null default now()
);

create index evaluations_run_idx on evaluations (run_id);
