-- Alerts: rules, what they found, and what was sent where. Where to send to is in a file of the server that sends
-- (`scheduler room --alerts`), because it holds secrets; a rule names its targets.

create table alert_rules (
    id uuid primary key default gen_random_uuid(),
    kind text not null constraint alert_rules_kind_check
        check (kind in ('failed', 'lost', 'stuck', 'disk', 'nothing', 'sweep', 'nobody')),
    -- What the kind counts: log intervals, the share of the disk that is left, failed runs, minutes.
    amount double precision constraint alert_rules_amount_check check (amount > 0 and amount <= 1000000),
    targets text[] not null,
    -- Only what belongs to this owner.
    owner text,
    -- Of a sweep whose runs all die: its queued jobs are paused.
    pauses boolean not null default false,
    enabled boolean not null default true,
    made_by text not null,
    -- What happened before is not told.
    since timestamptz not null default now(),
    constraint alert_rules_targets_check check (cardinality(targets) between 1 and 20
        and array_position(targets, null) is null and coalesce(array_ndims(targets), 1) = 1),
    constraint alert_rules_texts_check check (octet_length(array_to_string(targets, '')) <= 4096
        and greatest(octet_length(owner), octet_length(made_by)) <= 1024),
    constraint alert_rules_since_check check (since between '0001-01-01' and '9999-01-01')
);

-- One row for each thing that a rule found, however many servers look.
create table alert_events (
    id bigint generated always as identity primary key,
    rule_id uuid constraint alert_events_rule_fkey references alert_rules (id) on delete set null,
    kind text not null,
    -- What it is about, so that it is told once.
    subject text not null,
    title text not null,
    body text not null,
    job_id uuid,
    at timestamptz not null default now(),
    constraint alert_events_once_key unique (rule_id, subject),
    constraint alert_events_texts_check check (octet_length(title) <= 4096 and octet_length(body) <= 65536
        and octet_length(subject) <= 1024 and octet_length(kind) <= 100),
    constraint alert_events_at_check check (at between '0001-01-01' and '9999-01-01')
);
create index alert_events_at_idx on alert_events (at desc);

create table alert_deliveries (
    event_id bigint not null constraint alert_deliveries_event_fkey references alert_events (id) on delete cascade,
    target text not null,
    state text not null default 'waiting' constraint alert_deliveries_state_check
        check (state in ('waiting', 'sent', 'given up')),
    tries integer not null default 0,
    -- When it is tried next; while a server sends it, when another one may.
    next_at timestamptz not null default now(),
    error text,
    ended_at timestamptz,
    primary key (event_id, target),
    constraint alert_deliveries_texts_check check (octet_length(error) <= 4096 and octet_length(target) <= 1024),
    constraint alert_deliveries_next_at_check check (next_at between '0001-01-01' and '9999-01-01'),
    constraint alert_deliveries_ended_at_check check (ended_at between '0001-01-01' and '9999-01-01')
);
create index alert_deliveries_waiting_idx on alert_deliveries (next_at) where state = 'waiting';

-- What the rules look for.
create index jobs_failed_idx on jobs (ended_at) where state = 'failed';
