-- Curves of long runs (decision 61): points that follow each other are summed up in blocks, so that a curve of a
-- million points is drawn from some thousands of rows.

-- Up to 64 points of one attempt that follow each other. A block is written once it is full, and deleted where one of
-- its points changes. The blocks of a series and attempt cover its points without a gap from the first on; those
-- behind the last block are read one by one.
create table metric_blocks (
    series_id integer not null
        constraint metric_blocks_series_fkey references series (id) on delete cascade,
    last_step bigint not null,
    attempt integer not null,
    first_step bigint not null,
    points integer not null,
    -- How many of them are not finite; the values below are of the others, and null where there are none.
    lost integer not null,
    least double precision,
    most double precision,
    total double precision,
    constraint metric_blocks_pkey primary key (series_id, last_step, attempt),
    constraint metric_blocks_check check (first_step <= last_step and lost between 0 and points
        and (least is null) = (lost = points))
);

insert into metric_blocks
select series_id, max(step), attempt, min(step), count(*), count(*) filter (where not finite),
    min(value) filter (where finite), max(value) filter (where finite),
    -- A sum that overflows is an error.
    sum(greatest(-1e290, least(value, 1e290))) filter (where finite)
from (
    select series_id, step, attempt, value,
        value not in ('NaN', 'Infinity', '-Infinity') as finite,
        (row_number() over (partition by series_id, attempt order by step) - 1) / 64 as block
    from metrics
) numbered
group by series_id, attempt, block
having count(*) = 64;

-- When an attempt was at a step: one row in ten seconds at most.
create table run_moments (
    run_id uuid not null constraint run_moments_run_fkey references runs (id) on delete cascade,
    attempt integer not null,
    step bigint not null,
    at timestamptz not null default now(),
    constraint run_moments_pkey primary key (run_id, attempt, step)
);

-- When an attempt lost its loss and went back to an earlier step.
create table run_rewinds (
    run_id uuid not null constraint run_rewinds_run_fkey references runs (id) on delete cascade,
    attempt integer not null,
    from_step bigint not null,
    to_step bigint not null,
    at timestamptz not null default now(),
    constraint run_rewinds_pkey primary key (run_id, attempt, at)
);

-- Views for readers of SQL (docs/analysis.md). Columns are added at their end, never renamed.
create view api_runs as
select runs.id, runs.short, runs.name, experiments.name as experiment, runs.owner, runs.tags,
    coalesce(jobs.state::text, 'imported') as state, jobs.reason, runs.seed, runs.config,
    runs.total_steps, runs.last_step, runs.latest, runs.initial, runs.best_metric,
    runs.git_revision, runs.host, runs.device, runs.libtorch, runs.note, runs.uri,
    jobs.sweep_id, runs.archived_at, runs.created_at, jobs.started_at, jobs.ended_at
from runs
join experiments on experiments.id = runs.experiment_id
left join jobs on jobs.id = runs.id;

-- Without what a later attempt made again.
create view api_metrics as
select series.run_id, series.name, metrics.step, metrics.attempt, metrics.value
from series
join metrics on metrics.series_id = series.id
where not exists (
    select from attempts later
    where later.job_id = series.run_id and later.number > metrics.attempt
        and later.resumed_at < metrics.step
);

create view api_checkpoints as
select run_id, step, attempt, kind::text as kind, state::text as state, uri, bytes, digest, metrics,
    created_at
from checkpoints;

create view api_attempts as
select job_id, number as attempt, host, started_at, ended_at, outcome::text as outcome,
    exit_status, signal, reason, resumed_at
from attempts;

create view api_jobs as
select id, short, kind::text as kind, state::text as state, reason, name, owner, tags, run_id,
    priority, gpus, labels, attempt, attempts_used, max_attempts, progress_done, progress_total,
    progress_message, created_at, started_at, ended_at, sweep_id, sweep_point
from jobs;

create view api_scores as
select id, job_id, run_id, step, label, task, outputs_uri, reference_uri, scores, created_at
from evaluations;
