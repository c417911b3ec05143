#!/bin/sh
# Proves and measures everything that wants a GPU, in one run of minutes: `bash run.sh` in the folder that
# `pack.sh` made, or `bash benches/gpu/run.sh --pack FOLDER` in a checkout. `--help` names the options,
# README.md says what is needed. Python is PALETTE_BENCH_PYTHON, else python3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case $here in
*/benches/gpu) root=${here%/benches/gpu} ;;
*) root=$here ;;
esac
# The folder stays as it was packed.
export PYTHONDONTWRITEBYTECODE=1
exec "${PALETTE_BENCH_PYTHON:-python3}" "$root/benches/gpu/run.py" "$@"
