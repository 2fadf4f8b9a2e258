#!/usr/bin/env bash
# dist.sh OUT ZIG MACHINE: a release in the folder OUT, for glibc 2.17 and newer on a MACHINE as uname has it (x86_64, aarch64): a
# tarball, a wheel and packages for Debian. ZIG is a Python environment with packaging/requirements.txt; VERSION and SONAME are the
# Makefile's. Times in the files are the last commit's. DEBFULLNAME and DEBEMAIL are the maintainer of Debian's packages.
set -eu
cd "$(dirname "$0")/.."
out=$1
PATH=$PWD/$2/bin:$PATH
machine=$3
gnu=$machine-linux-gnu
case $machine in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) echo "$machine: must be x86_64 or aarch64" >&2 && exit 2 ;;
esac
work=target/dist/$machine
strip=strip
if [ "$machine" != "$(uname -m)" ]; then
    tools/need.sh "$gnu-gcc" "gcc-${gnu/_/-}"
    strip=$gnu-strip
    export CC=$gnu-gcc LD=$gnu-ld OBJCOPY=$gnu-objcopy AR=$gnu-ar # of tools/static_library.sh
fi
rust=$machine-unknown-linux-gnu
[ -d "$(rustc --print sysroot)/lib/rustlib/$rust" ] || rustup --quiet target add "$rust" || {
    echo "missing: Rust's standard library for $rust. Install it with: rustup target add $rust"
    exit 1
}
export RUST_TARGET=$rust.2.17
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

rm -rf "$work"
mkdir -p "$work" "$out"
tools/library.sh target/zig "$work" # not target: cargo would compile all anew after it
$strip --strip-unneeded "$work/libpatchmask.so.$VERSION"
# shellcheck disable=SC2046
python -m ziglang cc -target $gnu.2.17 -std=c11 -O2 -fPIE -pie -s -Wall -Wextra -Iinclude cli/*.c "$work/libpatchmask.a" \
    -o "$work/segment" $(sed -n 's/^[^#]/-l&/p' packaging/static_libraries.txt)

# install FOLDER PREFIX [LIBDIR]
install_to() { BUILD=$work DESTDIR=$1 PREFIX=$2 LIBDIR=${3:-} tools/install.sh install >/dev/null; }

name=patchmask-$VERSION-linux-$machine
install_to "$work/tree" "/$name"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work/tree" -c "$name" | gzip -n >"$out/$name.tar.gz"

tools/niivue.sh
PATCHMASK_LIBRARY=$PWD/$work/libpatchmask.so pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$out" ./python

# ------------------------------------------------------------------------------------------------------- Debian
lib=lib/$gnu
install_to "$work/deb" /usr $lib
shared=${SONAME/.so./} # libpatchmask0.1

# package NAME SECTION DEPENDS DESCRIPTION: with the files of NAME.files, paths below usr.
package() {
    local root=$work/$1
    mkdir -p "$root/DEBIAN" "$root/usr/share/doc/$1"
    (cd "$work/deb" && cp -a --parents "${files[@]}" "$OLDPWD/$root")
    cp packaging/debian/copyright THIRD-PARTY-NOTICES.txt "$root/usr/share/doc/$1/"
    printf 'patchmask (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- %s  %s\n' "$VERSION" "$VERSION" "$maintainer" \
        "$(date -uRd "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$root/usr/share/doc/$1/changelog.gz"
    cat >"$root/DEBIAN/control" <<END
Package: $1
Source: patchmask
Version: $VERSION
Architecture: $arch
Maintainer: $maintainer
Section: $2
Priority: optional
Depends: $3
Installed-Size: $(du -ks "$root/usr" | cut -f 1)
Description: lesion masks from CT volumes, $4
 Classifies every overlapping patch of every slice of a CT volume with a VGG16
 and reassembles the mask. The network comes from a model file of the user.
END
    (cd "$root" && find usr -type f -exec md5sum {} + | sort -k 2 >DEBIAN/md5sums)
    [ "$1" != "$shared" ] || {
        echo "libpatchmask ${SONAME#libpatchmask.so.} $shared (>= $VERSION)" >"$root/DEBIAN/shlibs"
        echo "activate-noawait ldconfig" >"$root/DEBIAN/triggers"
    }
    find "$root" -type d -exec chmod 755 {} +
    chmod 644 "$root"/DEBIAN/*
    [ "$1" != "$shared" ] || chmod 644 "$root/usr/$lib/libpatchmask.so.$VERSION" # Debian's habit
    dpkg-deb --root-owner-group --build "$root" "$out" >/dev/null
}
maintainer="${DEBFULLNAME:-The patchmask authors} <${DEBEMAIL:-patchmask@localhost}>"
files=("usr/$lib/$SONAME" "usr/$lib/libpatchmask.so.$VERSION")
package "$shared" libs "libc6 (>= 2.17)" "shared library"
files=(usr/include "usr/$lib/libpatchmask.so" "usr/$lib/libpatchmask.a" "usr/$lib/pkgconfig" "usr/$lib/cmake")
package libpatchmask-dev libdevel "$shared (= $VERSION), libc6-dev" "development files"
files=(usr/bin/segment)
package patchmask science "libc6 (>= 2.17)" "program"
(cd "$out" && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS)
ls -l "$out"
