#!/bin/sh
# Makes .venv with what the tests want of Python: pyarrow, datasets, DuckDB and Polars, which must read our shards; moto,
# an S3 server; kubernetes-validate and check-jsonschema, which check deploy/ without a network; openapi-spec-validator,
# which checks the API of the control room. Without it these tests are skipped, each with a line that says so.
set -eu
cd "$(dirname "$0")/.."
wanted=scripts/locks/tests.lock
made=.venv/tests.lock
cmp -s "$wanted" "$made" && exit 0

skip() {
    echo "setup: $1; tests that use Python are skipped" >&2
    exit 0
}

echo "setup: Python packages for the tests into .venv (1 GB)" >&2
rm -rf .venv
"${PYTHON:-python3}" -m venv .venv || skip "python3 has no venv (on Debian: apt-get install python3-venv)"
.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r "$wanted" || skip "pip could not install them"
cp "$wanted" "$made"
