# Sourced by the other scripts: programs that the system's package manager has.

# install_deb PACKAGE: installs it where that needs no password.
install_deb() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || return 0
    echo "setup: installing $1 (apt-get install $1)" >&2
    { apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1"; } >&2 || return 0
}

# how_to_install DEB RPM BREW: how a person does it.
how_to_install() {
    if command -v apt-get >/dev/null 2>&1; then
        echo "sudo apt-get install $1"
    elif command -v dnf >/dev/null 2>&1; then
        echo "sudo dnf install $2"
    elif command -v brew >/dev/null 2>&1; then
        echo "brew install $3"
    else
        echo "install $1 with your system's package manager"
    fi
}
