-- Who may enter the control room from elsewhere: tokens, of which only the SHA-256 is kept. A token has 256 random bits,
-- so that the digest cannot be turned back, and needs no salt.
--
-- Whoever may insert here makes themselves whom they like in the room, as roles of palette_proxy do in the queue.

create table room_tokens (
    id uuid primary key,
    -- The owner of what is submitted with it.
    name text not null,
    role text not null,
    digest bytea not null,
    made_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    -- By the day: it is for finding those that nobody uses.
    used_on date,
    revoked_at timestamptz,
    constraint room_tokens_digest_key unique (digest),
    constraint room_tokens_digest_check check (octet_length(digest) = 32),
    constraint room_tokens_role_check check (role in ('reader', 'user', 'admin')),
    constraint room_tokens_name_check check (octet_length(name) between 1 and 200),
    constraint room_tokens_made_by_check check (octet_length(made_by) between 1 and 200),
    constraint room_tokens_times_check check (created_at between '0001-01-01' and '9999-01-01'
        and expires_at between '0001-01-01' and '9999-01-01' and revoked_at between '0001-01-01' and '9999-01-01')
);
create index room_tokens_valid_idx on room_tokens (name) where revoked_at is null;

-- Workers are granted new tables whole (roles.sql), but not this one: also before roles.sql is run again.
do $migration$
begin
    if to_regrole('palette_worker') is not null then
        revoke insert, update, delete on room_tokens from palette_worker;
    end if;
end
$migration$;
