#!/bin/sh
# Unpacks Debian's Slurm for the tests of `scheduler slurm`, which start a slurmctld and a slurmd of their own. Nothing is
# installed: the packages, and those of their libraries that this machine lacks, are unpacked into the cache that all
# clones share (PALETTE_CACHE, else the user's cache folder).
#
#   scripts/slurm.sh           fetch and unpack; prints nothing when they are there
#   scripts/slurm.sh --where   print the folder where they are, nothing where they are not
#
# Without them these tests are skipped, each with a line that says so.
set -eu
cache=${PALETTE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/palette}
packages="slurmctld slurmd slurm-client slurm-wlm-basic-plugins"

home=
for mark in "$cache"/slurm-*/.complete; do
    [ ! -e "$mark" ] || home=$(dirname "$mark")
done
if [ "${1:-}" = --where ]; then
    [ -z "$home" ] || echo "$home"
    exit 0
fi
[ -z "$home" ] || exit 0

skipped() {
    echo "setup: without Slurm the tests of its pilots are skipped: $*" >&2
    exit 0
}

command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1 ||
    skipped "they unpack the packages of Debian or Ubuntu, which this system has not"
# shellcheck disable=SC2086 # packages are words
wanted() { LC_ALL=C apt-get -qq -s install --no-install-recommends $packages 2>/dev/null; }
if ! plan=$(wanted); then
    [ "$(id -u)" != 0 ] || apt-get update -q >&2 || true
    plan=$(wanted) || skipped "apt-get does not know $packages: sudo apt-get update"
fi
# shellcheck disable=SC2086 # packages are words
names=$( (printf '%s\n' $packages; echo "$plan" | sed -n 's/^Inst \([^ ]*\).*/\1/p') | sort -u)
echo "setup: fetching Slurm (4 MB, unpacked only)" >&2
mkdir -p "$cache"
fresh=$(mktemp -d "$cache/fresh-slurm.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
mkdir "$fresh/packages"
# root fetches as itself: the user `_apt` need not be able to enter this folder.
# shellcheck disable=SC2086 # names are words
(cd "$fresh/packages" && apt-get -qq -o APT::Sandbox::User=root download $names >&2) ||
    skipped "they could not be fetched: check the network and \`apt-get download\`"
for package in "$fresh"/packages/*.deb; do
    dpkg -x "$package" "$fresh"
done
rm -r "$fresh/packages"
version=$(LC_ALL=C apt-cache policy slurmctld | sed -n 's/^ *Candidate: //p' | tr -c 'A-Za-z0-9.+\n' -)
libraries=$(find "$fresh" -name '*.so*' -exec dirname {} + | sort -u | paste -sd :)
for program in slurmctld slurmd sbatch; do
    file=$(find "$fresh/usr" -type f \( -name "$program" -o -name "$program-wlm" \) | head -1)
    missing=$(LD_LIBRARY_PATH=$libraries ldd "${file:-$fresh/no-such-program}" 2>&1 | grep -E 'not found|No such file' || true)
    [ -z "$missing" ] || skipped "$program of the packages does not start here:" "$missing"
done
touch "$fresh/.complete"
chmod 755 "$fresh"
# Another clone may have been faster: both hold the same.
mv -T "$fresh" "$cache/slurm-$version" 2>/dev/null || true
