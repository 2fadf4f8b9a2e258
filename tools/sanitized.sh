#!/usr/bin/env bash
# sanitized.sh KIND CARGO-ARGUMENT...: cargo --release with a sanitizer and with checks of arithmetic, on the stable toolchain too.
# What it builds lies in out in target/KIND, or in the folder that FOLDER names. Exit status 3, and why, where the toolchain has
# no such sanitizer.
#   address   AddressSanitizer, and libFuzzer's coverage        thread     ThreadSanitizer, in the standard library too
#   none      libFuzzer's coverage only                         coverage   lines, for llvm-cov
set -euo pipefail
kind=$1
shift
host=$(rustc -vV | sed -n 's/^host: //p')
fuzzer="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-pc-table
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters --cfg=fuzzing"

lacks() {
    echo "the Rust toolchain has no $1"
    exit 3
}

case $kind in
    address) flags="$fuzzer -Zsanitizer=address" runtime=asan ;;
    thread) flags=-Zsanitizer=thread runtime=tsan ;;
    none) flags=$fuzzer runtime= ;;
    coverage) flags=-Cinstrument-coverage runtime=profiler_builtins ;;
esac
ls "$(rustc --print target-libdir)"/*"$runtime"*.*a >/dev/null 2>&1 || lacks "runtime of $kind"
if [ "$kind" = thread ]; then
    source=$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock
    [ -e "$source" ] || rustup component add rust-src >/dev/null 2>&1 || true
    [ -e "$source" ] || lacks "rust-src, of which the standard library is rebuilt"
    set -- "$@" -Zbuild-std
fi
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
folder=${FOLDER:-target/$kind}
cargo "$1" --release --target "$host" --target-dir "$folder" "${@:2}"
ln -sfn "$host/release" "$folder/out"
