#!/usr/bin/env bash
# Renews scripts/advisories: what RustSec's database knows of the crates in Cargo.lock, for machines that cannot fetch
# it (scripts/dependencies.sh). Takes it from GitHub, or from a clone: scripts/advisories.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
snapshot=scripts/advisories

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
database=${1:-$fresh/database}
[ $# -gt 0 ] || git clone -q --depth 1 https://github.com/RustSec/advisory-db "$database"

git -C "$database" rev-parse -q --verify HEAD:crates >/dev/null || {
    echo "error: $database is no clone of https://github.com/RustSec/advisory-db" >&2
    exit 1
}
mkdir "$fresh/all"
git -C "$database" archive HEAD crates | tar x -C "$fresh/all"
sh scripts/crates.sh > "$fresh/crates.txt"

rm -rf "$snapshot/crates"
while read -r name; do
    if [ -d "$fresh/all/crates/$name" ]; then
        mkdir -p "$snapshot/crates"
        cp -r "$fresh/all/crates/$name" "$snapshot/crates/"
    fi
done < "$fresh/crates.txt"
mv "$fresh/crates.txt" "$snapshot/crates.txt"
TZ=UTC git -C "$database" log -1 --date=format-local:%Y-%m-%d --format='%cd %H' > "$snapshot/taken"
echo "$snapshot: $(find "$snapshot/crates" -name '*.md' | wc -l) advisories as of $(cut -d' ' -f1 "$snapshot/taken")"
