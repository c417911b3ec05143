#!/bin/sh
# Writes the locks: each package that the set-up or a benchmark takes from the package index, with the sha256 of its
# files, so that pip takes these and no others. Whoever changes a version in one of the .txt files, or torch's in
# scripts/libtorch.py, runs it and commits both; needs the network.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
# It only reads the index; what it writes is looked at in the change.
"$tools/bin/pip" install -q --disable-pip-version-check uv==0.13.9

lock() {
    "$tools/bin/uv" pip compile -q --generate-hashes --no-header --no-annotate --no-emit-index-url \
        --python-version 3.11 "$@"
}
lock --universal scripts/locks/tests.txt -o scripts/locks/tests.lock
lock --universal benches/requirements.txt -o benches/requirements.lock
echo mosaicml-streaming==0.13.0 | lock --universal --no-deps - -o benches/streaming.lock
lock --universal --no-deps scripts/locks/checkers.txt -o scripts/locks/checkers.lock
lock --universal --no-deps scripts/locks/nvcc.txt -o scripts/locks/nvcc.lock
# Of torch's own only CUDA's libraries: scripts/libtorch.py takes torch itself by its digest.
version=$(sed -n 's/^VERSION = "\([^"]*\)".*/\1/p' scripts/libtorch.py)
echo "torch==$version" | lock --python-platform x86_64-manylinux_2_28 - -o "$tools/torch.lock"
awk '/^[^ ]/ { wanted = /^(nvidia|cuda)-/ } wanted' "$tools/torch.lock" > scripts/locks/cuda.lock
