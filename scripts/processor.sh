#!/bin/sh
# Programs are built for x86-64-v3 (.cargo/config.toml): an older processor would stop them without a word.
set -eu

[ "$(uname -m)" = x86_64 ] && [ -r /proc/cpuinfo ] || exit 0
grep -q x86-64-v3 "$(dirname "$0")/../.cargo/config.toml" || exit 0
flags=" $(sed -n 's/^flags[^:]*://p' /proc/cpuinfo | head -n 1) "
for wanted in abm avx2 bmi1 bmi2 f16c fma movbe; do
    case "$flags" in *" $wanted "*) continue ;; esac
    echo "error: this processor lacks $wanted (Intel has it since Haswell, AMD since Excavator): take the two entries with x86-64-v3 out of .cargo/config.toml" >&2
    exit 1
done
