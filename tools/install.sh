#!/usr/bin/env bash
# install.sh install|uninstall: puts what is built into a prefix, or takes exactly that away again. `make install` and
# `make uninstall` call it with VERSION and SONAME; from the user come, each optional:
#   PREFIX      where it will be used, /usr/local        LIBDIR, INCLUDEDIR   folders in PREFIX: lib, include
#   DESTDIR     put before every path, for packaging      BUILD                where it was built: build
set -eu
cd "$(dirname "$0")/.."

fail() { echo "install: $1" >&2 && exit 1; }

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
    case $folder in *[[:space:]\|\&\\]*) fail "$1 $2: must have no spaces and none of | & \\" ;; esac
    echo "$folder"
}
lib=$(in_prefix LIBDIR "${LIBDIR:-lib}")
include=$(in_prefix INCLUDEDIR "${INCLUDEDIR:-include}")
doc=share/doc/patchmask
root=${DESTDIR:-}$prefix
build=${BUILD:-build}

static_libs=$(grep -v '^#' packaging/static_libraries.txt)

# fill TEMPLATE: the template with its @NAMES@ filled in.
fill() {
    IFS=. read -r major minor _ <<<"$VERSION"
    up() { echo "$1" | sed 's|[^/][^/]*|..|g'; } # the way back to the prefix
    sed -e "s|@VERSION@|$VERSION|g" -e "s|@MAJOR@|$major|g" -e "s|@MINOR@|$minor|g" -e "s|@SONAME@|$SONAME|g" \
        -e "s|@LIB@|$lib|g" -e "s|@PREFIX_FROM_PC@|$(up "$lib/pkgconfig")|g" -e "s|@STATIC_LIBS@|$(echo "$static_libs" | sed 's|^|-l|' | paste -sd ' ')|g" \
        -e "s|@INCLUDE@|$include|g" -e "s|@PREFIX_FROM_CMAKE@|$(up "$lib/cmake/patchmask")|g" \
        -e "s|@STATIC_LIBS_CMAKE@|$(echo "$static_libs" | paste -sd ';')|g" "$1"
}

# Every file and link: kind (a mode: file), source, path in the prefix.
everything() {
    cat <<END
755 $build/segment bin/segment
755 $build/libpatchmask.so.$VERSION $lib/libpatchmask.so.$VERSION
link libpatchmask.so.$VERSION $lib/$SONAME
link $SONAME $lib/libpatchmask.so
644 $build/libpatchmask.a $lib/libpatchmask.a
644 include/patchmask.h $include/patchmask.h
644 include/patchmask.hpp $include/patchmask.hpp
template packaging/patchmask.pc.in $lib/pkgconfig/patchmask.pc
template packaging/patchmaskConfig.cmake.in $lib/cmake/patchmask/patchmaskConfig.cmake
template packaging/patchmaskTargets.cmake.in $lib/cmake/patchmask/patchmaskTargets.cmake
template packaging/patchmaskConfigVersion.cmake.in $lib/cmake/patchmask/patchmaskConfigVersion.cmake
644 LICENSE-APACHE $doc/LICENSE-APACHE
644 LICENSE-MIT $doc/LICENSE-MIT
644 THIRD-PARTY-NOTICES.txt $doc/THIRD-PARTY-NOTICES.txt
END
}

put() {
    local kind=$1 source=$2 target=$root/$3
    [ "$kind" = link ] || [ -e "$source" ] || fail "$source is not there: run make first"
    install -d "$(dirname "$target")"
    case $kind in
        link) ln -sfn "$source" "$target" ;;
        template) fill "$source" | install -m 644 /dev/stdin "$target" ;;
        *) install -m "$kind" "$source" "$target" ;;
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
