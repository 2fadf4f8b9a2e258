#!/usr/bin/env bash
# Everything that wants a GPU, from the folder that tests/gpu/bundle.sh made:
#
#     run.sh tests | sanitizer | bench | all        logs in $OUT, else ./out
#
# Each part has a limit of time; the last lines say what passed.
set -uo pipefail
cd "$(dirname "$0")"
OUT=${OUT:-$PWD/out}
mkdir -p "$OUT"
summary=()

part() { # name, seconds, command...
    local name=$1 limit=$2 began=$SECONDS status
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$OUT/$name.log" 2>&1
    status=$?
    tail -n 25 "$OUT/$name.log"
    summary+=("$(printf '%-22s %-7s %4d s' "$name" "$([ $status -eq 0 ] && echo ok || echo "FAILED $status")" $((SECONDS - began)))")
}

tests() {
    PATCHMASK_REQUIRE_CUDA=1 part tests 420 ./gpu_tests --test-threads 1 --nocapture
    part demo 60 build/segment --device cuda --quiet --model examples/demo/model.safetensors --stride 2 --fill linear \
        --truth examples/demo/truth.nrrd --report "$OUT/demo.json" examples/demo/ct.nrrd "$OUT/demo_mask.nrrd"
    tail -n 12 "$OUT/demo.json" 2>/dev/null
}

# Few patches are enough: every kernel runs in the known-answer test of each start, and again for the slice.
sanitizer() {
    command -v compute-sanitizer >/dev/null || { echo "SKIPPED: compute-sanitizer is not here"; return; }
    for tool in memcheck racecheck synccheck initcheck; do
        part "sanitizer_$tool" 300 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            build/segment --device cuda --quiet --model examples/demo/model.safetensors --stride 60 \
            examples/demo/ct.nrrd "$OUT/sanitizer_mask.nrrd"
    done
}

bench() {
    part bench 580 env PYTHONUNBUFFERED=1 python3 benches/gpu.py --json "$OUT/gpu.json" \
        $(command -v ncu >/dev/null && echo --ncu ncu)
}

case "${1:-all}" in
    tests | sanitizer | bench) "$1" ;;
    all) tests; sanitizer; bench ;;
    *) echo "run.sh tests | sanitizer | bench | all" >&2; exit 2 ;;
esac
printf '%s\n' "${summary[@]:-nothing ran}"
[[ " ${summary[*]:-} " != *FAILED* ]]
