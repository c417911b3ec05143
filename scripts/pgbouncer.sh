#!/bin/sh
# Makes sure that PgBouncer is there, through which tests reach Postgres. Without it they are skipped, each with a
# line that says so. Prints nothing when it is there.
set -eu
. "$(dirname "$0")/packages.sh"

found() { PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null 2>&1; }
found && exit 0
install_deb pgbouncer
found && exit 0
how=$(how_to_install pgbouncer pgbouncer pgbouncer)
echo "setup: without PgBouncer the tests of poolers are skipped: $how" >&2
