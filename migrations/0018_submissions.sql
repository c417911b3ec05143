-- What was asked for under each submit key, as it was when it was submitted: the same key again must ask for the
-- same. A table of its own, because names and payloads change later (`scheduler rename`, `trainer extend`) and because
-- the rows of jobs stay small. Jobs and sweeps of before have no row here.
create table submissions (
    submit_key text constraint submissions_pkey primary key,
    request jsonb not null,
    created_at timestamptz not null default now()
);
