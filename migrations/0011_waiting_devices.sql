-- Migration 10 let every job that waited take a GPU where one is free. Of a run it is the configuration
-- that says what it trains on: without a GPU, or not without one.
update jobs
set gpus = case device when 'cuda' then 1 else 0 end,
    gpus_most = case device when 'cuda' then 1 else 0 end
from (select id as run, config #>> '{train,device}' as device from runs) configured
where run = jobs.id and device in ('cpu', 'cuda')
    and jobs.kind = 'train' and jobs.state in ('queued', 'running', 'paused')
    and jobs.gpus = 0 and jobs.gpus_most = 1;
