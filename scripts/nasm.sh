#!/bin/sh
# Makes sure that nasm is there, which assembles libjpeg-turbo's vector code on Intel and AMD. It is not
# needed: without it every pixel is the same, and JPEG takes up to three times as long. Prints nothing
# when it is there.
set -eu
. "$(dirname "$0")/packages.sh"

case "$(uname -m)" in x86_64 | amd64 | i?86) ;; *) exit 0 ;; esac
found() { command -v nasm >/dev/null 2>&1; }
found && exit 0
install_deb nasm
found && exit 0
how=$(how_to_install nasm nasm nasm)
echo "setup: without nasm JPEG takes up to three times as long: $how, then cargo clean --release -p mozjpeg-sys" >&2
