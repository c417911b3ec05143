-- Tries: a picture that somebody gives to a network in the control room, how it is to be restored, and what came of
-- it. The pictures are kept here and not by their paths: the room, the workers and whoever looks share nothing but
-- the database. A job of kind `try` makes one after another; what an earlier attempt left is made again.

alter type job_kind add value 'try';

create type try_state as enum ('waiting', 'running', 'done', 'failed', 'cancelled');

create table tries (
    id uuid primary key,
    owner text not null,
    -- Name of the picture without its ending: with seed and sample it decides the noise.
    name text not null,
    -- Whose weights, as they were asked for: RUN@best and its like, or a place.
    weights text not null,
    run_id uuid constraint tries_run_fkey references runs (id) on delete set null,
    task text not null,
    -- The size that goes to the network: the middle square at the network's size, a shorter side, or its own.
    framing text not null,
    short_side integer,
    mask_invert boolean not null default false,
    any_task boolean not null default false,
    process text not null,
    steps integer,
    spacing text not null default 'linear',
    eta double precision not null default 0,
    samples integer not null,
    seed bigint not null,

    state try_state not null default 'waiting',
    reason text,
    -- Who makes it: an attempt of a job. Counts how often one began.
    job_id uuid,
    attempt integer,
    claims integer not null default 0,
    -- The weights that it was made with.
    step bigint,
    digest text,
    steps_done bigint not null default 0,
    steps_total bigint,
    -- Somebody wants to keep it; others are removed by and by.
    kept boolean not null default false,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    constraint tries_name_check check (octet_length(name) between 1 and 200),
    constraint tries_texts_check check (greatest(octet_length(owner), octet_length(weights), octet_length(task),
        octet_length(process), octet_length(spacing), octet_length(digest)) <= 4096 and octet_length(reason) <= 65536),
    constraint tries_framing_check check (framing in ('square', 'short-side', 'own')
        and (framing = 'short-side') = (short_side is not null) and short_side between 1 and 4096),
    constraint tries_samples_check check (samples between 1 and 16),
    constraint tries_seed_check check (seed >= 0),
    constraint tries_steps_check check (steps between 1 and 10000),
    constraint tries_eta_check check (eta between 0 and 1),
    constraint tries_times_check check (created_at between '0001-01-01' and '9999-01-01'
        and started_at between '0001-01-01' and '9999-01-01' and ended_at between '0001-01-01' and '9999-01-01'),
    constraint tries_running_check check (state <> 'running' or (job_id is not null and attempt is not null))
);
create index tries_open_idx on tries (created_at) where state in ('waiting', 'running');
create index tries_owner_idx on tries (owner, created_at desc);
create index tries_created_idx on tries (created_at desc);

-- `input` and `mask` are the files as they were given, `given` is what the network saw, a `frame` is the picture as it
-- was estimated after a step, an `output` what `sampler run` would have written.
create type try_picture as enum ('input', 'mask', 'given', 'frame', 'output');

create table try_pictures (
    try_id uuid not null constraint try_pictures_try_fkey references tries (id) on delete cascade,
    what try_picture not null,
    sample integer not null default 0,
    step integer not null default 0,
    width integer not null,
    height integer not null,
    media text not null,
    digest text not null,
    bytes bytea not null,
    constraint try_pictures_pkey primary key (try_id, what, sample, step),
    constraint try_pictures_digest_check check (digest = encode(sha256(bytes), 'hex')),
    constraint try_pictures_size_check check (width between 1 and 65535 and height between 1 and 65535),
    constraint try_pictures_media_check check (media in ('image/jpeg', 'image/png', 'image/webp')),
    constraint try_pictures_bytes_check check (octet_length(bytes) between 1
        and case what when 'output' then 134217728 when 'given' then 134217728 when 'frame' then 2097152
            else 8388608 end)
);
create index try_pictures_digest_idx on try_pictures (digest);

-- Pages that show tries, and programs that make them, hear of what changes.
create function notify_tries() returns trigger language plpgsql as $$
begin
    perform pg_notify('tries', case tg_op when 'DELETE' then old.id else new.id end::text);
    return null;
end
$$;
create trigger tries_changed after insert or update or delete on tries
    for each row execute function notify_tries();

-- Whoever gives a picture gives it to a try of theirs that waits; what was made of it is said by workers.
do $migration$
declare
    here text := quote_ident(current_schema());
begin
    execute replace($body$
        create function {here}.refuse_try_picture() returns trigger
        language plpgsql set search_path = pg_catalog, {here}, pg_temp as $$
        begin
            if {here}.works_here() or (new.what in ('input', 'mask') and exists (
                select from {here}.tries
                where id = new.try_id and state = 'waiting' and ({here}.names_owners() or owner = session_user)
            )) then
                return new;
            end if;
            raise insufficient_privilege using message =
                'permission denied for table try_pictures: only workers say what was made of a try';
        end
        $$
    $body$, '{here}', here);
end
$migration$;
create trigger try_pictures_entered before insert on try_pictures
    for each row execute function refuse_try_picture();

-- As of jobs: a try belongs to the role that made it, and only workers say that one is made.
create trigger tries_owned before insert on tries
    for each row when (not pg_has_role(to_regrole('palette_proxy'), 'member')) execute function settle_owner();
create trigger tries_entered before insert on tries
    for each row when (new.state <> 'waiting') execute function refuse_move();
create trigger tries_moved before update of state on tries
    for each row when (new.state is distinct from old.state and new.state <> 'cancelled')
    execute function refuse_move();
