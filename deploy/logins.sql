-- Makes the logins that workers and KEDA use, in the roles of migrations/roles.sql, and gives them the passwords of the
-- environment (WORKER_PASSWORD, READER_PASSWORD): the Job of deploy/kubernetes and the service of deploy/compose.yaml
-- run it with psql, after roles.sql, as a role that may make others. It may be run any number of times.
\set ON_ERROR_STOP on
\getenv worker_password WORKER_PASSWORD
\getenv reader_password READER_PASSWORD

select format('create role %I login', name)
from unnest(array['palette_workers', 'palette_watcher']) as name
where not exists (select from pg_roles where rolname = name) \gexec

grant palette_worker to palette_workers;
grant palette_reader to palette_watcher;
-- Statements with passwords stay out of the server's log.
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
alter role palette_workers password :'worker_password';
alter role palette_watcher password :'reader_password';
