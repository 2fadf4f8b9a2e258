#!/usr/bin/env bash
# sanitized.sh address|thread TEST...: C tests under a sanitizer, with a library that is built with it; undefined behaviour in the
# tests and the helpers of the C interface ends them too. In build/KIND; SKIPPED where the Rust toolchain lacks the sanitizer.
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=$1
shift
status=0
why=$(tools/sanitized.sh "$kind" build --quiet --manifest-path fuzz/Cargo.toml -p patchmask --lib) || status=$?
case $status in
    0) ;;
    3) echo "SKIPPED $kind sanitizer: $why" && exit 0 ;;
    *) exit "$status" ;;
esac
folder=build/$kind
mkdir -p "$folder"
ln -sf "../../target/$kind/out/libpatchmask.so" "$folder/libpatchmask.so.0.1"
# The compiler instruments; its own runtime is left out in favour of that of the library's compiler.
runtime=$(ls "$(rustc --print target-libdir)"/librustc*_rt."${kind:0:1}"san.a)
build() {
    ${CC:-cc} -std=c11 -O1 -g -Wall -Wextra -pedantic -Iinclude -fsanitize="$kind,undefined" -fno-sanitize-recover=all \
        "tests/c/$1.c" tests/c/tiny_model.c tests/c/segmentation.c -nodefaultlibs -Wl,--whole-archive "$runtime" \
        -Wl,--no-whole-archive -Wl,--export-dynamic "$folder/libpatchmask.so.0.1" -Wl,-rpath,'$ORIGIN' \
        -lm -lpthread -ldl -lrt -lstdc++ -lgcc_s -lc -lgcc -o "$folder/$(basename "$1")"
}
build sanitized/misuse
if "$folder/misuse" "$kind" >"$folder/misuse.log" 2>&1 || ! grep -q 'Sanitizer.*src/' "$folder/misuse.log"; then
    cat "$folder/misuse.log"
    echo "FAILED: the $kind sanitizer does not see the library's accesses"
    exit 1
fi
for test in "$@"; do
    build "$test"
    began=$SECONDS
    timeout -k 5 600 "$folder/$test" >"$folder/$test.log" 2>&1 || { cat "$folder/$test.log" && exit 1; }
    echo "ok $kind sanitizer $test, $((SECONDS - began)) s"
done
