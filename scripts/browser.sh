#!/bin/sh
# Makes sure that Chromium and its driver are there, in which the tests rate pictures as a person does.
# Without them these tests are skipped, each with a line that says so. Prints nothing when they are there.
set -eu
. "$(dirname "$0")/packages.sh"

found() {
    command -v chromedriver >/dev/null 2>&1 || return 1
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    return 1
}
found && exit 0
install_deb chromium
install_deb chromium-driver
found && exit 0
how=$(how_to_install "chromium chromium-driver" "chromium chromedriver" "chromium chromedriver")
echo "setup: without Chromium the tests of the rating page are skipped: $how" >&2
