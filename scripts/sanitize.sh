#!/usr/bin/env bash
# The tests of torch-ext and jpeg-ext with C and C++ under AddressSanitizer and UndefinedBehaviorSanitizer: a read or
# write beside a buffer, memory used after it was freed, memory lost, an overflow of signed numbers, a shift too far, a
# null or unaligned access each end the test with a report. At last come faults on purpose, which must not go unnoticed.
#
# Checked is what gcc compiles for these crates: torch-ext/cpp, tch's own C++ and libjpeg-turbo. The buffers may be
# Rust's: all take memory from the same allocator. Not checked:
# - libtorch, which comes compiled. What it is given is checked where our C++ or a function of libc touches it.
# - The types of C++ objects (-fsanitize=vptr), since libtorch's libraries keep some of their type information.
# - libjpeg-turbo's assembly; its C takes the assembly's place. The pixels are the same.
# - Rust itself, which only a nightly compiler can check.
#
# The first run compiles for 13 minutes of one core, in target/sanitize; later ones take some two minutes.
#
# The tests of another crate, by hand: scripts/sanitize.sh pipeline --test all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
checks="-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -O1"

library() { # of gcc's sanitizers: its path
    local path
    path=$(gcc -print-file-name="$1" 2>/dev/null) || path=
    case $path in
        /*) readlink -f "$path" ;;
        *)
            echo "error: there is no $1: install gcc with libasan and libubsan" >&2
            exit 1
            ;;
    esac
}
asan=$(library libasan.so)
ubsan=$(library libubsan.so)

# Cargo compiles some C for the programs that it builds with, which must stay as it is: the compiler adds the checks by
# the folder that a build script writes to. Another name for other flags, so that cargo compiles again.
bin=$PWD/target/sanitize/bin-$(echo "$checks" | cksum | cut -d' ' -f1)
mkdir -p "$bin"
for compiler in gcc g++; do
    cat > "$bin/$compiler" <<END
#!/bin/sh
case \$OUT_DIR in
    */$host/release/build/torch-ext-* | */$host/release/build/torch-sys-* | */$host/release/build/mozjpeg-sys-*)
        exec $(command -v $compiler) "\$@" $checks ;;
esac
exec $(command -v $compiler) "\$@"
END
done
# mozjpeg-sys takes its assembly to any nasm that is not this old.
printf '#!/bin/sh\necho NASM version 0.0\n' > "$bin/nasm"
chmod +x "$bin"/*
export CC=$bin/gcc CXX=$bin/g++ PATH=$bin:$PATH
export CARGO_TARGET_DIR=target/sanitize

# Both libraries are named, since rustc keeps gcc from adding its own. AddressSanitizer must be loaded first.
cargo=(
    --release --target "$host"
    --config "target.$host.rustflags = ['-Clink-arg=$asan', '-Clink-arg=$ubsan']"
    --config "target.$host.runner = ['env', 'LD_PRELOAD=$asan']"
)
export UBSAN_OPTIONS=print_stacktrace=1

tests() { # of a crate, with further arguments
    cargo test "${cargo[@]}" --tests -p "$@"
}

noticed() { # whether a fault on purpose is: its crate, its test, what the report says
    local said
    echo "fault on purpose: $1 $2" >&2
    if said=$(tests "$1" --test sanitizers -- --ignored --exact "$2" 2>&1) || ! grep -q "$3" <<< "$said"; then
        printf '%s\nerror: %s: the fault of %s went unnoticed\n' "$said" "$1" "$2" >&2
        exit 1
    fi
}

if [ $# -gt 0 ]; then
    tests "$@"
    exit
fi
tests jpeg-ext
# That test is of NVIDIA's compiler, which does not start under AddressSanitizer.
tests torch-ext -- --skip the_kernels_are_not_stale
noticed jpeg-ext c_goes_past_the_end heap-buffer-overflow
noticed jpeg-ext c_overflows "signed integer overflow"
noticed jpeg-ext memory_is_lost "detected memory leaks"
noticed torch-ext cpp_goes_past_the_end heap-buffer-overflow
noticed torch-ext cpp_overflows "signed integer overflow"
