-- Human studies: pairs of a photograph and an output of some system, shown side by side for a given
-- time; which of the two would a person guess is from a camera? The pictures are kept here and not by
-- their paths: what was shown is part of the result, and the server of the page needs no other place.
--
-- What a rater is shown is drawn when they are invited and kept in study_trials, so that the plan can be
-- looked at and is never drawn twice; what they answered is kept in study_answers, which nobody changes.

create table studies (
    id uuid primary key,
    name text not null,
    owner text not null,
    -- What its images, sides and orders were drawn by.
    seed bigint not null,
    -- The times that a pair can be shown for; a rater has one of them.
    seconds double precision[] not null,
    -- Where the photographs are from.
    reference_uri text not null,
    created_at timestamptz not null default now(),
    constraint studies_name_key unique (name),
    constraint studies_name_check check (length(name) between 1 and 200),
    constraint studies_seconds_check
        check (cardinality(seconds) > 0 and 0.1 <= all (seconds) and 60 >= all (seconds))
);

create table study_systems (
    study_id uuid not null
        constraint study_systems_study_fkey references studies (id) on delete cascade,
    number smallint not null,
    name text not null,
    uri text not null,
    constraint study_systems_pkey primary key (study_id, number),
    constraint study_systems_name_key unique (study_id, name),
    constraint study_systems_name_check check (length(name) between 1 and 200)
);

-- The photographs, in two sets that have none in common. Pictures are PNG files without compression:
-- two of one size have the same length, so that nothing of what is sent tells them apart.
create table study_images (
    study_id uuid not null
        constraint study_images_study_fkey references studies (id) on delete cascade,
    number integer not null,
    set smallint not null,
    key text not null,
    reference bytea not null,
    constraint study_images_pkey primary key (study_id, number),
    constraint study_images_key_key unique (study_id, key),
    constraint study_images_set_check check (set in (1, 2)),
    constraint study_images_reference_check
        check (octet_length(reference) between 1 and 33554432)
);

-- What the systems made of them.
create table study_outputs (
    study_id uuid not null,
    image integer not null,
    system smallint not null,
    output bytea not null,
    constraint study_outputs_pkey primary key (study_id, image, system),
    constraint study_outputs_image_fkey
        foreign key (study_id, image) references study_images (study_id, number) on delete cascade,
    constraint study_outputs_system_fkey
        foreign key (study_id, system) references study_systems (study_id, number) on delete cascade,
    constraint study_outputs_output_check check (octet_length(output) between 1 and 33554432)
);

-- An invitation. Its link holds a secret of which only the sha256 is here.
create table study_raters (
    id uuid primary key,
    study_id uuid not null
        constraint study_raters_study_fkey references studies (id) on delete cascade,
    set smallint not null,
    seconds double precision not null,
    -- Their place among those of their set and time, from 0: which system they see of which image.
    number integer not null,
    token_digest bytea not null,
    invited_at timestamptz not null default now(),
    -- When they agreed that their answers are kept, and began.
    started_at timestamptz,
    constraint study_raters_token_digest_key unique (token_digest),
    constraint study_raters_number_key unique (study_id, set, seconds, number),
    constraint study_raters_token_digest_check check (octet_length(token_digest) = 32),
    constraint study_raters_set_check check (set in (1, 2))
);

create type study_side as enum ('left', 'right');

create table study_trials (
    rater_id uuid not null
        constraint study_trials_rater_fkey references study_raters (id) on delete cascade,
    -- Its place in the rater's order, from 1.
    number integer not null,
    study_id uuid not null,
    image integer not null,
    system smallint not null,
    reference_side study_side not null,
    -- How often its pair was shown, and when last: more than once after a reload.
    shown integer not null default 0,
    shown_at timestamptz,
    constraint study_trials_pkey primary key (rater_id, number),
    constraint study_trials_image_key unique (rater_id, image),
    constraint study_trials_output_fkey foreign key (study_id, image, system)
        references study_outputs (study_id, image, system) on delete cascade,
    constraint study_trials_shown_check check ((shown = 0) = (shown_at is null) and shown >= 0)
);

create index study_trials_output_idx on study_trials (study_id, image, system);

create type study_input as enum ('key', 'touch', 'mouse');

-- The first answer to a trial; there is no second.
create table study_answers (
    rater_id uuid not null,
    trial integer not null,
    -- The side that they would guess is from a camera.
    chosen study_side not null,
    -- For how long the pair was shown, and from its end to the answer, by the browser's clock.
    shown_ms double precision not null,
    response_ms double precision not null,
    -- The page was hidden while the pair was shown.
    interrupted boolean not null,
    input study_input not null,
    answered_at timestamptz not null default now(),
    constraint study_answers_pkey primary key (rater_id, trial),
    constraint study_answers_trial_fkey foreign key (rater_id, trial)
        references study_trials (rater_id, number) on delete cascade,
    constraint study_answers_times_check
        check (shown_ms between 0 and 3600000 and response_ms between 0 and 3600000)
);
