#!/bin/sh
# Chromium and its driver, for the tests in a browser. Where it cannot install them it says what to install; those
# tests are then skipped.

is_there() {
    { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 &&
        command -v chromedriver >/dev/null 2>&1
}

explain() {
    echo "$1 Install Chromium and its driver (chromedriver on the PATH, of the same version) by hand:" >&2
    echo "  Debian: apt-get install chromium chromium-driver    Fedora: dnf install chromium chromedriver" >&2
    echo "  Alpine: apk add chromium chromium-chromedriver      Arch: pacman -S chromium" >&2
    echo "  macOS: brew install --cask chromium chromedriver    Ubuntu: Google Chrome, and the chromedriver beside it" >&2
    exit 0
}

is_there && exit 0
command -v apt-get >/dev/null 2>&1 || explain "There is no apt-get here."
grep -qx 'ID=ubuntu' /etc/os-release 2>/dev/null && explain "Ubuntu has Chromium only as a snap."
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    explain "Only root may install packages, and there is no sudo."
fi
echo "Installing chromium and chromium-driver (apt-get) …" >&2
$as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null
is_there || explain "apt-get could not install them."
