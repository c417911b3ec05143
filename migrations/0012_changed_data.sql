-- What a run reads beside the datasets that it trains on, and when each was recorded. A run goes on over
-- what was recorded and over nothing else, unless a user lets it; that is kept.
create type data_role as enum ('train', 'validation', 'preview');

alter table run_datasets add column role data_role not null default 'train';
alter table run_datasets alter column role drop default;
alter table run_datasets add column recorded_at timestamptz not null default now();
update run_datasets set recorded_at = created_at from runs where runs.id = run_id;
alter table run_datasets drop constraint run_datasets_pkey;
alter table run_datasets
    add constraint run_datasets_pkey primary key (run_id, role, uri, dataset_id);

-- Who lets the next attempt go on over other data; the attempt takes it back.
alter table runs add column accepts_data text;

create table data_changes (
    run_id uuid not null constraint data_changes_run_fkey references runs (id) on delete cascade,
    role data_role not null,
    uri text not null,
    -- The step from which the run goes on over the later data.
    step bigint not null,
    before uuid not null constraint data_changes_before_fkey references datasets (id),
    after uuid not null constraint data_changes_after_fkey references datasets (id),
    accepted_by text not null,
    accepted_at timestamptz not null default now(),
    constraint data_changes_pkey primary key (run_id, role, uri, accepted_at)
);
