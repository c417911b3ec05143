#!/bin/sh
# Makes sure that PostgreSQL's server programs are on this machine: the private database of
# `scheduler` runs them. Prints nothing when they are there.
set -eu
. "$(dirname "$0")/packages.sh"

found() {
    for folder in "$(pg_config --bindir 2>/dev/null || true)" \
        "$(dirname "$(command -v initdb 2>/dev/null || echo /nonexistent/initdb)")" \
        /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin; do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && return 0
    done
    return 1
}

# With a server of one's own, the private one is never started.
[ -z "${DATABASE_URL:-}" ] || exit 0
found && exit 0

install_deb postgresql
found && exit 0
how=$(how_to_install postgresql postgresql-server postgresql)
echo "error: PostgreSQL's server programs (initdb, postgres) were not found: $how, or set DATABASE_URL to a server of your own" >&2
exit 1
