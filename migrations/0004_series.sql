-- A run has few names of metrics and many points: the name stands once, in its series, and a point is
-- four numbers. That halves the table and its index and doubles the points a second. When a point
-- was recorded nobody asked; its attempt says when it was at work.

create table series (
    id integer generated always as identity primary key,
    run_id uuid not null constraint series_run_fkey references runs (id) on delete cascade,
    name text not null,
    constraint series_name_key unique (run_id, name)
);

insert into series (run_id, name) select distinct run_id, name from metrics;

alter table metrics rename to metrics_before;
alter table metrics_before rename constraint metrics_pkey to metrics_before_pkey;

-- Attempt last in the key, because a step that was made twice is kept twice and the newer attempt is
-- shown.
create table metrics (
    series_id integer not null
        constraint metrics_series_fkey references series (id) on delete cascade,
    step bigint not null,
    attempt integer not null,
    value double precision not null,
    constraint metrics_pkey primary key (series_id, step, attempt)
);

insert into metrics (series_id, step, attempt, value)
select series.id, step, attempt, value
from metrics_before join series using (run_id, name);

drop table metrics_before;
