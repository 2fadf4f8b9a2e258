#!/usr/bin/env bash
# run.sh [TARGET...]: builds the fuzz targets, on the stable toolchain too, and runs each for some time. What they find
# gathers in build/fuzz/TARGET; an input that fails lies beside it, and is tried again as the argument of the program.
#   FUZZ_SECONDS   for each target, 30              FUZZ_RUNS   a number of inputs instead
#   SANITIZER      address, or none: ten times as fast
set -euo pipefail
cd "$(dirname "$0")/.."
export SANITIZER=${SANITIZER:-address}
[ $# -gt 0 ] || set -- load segment estimate nrrd
export LIMIT=-max_total_time=${FUZZ_SECONDS:-30}
[ -z "${FUZZ_RUNS:-}" ] || LIMIT=-runs=$FUZZ_RUNS
# Library threads are many and short-lived: no shadow of their stacks, and little freed memory kept back.
export ASAN_OPTIONS=detect_stack_use_after_return=0:quarantine_size_mb=16
mkdir -p build/fuzz

# Prints why it cannot be, with exit status 3.
build() {
    local sanitizers=fuzzer
    if [ "$1" != nrrd ]; then
        tools/sanitized.sh "$SANITIZER" build --quiet --manifest-path fuzz/Cargo.toml --bin "$1" &&
            ln -sfn "../../target/$SANITIZER/out/$1" "build/fuzz/$1.program"
        return
    fi
    tools/need.sh clang clang libclang-rt-dev || return 3
    [ "$SANITIZER" = none ] || sanitizers+=,address,undefined
    clang -std=c11 -O2 -g -Wall -Wextra -pedantic -Werror -Iinclude -Icli -fsanitize="$sanitizers" \
        -fno-sanitize-recover=all fuzz/fuzz_targets/nrrd.c cli/{nrrd,nrrd_header,grid,problem,interrupt}.c -lm \
        -o build/fuzz/nrrd.program
}

# One line of result, or the end of the log and failure.
fuzz() {
    local target=$1 folder=build/fuzz/$1 log=build/fuzz/$1.log dictionary=()
    mkdir -p "$folder"
    [ ! -e "fuzz/$target.dict" ] || dictionary=("-dict=fuzz/$target.dict")
    if ! "$folder.program" -close_fd_mask=3 "$LIMIT" "${dictionary[@]}" -max_len=9000 -timeout=60 -rss_limit_mb=4096 \
        -artifact_prefix="$folder-" "$folder" "fuzz/corpus/$target" >"$log" 2>&1; then
        grep -v '^    #' "$log" | tail -n 60
        echo "FAILED fuzzing of $target"
        return 1
    fi
    local edges
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2)
    echo "ok fuzzing of $target: $(sed -n 's/^Done \(.*\) runs in \(.*\) second.*/\1 inputs in \2 s/p' "$log"), $edges edges"
}
export -f fuzz

built=()
for target in "$@"; do
    status=0
    why=$(build "$target") || status=$?
    case $status in
        0) built+=("$target") ;;
        3) echo "SKIPPED fuzzing of $target: $why" ;;
        *) exit "$status" ;;
    esac
done
[ ${#built[@]} = 0 ] || printf '%s\n' "${built[@]}" | xargs -P 2 -I{} bash -c 'fuzz {}'
