#!/bin/sh
# Makes sure that PostgreSQL's server programs are on this machine: the private database of
# `scheduler` runs them. Prints nothing when they are there.
set -eu

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

if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then
        echo "setup: installing PostgreSQL (apt-get install postgresql)" >&2
        apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql >&2
        found && exit 0
    fi
    how="sudo apt-get install postgresql"
elif command -v dnf >/dev/null 2>&1; then
    how="sudo dnf install postgresql-server"
elif command -v brew >/dev/null 2>&1; then
    how="brew install postgresql"
else
    how="install the server with your system's package manager"
fi
echo "error: PostgreSQL's server programs (initdb, postgres) were not found: $how, or set DATABASE_URL to a server of your own" >&2
exit 1
