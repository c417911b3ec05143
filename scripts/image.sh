#!/bin/sh
# Collects what a container image holds into a folder: the five programs, stripped; of libtorch the libraries that they
# load; the experiments of configs/ and the SQL of the roles. With PALETTE_CUDA=1 CUDA's libraries too.
#
#   sh scripts/image.sh FOLDER          after `make build`; the folder is replaced
set -eu
cd "$(dirname "$0")/.."
[ $# = 1 ] || { echo "usage: sh scripts/image.sh FOLDER" >&2; exit 2; }
out=$1
programs="pipeline trainer sampler evaluator scheduler"
built=${PALETTE_BIN:-target/release}
torch=$(readlink -f "${LIBTORCH:-.libtorch}")
# A wheel's folders lie side by side: torch/, nvidia/.
wheels=$(dirname "$torch")

fail() {
    echo "error: $1" >&2
    exit 1
}
[ -f "$torch/lib/libtorch_cpu.so" ] || fail "no libtorch at $torch: run make setup, or name one in LIBTORCH"
for program in $programs; do
    [ -x "$built/$program" ] || fail "no $built/$program: run make build, or name the programs' folder in PALETTE_BIN"
done

rm -rf "$out"
mkdir -p "$out/bin" "$out/torch/lib"
for program in $programs; do
    strip -o "$out/bin/$program" "$built/$program"
done
# Beside the programs is the second place where they look (torch-ext/rpath.rs); the first is that of this machine.
ln -s ../torch "$out/bin/libtorch"

# place FILE: at the same place below the wheels' folder, where the libraries find each other.
place() {
    case "$1" in
        "$torch"/*) to=torch/${1#"$torch"/} ;;
        *) to=${1#"$wheels"/} ;;
    esac
    mkdir -p "$out/$(dirname "$to")"
    cp -L "$1" "$out/$to"
}
# What the programs load at their start, as far as it comes with libtorch.
for program in $programs; do
    LD_LIBRARY_PATH="$torch/lib" ldd "$built/$program"
done | awk '$2 == "=>" { print $3 }' | sort -u | while read -r library; do
    library=$(readlink -f "$(dirname "$library")")/$(basename "$library")
    case "$library" in "$wheels"/*) place "$library" ;; esac
done
[ -f "$out/torch/lib/libtorch_cpu.so" ] || fail "the programs in $built load no libtorch of $torch"
if [ "${PALETTE_CUDA:-0}" = 1 ]; then
    ls "$wheels"/nvidia/nccl/lib/libnccl.so* >/dev/null 2>&1 ||
        fail "$wheels has no CUDA libraries: PALETTE_CUDA=1 make setup fetches them"
    for library in "$torch"/lib/libtorch_cuda*.so "$torch"/lib/libc10_cuda.so "$torch"/lib/libtorch_nvshmem.so \
        "$torch"/lib/libcaffe2_nvrtc.so "$wheels"/nvidia/*/lib/*.so*; do
        [ ! -f "$library" ] || place "$library"
    done
fi

mkdir -p "$out/share"
cp -R configs migrations/roles.sql deploy/logins.sql LICENSE-APACHE LICENSE-MIT "$out/share/"
du -sh "$out" | awk '{ print "image: " $1 " in " $2 }' >&2
