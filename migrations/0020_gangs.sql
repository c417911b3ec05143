-- Attempts on several hosts: one worker claims the job as ever, workers of other hosts take seats beside it.

-- `ranks`: processes on each host, where the job gets no GPU there; otherwise there is one for each GPU.
alter table jobs
    add column ranks integer not null default 1 constraint jobs_ranks_check check (ranks between 1 and 1024),
    add column hosts integer not null default 1,
    add column hosts_most integer not null default 1,
    add constraint jobs_hosts_check check (hosts >= 1 and hosts_most >= hosts and hosts_most <= 1024);

-- Of an attempt at a job for several hosts: whether it still waits for them, and then where its ranks meet.
create table gangs (
    job_id uuid not null,
    attempt integer not null,
    assembling boolean not null default true,
    -- Ranks on the host of the attempt, and in all.
    ranks integer,
    world integer,
    address text,
    port integer,
    primary key (job_id, attempt),
    constraint gangs_attempt_fkey foreign key (job_id, attempt) references attempts (job_id, number) on delete cascade,
    constraint gangs_numbers_check check (ranks between 1 and 65536 and world between 1 and 65536
        and port between 1 and 65535),
    constraint gangs_address_check check (octet_length(address) between 1 and 255)
);
-- One gang assembles at a time: two half-assembled ones would wait for each other.
create unique index gangs_assembling_idx on gangs ((true)) where assembling;

-- The places of a gang for other hosts, from 1 on.
create table seats (
    job_id uuid not null,
    attempt integer not null,
    number integer not null,
    worker_id uuid constraint seats_worker_fkey references workers (id),
    host text,
    -- Ranks that it has, once its worker knows.
    ranks integer,
    gpus text,
    taken_at timestamptz,
    ended_at timestamptz,
    reason text,
    log_path text,
    log_tail text,
    log_bytes bigint not null default 0,
    primary key (job_id, attempt, number),
    constraint seats_gang_fkey foreign key (job_id, attempt) references gangs (job_id, attempt) on delete cascade,
    constraint seats_taken_check check ((worker_id is null) = (host is null) and (worker_id is null) = (taken_at is null)),
    constraint seats_number_check check (number between 1 and 1023),
    constraint seats_ranks_check check (ranks between 1 and 1024),
    constraint seats_texts_check check (greatest(octet_length(reason), octet_length(gpus), octet_length(host),
        octet_length(log_path), octet_length(log_tail)) <= 65536),
    constraint seats_taken_at_check check (taken_at between '0001-01-01' and '9999-01-01'),
    constraint seats_ended_at_check check (ended_at between '0001-01-01' and '9999-01-01')
);
create index seats_free_idx on seats (job_id, attempt) where worker_id is null and ended_at is null;

-- An attempt's end is that of its gang. With the owner's rights, and its path of names, as in migration 19.
do $migration$
declare
    here text := quote_ident(current_schema());
    path text := format('set search_path = pg_catalog, %s, pg_temp', here);
begin
    execute replace(replace($functions$
        create function {here}.end_gang() returns trigger
        language plpgsql security definer {path} as $$
        begin
            update {here}.gangs set assembling = false
            where job_id = new.job_id and attempt = new.number and assembling;
            update {here}.seats set ended_at = now()
            where job_id = new.job_id and attempt = new.number and ended_at is null;
            return null;
        end
        $$;
    $functions$, '{path}', path), '{here}', here);
end
$migration$;
create trigger attempts_gang_ended after update of ended_at on attempts
    for each row when (new.ended_at is not null and old.ended_at is null) execute function end_gang();

-- Wakes workers of other hosts when there are seats.
create function notify_seats() returns trigger language plpgsql as $$
begin
    perform pg_notify('jobs', '');
    return null;
end
$$;
create trigger gangs_made after insert on gangs for each row execute function notify_seats();
