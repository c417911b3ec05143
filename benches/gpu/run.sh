#!/bin/sh
# What we publish of GPUs, in one command on a machine that has one: `benches/gpu/run.sh [options of
# train_step.py]`. README.md beside it says what it needs and does.
#
#   OUT=           folder for gpu.md and the figures as JSON (.bench/gpu)
#   PALETTE_BIN=   folder of the built programs (target/release)
#   PALETTE_BENCH_PYTHON=   a Python with PyTorch 2.11 for CUDA (python3)
#   CONFIG=        the experiment whose network is measured (configs/paper/inpainting.toml)
#   TRAIN= HELD_OUT=   datasets of `pipeline ingest` for the small experiments; none without them
#   STEPS=         steps of each small experiment at 64x64 (10000), 0 for none
set -eu
cd "$(dirname "$0")/../.."

out=${OUT:-.bench/gpu}
bin=${PALETTE_BIN:-target/release}
python=${PALETTE_BENCH_PYTHON:-python3}
config=${CONFIG:-configs/paper/inpainting.toml}
steps=${STEPS:-10000}

fail() {
    echo "error: $1" >&2
    exit 1
}

[ -x "$bin/trainer" ] || fail "\`$bin/trainer\` is not there: make build, or say PALETTE_BIN="
nvidia-smi >/dev/null 2>&1 || fail "nvidia-smi finds no GPU"
"$python" -c 'import torch; assert torch.__version__[:5] == "2.11." and torch.cuda.is_available()' 2>/dev/null ||
    fail "\`$python\` has no PyTorch 2.11 that finds the GPU: say PALETTE_BENCH_PYTHON="
mkdir -p "$out"
rm -f "$out/step.json" "$out/gpu.md"

# Throughput: batches that do not fit into the memory are said not to, and passed over.
"$bin/trainer" check "$config" --json >"$out/check.json"
measured=0
"$python" benches/train_step.py "$config" --trainer "$bin/trainer" --device cuda --precision bf16 \
    --batches 1,4,8,16,32 --rounds 3 --seconds 10 --warmup 5 --json "$out/step.json" "$@" || measured=$?
# What was measured is reported also where a later batch size failed.
if [ -f "$out/step.json" ]; then
    "$python" benches/gpu/report.py "$out/check.json" "$out/step.json" >"$out/gpu.md"
    cat "$out/gpu.md"
fi
[ "$measured" = 0 ] || exit "$measured"

# Sampling: images a second by steps and batch, beside diffusers.
if "$python" -c 'import diffusers' 2>/dev/null; then
    "$python" benches/sample.py "$config" --sampler "$bin/sampler" --device cuda --precision bf16 \
        --batches 1,8,32,64 --steps 10,50 --rounds 3 --seconds 10 --json "$out/sample.json" | tee "$out/sample.txt"
else
    echo "note: \`$python\` has no diffusers: sampling is not measured" >&2
fi

# Small experiments, longer than a CPU has time for.
if [ "$steps" -gt 0 ] && [ -n "${TRAIN:-}" ] && [ -n "${HELD_OUT:-}" ]; then
    PALETTE_BIN=$bin "$python" scripts/experiments.py --train "$TRAIN" --held-out "$HELD_OUT" \
        --out "$out/experiments" --size 64 --steps "$steps" --prefix gpu
fi
