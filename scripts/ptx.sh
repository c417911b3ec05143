#!/bin/sh
# Compiles torch-ext/cuda/*.cu to the PTX that is checked in beside it, with CUDA's compiler from the
# package index: no GPU and no CUDA installation is needed. Whoever changes a kernel runs it and
# commits both; a test runs it with --check.
#
#   scripts/ptx.sh           compile, write torch-ext/cuda/*.ptx
#   scripts/ptx.sh --check   compile, fail where a checked-in PTX differs
#   scripts/ptx.sh --setup   fetch the compiler only
#
# The compiler goes into the cache that all clones share (PALETTE_CACHE, else the user's cache folder).
set -eu
cd "$(dirname "$0")/.."
lock=scripts/locks/nvcc.lock
cache=${PALETTE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/palette}
home=$cache/nvcc-$(sha256sum < $lock | cut -c1-12)

if [ ! -e "$home/.complete" ]; then
    echo "setup: fetching CUDA's compiler (100 MB)" >&2
    mkdir -p "$cache"
    fresh=$(mktemp -d "$cache/nvcc.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    if ! "${PYTHON:-python3}" -m pip install -q --disable-pip-version-check --root-user-action ignore \
        --no-deps --no-compile --only-binary=:all: --target "$fresh" --require-hashes -r "$lock"; then
        echo "error: CUDA's compiler could not be fetched: check the network and pip" >&2
        exit 1
    fi
    chmod -R u+w "$fresh"
    chmod +x "$fresh"/nvidia/cu13/bin/* "$fresh"/nvidia/cu13/nvvm/bin/*
    touch "$fresh/.complete"
    # Another clone may have been faster: both hold the same.
    mv -T "$fresh" "$home" 2>/dev/null || [ -e "$home/.complete" ]
fi
[ "${1:-}" != --setup ] || exit 0

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
stale=0
for source in torch-ext/cuda/*.cu; do
    name=$(basename "$source" .cu)
    # The first GPU that a file is for, in its line `// compute: NN`.
    compute=$(sed -n 's,^// compute: ,,p' "$source")
    flags=$(sed -n 's,^// flags: ,,p' "$source")
    # Without line numbers and names of this machine's folders the text depends on the source alone.
    # shellcheck disable=SC2086 # flags are words
    "$home/nvidia/cu13/bin/nvcc" --ptx --std=c++17 -O3 "--gpu-architecture=compute_$compute" $flags \
        -o "$made/$name.ptx" "$source"
    if [ "${1:-}" = --check ]; then
        if ! cmp -s "$made/$name.ptx" "torch-ext/cuda/$name.ptx"; then
            echo "error: torch-ext/cuda/$name.ptx is not what $name.cu compiles to: run scripts/ptx.sh" >&2
            stale=1
        fi
    else
        cp "$made/$name.ptx" "torch-ext/cuda/$name.ptx"
    fi
done
exit $stale
