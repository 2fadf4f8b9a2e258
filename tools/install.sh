#!/usr/bin/env bash
# install.sh install|uninstall: puts what is built into a prefix, or takes exactly that away again. `make install` and
# `make uninstall` call it with VERSION and SONAME; from the user come, each optional:
#   PREFIX      where it will be used, /usr/local        LIBDIR, INCLUDEDIR   folders in PREFIX: lib, include
#   DESTDIR     put before every path, for packaging
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "install: $1" >&2
    exit 1
}

prefix=${PREFIX:-/usr/local}
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
while [ "${prefix%/}" != "$prefix" ]; do prefix=${prefix%/}; done

# in_prefix NAME FOLDER: the folder relative to the prefix.
in_prefix() {
    local folder=${2%/}
    case $folder in
        "$prefix"/*) folder=${folder#"$prefix"/} ;;
        /*) fail "$1 $folder: must be in PREFIX $prefix" ;;
    esac
    case /$folder/ in */../* | */./* | *//*) fail "$1 $2: must be a plain path" ;; esac
    echo "$folder"
}
lib=$(in_prefix LIBDIR "${LIBDIR:-lib}")
include=$(in_prefix INCLUDEDIR "${INCLUDEDIR:-include}")
doc=share/doc/patchmask
root=${DESTDIR:-}$prefix

# up FOLDER: the way back to the prefix.
up() { echo "$1" | sed 's|[^/][^/]*|..|g'; }

# What Rust's standard library needs of the system: cargo rustc --lib -- --print native-static-libs
static_libs="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"

# fill TEMPLATE: the template with its @NAMES@ filled in.
fill() {
    sed -e "s|@VERSION@|$VERSION|g" -e "s|@SONAME@|$SONAME|g" -e "s|@LIB@|$lib|g" -e "s|@INCLUDE@|$include|g" \
        -e "s|@MAJOR@|$(echo "$VERSION" | cut -d. -f1)|g" -e "s|@MINOR@|$(echo "$VERSION" | cut -d. -f2)|g" \
        -e "s|@PREFIX_FROM_PC@|$(up "$lib/pkgconfig")|g" -e "s|@PREFIX_FROM_CMAKE@|$(up "$lib/cmake/patchmask")|g" \
        -e "s|@STATIC_LIBS@|$static_libs|g" -e "s|@STATIC_LIBS_CMAKE@|$(echo "${static_libs//-l/}" | tr ' ' ';')|g" "$1"
}

# Every file and link: kind, source, path in the prefix.
everything() {
    cat <<END
program build/libpatchmask.so.$VERSION $lib/libpatchmask.so.$VERSION
link libpatchmask.so.$VERSION $lib/$SONAME
link $SONAME $lib/libpatchmask.so
file target/release/libpatchmask.a $lib/libpatchmask.a
file include/patchmask.h $include/patchmask.h
file include/patchmask.hpp $include/patchmask.hpp
template packaging/patchmask.pc.in $lib/pkgconfig/patchmask.pc
template packaging/patchmaskConfig.cmake.in $lib/cmake/patchmask/patchmaskConfig.cmake
template packaging/patchmaskConfigVersion.cmake.in $lib/cmake/patchmask/patchmaskConfigVersion.cmake
file LICENSE-APACHE $doc/LICENSE-APACHE
file LICENSE-MIT $doc/LICENSE-MIT
file THIRD-PARTY-NOTICES.txt $doc/THIRD-PARTY-NOTICES.txt
END
}

case "$lib$include" in *[[:space:]\|\&\\]*) fail "LIBDIR and INCLUDEDIR must have no spaces and none of | & \\" ;; esac

put() {
    local kind=$1 source=$2 target=$root/$3
    if [ "$kind" != link ] && [ ! -e "$source" ]; then
        fail "$source is not there: run make first"
    fi
    install -d "$(dirname "$target")"
    case $kind in
        program) install -m 755 "$source" "$target" ;;
        file) install -m 644 "$source" "$target" ;;
        link) ln -sfn "$source" "$target" ;;
        template)
            fill "$source" >"$target.new"
            chmod 644 "$target.new"
            mv "$target.new" "$target"
            ;;
    esac
}

# Folders that are empty now go too, up to the prefix; in the system's own prefixes only those that are ours.
remove() {
    local folder
    rm -f "$root/$1"
    folder=$(dirname "$1")
    while [ "$folder" != . ]; do
        case $prefix:$folder in
            *:*/patchmask) ;;
            :* | /usr:* | /usr/local:*) break ;;
        esac
        rmdir "$root/$folder" 2>/dev/null || break
        folder=$(dirname "$folder")
    done
}

case ${1:-} in
    install) everything | while read -r kind source target; do put "$kind" "$source" "$target"; done ;;
    uninstall) everything | while read -r _ _ target; do remove "$target"; done ;;
    *) fail "usage: install.sh install|uninstall" ;;
esac

# The loader looks up libraries of the system's folders in a cache.
case ${DESTDIR:-}$prefix in
    "" | /usr | /usr/local) if [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi ;;
esac
echo "${1}ed patchmask $VERSION: $root"
