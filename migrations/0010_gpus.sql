-- GPUs by UUID, and jobs that take one where one is free.

-- How many GPUs a job takes at most; `gpus` is the fewest that it starts with.
alter table jobs add column gpus_most integer not null default 0;
update jobs set gpus_most = gpus where gpus > 0;
-- So far a job that asked for none saw every GPU of its worker. What waits keeps the chance of one.
update jobs set gpus_most = 1
where gpus = 0 and kind <> 'ingest' and state in ('queued', 'running', 'paused');
alter table jobs drop constraint jobs_resources_check;
alter table jobs add constraint jobs_resources_check
    check (gpus >= 0 and gpus_most >= gpus and gpu_memory >= 0);

alter table workers
    -- The GPUs that it hands out now, as CUDA_VISIBLE_DEVICES names them, and the bytes of each; as
    -- gpu_names in the order of the driver.
    add column gpu_uuids text[] not null default '{}',
    add column gpu_sizes bigint[] not null default '{}';
update workers set gpu_sizes = array_fill(gpu_memory, array[gpus]) where gpus > 0;
