#!/usr/bin/env bash
# Packs what a GPU machine without Rust, network or database needs into one small folder:
#
#   benches/gpu/pack.sh [FOLDER]        (.bench/gpu-pack; replaced where it is such a folder)
#   bash FOLDER/run.sh                  on the GPU machine, after FOLDER was copied there
#
#   PALETTE_FIXTURES=   folder with golden/ and data/: golden numbers, and photographs where none are named
#   PHOTOGRAPHS=        archive or folder of full-size photographs, of which 24 come along, for the loader
#   SMALL=              archive or folder of 64×64 photographs, an eighth of which comes along, for part C
#   HELD_OUT=           tar of other photographs, eight of which part C makes sheets of (wants Pillow: make python)
#   PARTS=              parts of the run that it is for (a,b,c): without c less comes along
#   TESTS=              cargo's options that choose test programs, such as `--test norm` (all)
#   LIMIT=              mebibytes that the folder may have (64)
#
# It holds stripped programs and the tests of torch-ext and diffusion in one archive, golden numbers and
# datasets in another, and the scripts. What PALETTE_FIXTURES does not have is left out with a line that
# says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=${1:-.bench/gpu-pack}
limit=${LIMIT:-64}
parts=${PARTS:-a,b,c}
python=${PYTHON:-python3}
fixtures=${PALETTE_FIXTURES:-}
photographs=${PHOTOGRAPHS:-$fixtures/data/imagenet/ILSVRC2012_img_val.tar}
small=${SMALL:-$fixtures/data/tiny-imagenet/train.tar}
held_out=${HELD_OUT:-$fixtures/data/tiny-imagenet/val.tar}
bin=${CARGO_TARGET_DIR:-target}/release

say() { echo "pack: $1" >&2; }
fail() {
    echo "error: $1" >&2
    exit 1
}

command -v xz >/dev/null || fail "xz is not there (on Debian: apt-get install xz-utils)"
[ ! -e "$out" ] || [ -e "$out/pack.json" ] || fail "\`$out\` is there and is no folder of pack.sh"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/payload/bin" "$stage/pack/benches/gpu"

say "programs"
cargo build --release --workspace --bins
for program in trainer sampler pipeline; do
    strip --strip-all -o "$stage/payload/bin/$program" "$bin/$program"
done

say "test programs"
# shellcheck disable=SC2086 # options are words
# Of the whole workspace, as `make test` builds them: a part of it would build its dependencies once more.
cargo test --release --no-run --message-format=json --workspace ${TESTS:-} >"$stage/tests.json"
"$python" - "$stage/tests.json" >"$stage/tests.txt" <<'PYTHON'
import json
import sys

for line in open(sys.argv[1]):
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message.get("executable"):
        crate = message["manifest_path"].split("/")[-2]
        if crate not in ("torch-ext", "diffusion"):
            continue
        kind = "unit" if "lib" in message["target"]["kind"] else message["target"]["name"]
        print(f"test-{crate}-{kind}", message["executable"], sep="\t")
PYTHON
[ -s "$stage/tests.txt" ] || fail "cargo named no test programs"
while IFS=$'\t' read -r name executable; do
    strip --strip-all -o "$stage/payload/bin/$name" "$executable"
done <"$stage/tests.txt"
mkdir -p "$stage/payload/diffusion/tests"
cp -R diffusion/tests/pth "$stage/payload/diffusion/tests"

if [ -n "$fixtures" ] && [ -d "$fixtures/golden" ]; then
    say "golden numbers"
    mkdir "$stage/payload/golden"
    cp "$fixtures"/golden/{adm_small,adm_newattn,janspiry_small}.* "$fixtures"/golden/{janspiry_small_Network.pth,extractor.pt} \
        "$stage/payload/golden"
else
    say "no golden numbers: PALETTE_FIXTURES names no folder with golden/"
fi

ingest() { # SOURCE OUT OPTIONS
    "$bin/pipeline" ingest "$1" --out "$stage/payload/$2" "${@:3}" >/dev/null
}
if [ -e "$photographs" ]; then
    say "photographs"
    ingest "$photographs" photographs --name photographs --split train --limit 24
else
    say "no photographs: \`$photographs\` is not there"
fi
if [[ $parts != *c* ]]; then
    say "nothing for part c"
elif [ -e "$small" ]; then
    say "small photographs"
    ingest "$small" small --name small --split train --holdout 0.875 --part train
else
    say "no small photographs: \`$small\` is not there"
fi
pillow=.venv/bin/python
[ -x "$pillow" ] || pillow=$python
if [[ $parts != *c* ]]; then
    :
elif [ -e "$held_out" ] && "$pillow" -c 'import PIL' 2>/dev/null; then
    say "held-out pictures"
    "$pillow" benches/gpu/held_out.py "$held_out" "$stage/payload/held-out"
else
    say "no held-out pictures: they want \`$held_out\` and Pillow (make python)"
fi

say "archives"
chmod -R u+w "$stage/payload"
# Windows that span everything: programs are alike, and so are weights in two formats. Jumps are turned into
# addresses in programs alone.
archive() { # NAME ENTRIES
    tar --sort=name --owner=0 --group=0 -C "$stage/payload" -cf - "${@:2}" |
        xz --threads=1 ${filters[@]+"${filters[@]}"} --lzma2=preset=6,dict=64MiB >"$stage/pack/$1.tar.xz"
}
filters=(--x86)
archive programs bin
filters=()
entries=()
for entry in diffusion golden photographs small held-out; do
    [ ! -e "$stage/payload/$entry" ] || entries+=("$entry")
done
[ ${#entries[@]} = 0 ] || archive data "${entries[@]}"
cp benches/gpu/run.sh "$stage/pack/run.sh"
cp benches/gpu/*.py benches/gpu/*.toml benches/gpu/README.md benches/gpu/run.sh "$stage/pack/benches/gpu"
cp benches/{train_step,sample,torch_unet}.py "$stage/pack/benches"
cp -R configs "$stage/pack/configs"
"$python" - "$stage" >"$stage/pack/pack.json" <<'PYTHON'
import datetime
import json
import subprocess
import sys
from pathlib import Path

stage = Path(sys.argv[1])
commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
files = {str(path.relative_to(stage / "payload")): path.stat().st_size for path in sorted((stage / "payload").rglob("*"))}
programs = {name.removeprefix("bin/"): size for name, size in files.items() if name.startswith("bin/")}
facts = {"commit": commit or None, "made": datetime.date.today().isoformat(), "programs": programs}
print(json.dumps(facts | {"unpacked_bytes": sum(files.values())}, indent=2))
PYTHON

bytes=$(du -sb "$stage/pack" | cut -f1)
[ "$bytes" -le $((limit << 20)) ] || fail "the folder has $((bytes >> 20)) MiB of $limit: name fewer photographs, or LIMIT="
rm -rf "$out"
mkdir -p "$(dirname "$out")"
cp -R "$stage/pack" "$out"
say "$out: $((bytes >> 20)) MiB of $limit"
