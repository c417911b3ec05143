-- What people note beside a job, a run or a sweep, and since when lists leave it out. A run and the job that
-- makes it have both.
alter table jobs add column note text, add column archived_at timestamptz;
alter table runs add column note text, add column archived_at timestamptz;
alter table sweeps add column note text, add column archived_at timestamptz;

-- Only what has ended is archived. Whoever queues such a job again, by whatever command, sees it in the lists.
create function unarchive() returns trigger language plpgsql as $$
begin
    new.archived_at := null;
    update runs set archived_at = null where id = new.id;
    update sweeps set archived_at = null where id = new.sweep_id;
    return new;
end
$$;

create trigger jobs_unarchived before update of state on jobs
    for each row when (
        old.archived_at is not null and new.state in ('queued', 'running', 'paused')
    )
    execute function unarchive();

alter table jobs add constraint jobs_archived_check check (
    archived_at is null or state in ('succeeded', 'failed', 'cancelled')
);
