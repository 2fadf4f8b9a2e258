#!/usr/bin/env bash
# library.sh TARGET OUT: builds the libraries and puts them, with the links of the shared one, into the folder OUT; cargo works
# in the folder TARGET. VERSION and SONAME are the Makefile's. A new file takes the place of the old one, which running
# programs keep. RUST_TARGET builds for another system, by cargo-zigbuild: x86_64-unknown-linux-gnu.2.17 is glibc 2.17.
set -eu
built=$1/release
build=(cargo build)
if [ -n "${RUST_TARGET:-}" ]; then
    built=$1/${RUST_TARGET%%.*}/release
    build=(cargo zigbuild --target "$RUST_TARGET")
fi
"${build[@]}" --manifest-path "$(dirname "$0")/../Cargo.toml" --release --lib --features reserve --target-dir "$1"
mkdir -p "$2"
shared=$2/libpatchmask.so.$VERSION
cmp -s "$built/libpatchmask.so" "$shared" || { cp "$built/libpatchmask.so" "$2/new.so" && mv "$2/new.so" "$shared"; }
ln -sf "libpatchmask.so.$VERSION" "$2/$SONAME"
ln -sf "$SONAME" "$2/libpatchmask.so"
[ "$2/libpatchmask.a" -nt "$built/libpatchmask.a" ] ||
    "$(dirname "$0")/static_library.sh" "$built/libpatchmask.a" "$2/libpatchmask.a"
