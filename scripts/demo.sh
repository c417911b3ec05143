#!/usr/bin/env bash
# The main job from photographs to a picture: ingest, a queued training run, two queued sampling
# jobs (the trained and the untrained network), scores. `make demo` builds first and then runs this.
#
#   IMAGES=   a folder or an archive of some hundred photographs or more (2 % are held out); without
#             it the demo draws its own scenes
#   CONFIG=   the experiment (configs/demo.toml)
#   DEMO=     where everything goes (demo)
#   SET=      overrides of the experiment, e.g. SET='train.steps=200 seed=1'
#   ROOM=     where the control room is served meanwhile (127.0.0.1:8100); empty for not at all
#
# At a terminal the control room stays until Ctrl-C; else the demo ends with the command that serves it.
# The demo has a database of its own, so that its worker takes no jobs but its own; with DATABASE_URL
# set it uses that one, and takes whatever is queued there.
# What is done already is not done again: an interrupted demo goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

demo=${DEMO:-demo}
config=${CONFIG:-configs/demo.toml}
bin=target/release

# Root's Postgres runs as another user, who may not be able to enter the checkout.
if [ "$(id -u)" = 0 ]; then home=/var/lib/palette/demo; else home=$PWD/demo-home; fi
export PALETTE_HOME=${PALETTE_HOME:-$home}

if [ "${1:-}" = --clean ]; then
    if [ "$PALETTE_HOME" = "$home" ] && [ -d "$home" ]; then
        [ ! -x $bin/scheduler ] || $bin/scheduler down
        rm -rf "$home"
    fi
    rm -rf "$demo"
    exit 0
fi

mkdir -p "$demo"
demo=$(cd "$demo" && pwd)
# A new folder is a new demo, also where the database knows an older one.
[ -e "$demo/id" ] || date +%s%N > "$demo/id"

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
digest() { printf '%s' "$*" | sha256sum | cut -c1-8; }

say "1/5  Photographs into shards"
if [ -n "${IMAGES:-}" ]; then
    [ -e "$IMAGES" ] || { echo "error: IMAGES=$IMAGES: no such file or folder" >&2; exit 1; }
    images=$(realpath "$IMAGES")
else
    images=$demo/scenes
    if [ ! -e "$images/.complete" ]; then
        $bin/pipeline scenes --out "$images" --count 12000 --size 64
        touch "$images/.complete"
    fi
fi
id=$(digest "$images $(stat -c '%s %Y' "$images")")
data=$demo/data-$id
for part in train held-out; do
    if [ ! -e "$data/$part/manifest.json" ]; then
        $bin/pipeline ingest "$images" --layout auto --holdout 0.02 --part $part \
            --name "demo-$id" --split $part --out "$data/$part"
    fi
done
$bin/pipeline inspect "$data/train"
$bin/pipeline preview "$config" --dataset "$data/train" --out "$demo/preview-$id.png"
echo "what the network will see: $demo/preview-$id.png" >&2

say "2/5  Queue: one run, and samples of it before and after training"
# The same key is the same job: a second demo does nothing twice.
key=$(digest "$(cat "$demo/id") $id $(cat "$config") ${SET:-}")
run=demo-$key
sets=()
if grep -q '^\[train\.validation\]' "$config"; then
    sets+=(--set "train.validation.dataset=$data/held-out")
fi
for item in ${SET:-}; do sets+=(--set "$item"); done
$bin/trainer submit "$config" --dataset "$data/train" --set "name=$run" "${sets[@]}" --key "$run"
out=$demo/outputs-$key
sample() { # NAME STEP SAMPLES
    $bin/sampler submit --run "$run@$2" --dataset "$data/held-out" --count 12 --samples "$3" \
        --task colorization --task inpainting:free-form-20-30 --task jpeg:10 \
        --process ddim --steps 10 --out "$out/$1" --png --key "$run-$1"
}
sample untrained 0 1
sample trained latest 3

# Whoever watches the demo watches it in the browser. A demo without a page is one all the same.
room=${ROOM-127.0.0.1:8100}
served=
if [ -n "$room" ]; then
    $bin/scheduler room --bind "$room" > "$demo/room.txt" 2>&1 &
    served=$!
    trap 'kill "$served" 2>/dev/null || true' EXIT
    until [ -s "$demo/room.txt" ] || ! kill -0 "$served" 2>/dev/null; do sleep 0.1; done
    if ! kill -0 "$served" 2>/dev/null; then
        cat "$demo/room.txt" >&2
        echo "the demo goes on without a control room; name another address with ROOM=127.0.0.1:PORT" >&2
        served=
    else
        echo "watch it in a browser: $(sed -n 's/^control room at //p' "$demo/room.txt")" >&2
    fi
fi

say "3/5  A worker takes the jobs"
if ! $bin/scheduler worker --drain --follow; then
    echo "the demo ended before it was done; the same command (make demo) goes on where it was" >&2
    exit 1
fi

say "4/5  Scores"
$bin/evaluator run --outputs "$out/untrained"
$bin/evaluator run --outputs "$out/trained"

say "5/5  Result"
cp "$out/trained/sheet.png" "$demo/picture-$key.png"
$bin/evaluator table --run "$run"
echo
echo "picture: $demo/picture-$key.png   (input, outputs, reference; images that training never saw)"
echo "look around: PALETTE_HOME=$PALETTE_HOME $bin/scheduler show $run"
if [ -n "$served" ] && kill -0 "$served" 2>/dev/null && [ -t 1 ]; then
    sed -n 's/^control room at \(.*\)/in a browser: \1   (Ctrl-C ends it)/p' "$demo/room.txt"
    wait "$served" || true
else
    echo "in a browser: PALETTE_HOME=$PALETTE_HOME $bin/scheduler room   (http://127.0.0.1:8100)"
fi
