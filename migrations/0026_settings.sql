-- What a run was made with, but for its seed and its name: runs with the same are one row where seeds are taken
-- together. Kept with the row, because the digests of ten thousand configurations take seconds.
alter table runs add column setting uuid not null
    generated always as (md5((config - 'seed' - 'name')::text)::uuid) stored;

create index runs_setting_idx on runs (setting);
