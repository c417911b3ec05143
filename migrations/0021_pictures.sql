-- Previews of a training, one picture a row. The pictures themselves are PNG files in the run's place, named by their
-- digest (`pictures/DIGEST.png`), so that a row can point nowhere else; here is a small copy of each for lists.

create type picture_part as enum ('source', 'mask', 'output', 'reference');

create table pictures (
    run_id uuid not null constraint pictures_run_fkey references runs (id) on delete cascade,
    part picture_part not null,
    -- Of what came out. What is given is the same at every step: it is kept once, at step 0.
    step bigint not null,
    -- Which of the fixed inputs, from 0, and which of its samples.
    input integer not null,
    sample integer not null default 0,
    -- SHA-256 of the file, in hex.
    digest text not null,
    attempt integer not null,
    task text not null,
    key text not null,
    bytes integer not null,
    width integer not null,
    height integer not null,
    -- JPEG, at most 96 pixels a side.
    thumbnail bytea not null,
    -- As with checkpoints: hidden first, then the file goes, then the row.
    retiring boolean not null default false,
    created_at timestamptz not null default now(),
    -- With the digest: a picture that is drawn again with other pixels leaves the older row, and so its file, to be
    -- removed.
    constraint pictures_pkey primary key (run_id, part, step, input, sample, digest),
    constraint pictures_step_check check (step >= 0 and (part = 'output' or step = 0)),
    constraint pictures_numbers_check check (input between 0 and 65535 and sample between 0 and 65535 and attempt > 0),
    constraint pictures_digest_check check (digest ~ '^[0-9a-f]{64}$'),
    constraint pictures_texts_check check (octet_length(task) between 1 and 255 and octet_length(key) <= 4096),
    constraint pictures_size_check check (bytes between 1 and 268435456 and width between 1 and 65535
        and height between 1 and 65535),
    constraint pictures_thumbnail_check check (octet_length(thumbnail) between 1 and 8192),
    constraint pictures_created_at_check check (created_at between '0001-01-01' and '9999-01-01')
);
create unique index pictures_shown_idx on pictures (run_id, step, part, input, sample) where not retiring;
create index pictures_digest_idx on pictures (digest);
create index pictures_retiring_idx on pictures (run_id) where retiring;
