#!/usr/bin/env bash
# need.sh COMMAND|FILE PACKAGE...: makes sure that COMMAND (or a file) is there, from Debian's packages.
# Installs only where that needs no question (root, or sudo without a password); otherwise prints the
# missing line. Exit status 0: it is there; 1: it is not.
set -u
wanted=$1
shift
there() { command -v "$wanted" >/dev/null 2>&1 || [ -e "$wanted" ]; }
there && exit 0
install="apt-get install -y --no-install-recommends $*"
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as_root=
    elif sudo -n true 2>/dev/null; then as_root="sudo -n"
    else as_root=none; fi
    if [ "$as_root" != none ]; then
        $as_root apt-get update -qq >/dev/null 2>&1
        DEBIAN_FRONTEND=noninteractive $as_root $install -qq >/dev/null 2>&1
        there && exit 0
    fi
fi
echo "missing: $wanted. Install it with: sudo $install"
exit 1
