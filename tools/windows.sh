#!/usr/bin/env bash
# windows.sh OUT: patchmask.dll, its import library and segment.exe for 64-bit Windows in the folder OUT, by Debian's mingw-w64.
set -eu
cd "$(dirname "$0")/.."
out=$1
gnu=x86_64-w64-mingw32
rust=x86_64-pc-windows-gnu
tools/need.sh $gnu-gcc gcc-mingw-w64-x86-64
[ -d "$(rustc --print sysroot)/lib/rustlib/$rust" ] || rustup --quiet target add $rust || {
    echo "missing: Rust's standard library for $rust. Install it with: rustup target add $rust"
    exit 1
}
cargo build --release --lib --features reserve --target $rust --target-dir target
mkdir -p "$out"
cp target/$rust/release/{patchmask.dll,libpatchmask.dll.a} "$out"
$gnu-windres cli/segment.rc "$out/segment.res.o"
$gnu-gcc -std=c11 -O2 -Wall -Wextra -pedantic -Werror -D__USE_MINGW_ANSI_STDIO=1 -D_FILE_OFFSET_BITS=64 -Iinclude \
    cli/*.c "$out/segment.res.o" -o "$out/segment.exe" -L"$out" -lpatchmask -Wl,-Bstatic -lpthread
