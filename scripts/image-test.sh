#!/usr/bin/env bash
# Builds the CPU image from the programs that `make build` made, and tries it: each program; a training in a container
# whose worker is the first process and gets SIGTERM; the rest of it in another container. It takes minutes and is no part
# of the tests. As root, with buildah, mmdebstrap and Postgres, on a machine that need not run containers: processes get
# name spaces and the image's files as their root.
#
#   bash scripts/image-test.sh          BASE= an image to start from, where a registry can be reached; else Debian's
#                                       packages make one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "error: $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "the trial makes name spaces: run it as root"
for tool in buildah mmdebstrap unshare psql; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install buildah mmdebstrap util-linux postgresql"
done
postgres=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$postgres" ] || fail "PostgreSQL's server programs are missing: apt-get install postgresql"

work=$(mktemp -d /tmp/palette-image.XXXXXX)
chmod 755 "$work"
export BUILDAH_ISOLATION=chroot
image() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
server= job=
finish() {
    # The child of unshare is process 1, which takes its name space along.
    [ -z "$job" ] || pkill -KILL -P "$(pgrep -P "$job")" || true
    [ -z "$server" ] || runuser -u postgres -- "$postgres/pg_ctl" -s -m immediate -D "$work/database" stop || true
    image umount -a >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

say "1/4  The image"
base=${BASE:-}
if [ -z "$base" ]; then
    mmdebstrap --quiet --variant=minbase --include=ca-certificates trixie "$work/base.tar"
    printf 'FROM scratch\nADD base.tar /\n' > "$work/Containerfile"
    image build --quiet -t localhost/base "$work" >/dev/null
    base=localhost/base
fi
sh scripts/image.sh target/image
image build --quiet --ignorefile .containerignore --build-arg "BASE=$base" --build-arg "BUILDER=$base" \
    --build-arg PROGRAMS=given -t localhost/palette . >/dev/null
image images localhost/palette

say "2/4  A database"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
install -d -o postgres -m 700 "$work/database"
printf 'owner\n' > "$work/password"
chmod 644 "$work/password"
runuser -u postgres -- "$postgres/initdb" -D "$work/database" -U palette -A scram-sha-256 --pwfile "$work/password" >/dev/null
runuser -u postgres -- "$postgres/pg_ctl" -s -w -D "$work/database" -l "$work/database/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -k $work/database" start
server=yes

# inside CONTAINER USER PASSWORD COMMAND…: in name spaces of its own, as the image's user. CONTAINER is a folder.
inside() {
    # shellcheck disable=SC2016
    unshare --mount --pid --ipc --uts --fork --kill-child sh -ec '
        root=$1 user=$2 password=$3 address=$4; shift 4
        mount -t proc proc "$root/proc"
        mount --bind /dev "$root/dev"
        mount --bind "$SHARED" "$root/srv"
        cd "$root"
        exec chroot --userspec=10001:10001 . env -i -C /opt/palette PATH=/opt/palette/bin:/usr/bin:/bin \
            PALETTE_HOME=/var/lib/palette DATABASE_URL="$address" PGUSER="$user" PGPASSWORD="$password" "$@"
    ' sh "$@"
}
export SHARED=$work/shared
install -d -o 10001 -g 10001 "$SHARED"
address=postgres://127.0.0.1:$port/postgres
first=$(image mount "$(image from --pull-never localhost/palette)")
second=$(image mount "$(image from --pull-never localhost/palette)")
run() { inside "$1" palette owner "$address" "${@:2}"; }
worker() { inside "$1" palette_workers worker "$address" "${@:2}"; }

for program in pipeline trainer sampler evaluator scheduler; do run "$first" "$program" --version; done
[ "$(run "$first" id -u)" = 10001 ] || fail "the image's user is another"
run "$first" scheduler up
WORKER_PASSWORD=worker READER_PASSWORD=reader PGPASSWORD=owner psql -qX -v owner=palette \
    -f "$first/opt/palette/share/roles.sql" -f "$first/opt/palette/share/logins.sql" "postgres://palette@127.0.0.1:$port/postgres"

say "3/4  A worker as the first process, and SIGTERM"
run "$first" pipeline scenes --out /srv/scenes --count 300 --size 64 --quiet
run "$first" pipeline ingest /srv/scenes --layout auto --name scenes --split train --out /srv/data --quiet
worker "$first" trainer submit share/configs/demo.toml --dataset /srv/data --set name=trial --set train.steps=60 \
    --set train.checkpoint.every=1000 --set train.checkpoint.place=/srv/runs --set train.validation.dataset=/srv/data \
    --set train.log_every=1
install -d -o 10001 -g 10001 "$SHARED/runs"
options=(--exit-when-idle --grace 60 --metrics 127.0.0.1:0 --data-root /srv/data --output-root /srv/runs)
worker "$first" scheduler worker "${options[@]}" > "$work/first" 2>&1 &
job=$!
step() { worker "$second" scheduler show trial --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["job"]["progress_done"] or 0)'; }
while [ "$(step)" -lt 5 ]; do
    kill -0 $job 2>/dev/null || fail "the worker ended before it could be interrupted: $(cat "$work/first")"
    sleep 0.2
done
# Below this shell are unshare and, as process 1 of its name space, the worker.
inner=$job
until [ "$(cat "/proc/$inner/comm")" = scheduler ]; do inner=$(pgrep -P "$inner" | head -1); done
grep NSpid "/proc/$inner/status"
kill -TERM "$inner"
status=0
wait $job || status=$?
job=
cat "$work/first"
[ $status = 75 ] || fail "the worker ended with $status, not 75"

say "4/4  The rest of it, in another container"
worker "$second" scheduler worker "${options[@]}"
worker "$second" scheduler show trial
[ "$(step)" = 60 ] || fail "the run did not end"
say "the image works"
