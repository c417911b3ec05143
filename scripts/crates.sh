#!/bin/sh
# The names in Cargo.lock that come from a registry, each once.
set -eu
awk '/^name = /{ name = $3 } /^source = /{ gsub(/"/, "", name); print name }' "$(dirname "$0")/../Cargo.lock" | LC_ALL=C sort -u
