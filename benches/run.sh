#!/bin/sh
# Measures our loader beside its peers: `benches/run.sh SOURCE [options of peers.py]`, where SOURCE is
# an archive or folder of photographs. PALETTE_BENCH_PYTHON names a Python that has the peers; without
# it they are installed into .venv-bench.
set -eu
cd "$(dirname "$0")/.."

source=${1:?"usage: benches/run.sh SOURCE [options]; SOURCE is an archive or folder of photographs"}
shift

python=${PALETTE_BENCH_PYTHON:-.venv-bench/bin/python}
if [ ! -x "$python" ] && [ -z "${PALETTE_BENCH_PYTHON:-}" ]; then
    "${PYTHON:-python3}" -m venv .venv-bench
fi
if [ -z "${PALETTE_BENCH_PYTHON:-}" ] && [ ! -f .venv-bench/ready ]; then
    "$python" -m pip install --disable-pip-version-check --require-hashes -r benches/requirements.lock
    "$python" -m pip install --disable-pip-version-check --no-deps --require-hashes -r benches/streaming.lock
    touch .venv-bench/ready
fi

sh scripts/nasm.sh
"${PYTHON:-python3}" scripts/assets.py
# --workspace as everywhere, so that nothing is compiled twice.
cargo build --release --workspace --bin pipeline
exec "$python" benches/peers.py --source "$source" --pipeline "${CARGO_TARGET_DIR:-target}/release/pipeline" "$@"
