-- Retention: of a long run only some checkpoints stay. Removing one changes two places, a store and
-- this table, and a process can be killed between them. So a checkpoint retires first, which hides
-- it from everybody who could choose it; then its files go, the last-written one first; then its row.
-- Whoever finds a retiring row knows that files may still lie there, and finishes the removal: no
-- kept row is ever without its files, no file is ever left without a row.

create type checkpoint_state as enum ('kept', 'retiring');

alter table checkpoints add column state checkpoint_state not null default 'kept';

-- The step of a sampling says which checkpoint must not retire under it: known from the submission
-- where that names one, else from the moment that an attempt has chosen. So far submissions left it
-- empty and named the step in the payload alone.
update samplings
set step = substring(jobs.payload ->> 'run' from '@([0-9]{1,18})$')::bigint
from jobs
where jobs.id = samplings.job_id and samplings.step is null
  and jobs.payload ->> 'run' ~ '@[0-9]{1,18}$';
