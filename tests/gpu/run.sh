#!/usr/bin/env bash
# Checks and measures on a machine with an NVIDIA GPU: run.sh [tests|sanitizer|bench|scan|profile|all]... (default all).
# It is part of what tests/gpu/bundle.sh makes. Full logs go to $OUT, else ./out; a short table comes last.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${OUT:-out}" && cd "${OUT:-out}" && pwd)
cd "$here"
python=${PYTHON:-python3}
size=257 stride=8 small=()   # what is profiled
small_slices=(257/16 65/4) # of 96 x 96 pixels
# To try this script on the fake driver.
[ "${PATCHMASK_GPU_SMALL:-}" != 1 ] || size=33 stride=16 small=(--small) small_slices=(33/16)
table=() failures=0
[ $# -gt 0 ] || set -- all

# part NAME SECONDS LOG COMMAND...: runs it with this limit, appends to the log, notes how it went.
part() {
    local name=$1 limit=$2 log=$out/$3 began=$SECONDS status outcome
    shift 3
    echo "== $name"
    echo "== $name: $*" >>"$log"
    local first=$(($(wc -l <"$log") + 1))
    timeout --kill-after=10 "$limit" "$@" 2>&1 | tee -a "$log"
    status=${PIPESTATUS[0]}
    case $status in
    0) outcome=ok && tail -n "+$first" "$log" | grep SKIPPED: >/dev/null && outcome="ok, with SKIPPED" ;;
    124 | 137) outcome="FAILED: more than $limit s" ;;
    *) outcome="FAILED: exit status $status" ;;
    esac
    note "$name" "$outcome" "$((SECONDS - began)) s"
}

note() {
    table+=("$(printf '%-28s %-28s %s' "$1" "$2" "${3:-}")")
    case $2 in FAILED*) failures=$((failures + 1)) ;; esac
}

have() {
    command -v "$1" >/dev/null || { note "$2" "SKIPPED: no $1" && false; }
}

tests() {
    part "gpu tests" 300 tests.log ./gpu_tests --nocapture --test-threads 1
    [ -n "$gpu" ] || { note "demo" "SKIPPED: no GPU" && return; }
    local work
    work=$(mktemp -d)
    for device in cuda cpu; do
        part "demo on $device" 60 tests.log build/segment --device $device --model examples/demo/model.safetensors \
            --truth examples/demo/truth.nrrd --stride 4 --fill linear examples/demo/ct.nrrd "$work/$device.nrrd"
    done
    if [ -s "$work/cuda.nrrd" ] && [ -s "$work/cpu.nrrd" ]; then
        note "demo, voxels that differ" "$(cmp -l "$work/cuda.nrrd" "$work/cpu.nrrd" | wc -l)"
    fi
    rm -rf "$work"
}

sanitizer() {
    have compute-sanitizer sanitizer || return
    for tool in "memcheck --leak-check full" racecheck synccheck initcheck; do
        # shellcheck disable=SC2086 # words
        part "${tool%% *}" 120 sanitizer.log compute-sanitizer --tool $tool --error-exitcode 9 \
            ./gpu_tests every_kernel without_sharing --nocapture --test-threads 1
    done
}

bench() {
    have "$python" bench || return
    PYTHONUNBUFFERED=1 part bench 480 bench.log "$python" benches/gpu.py "${small[@]}" --json "$out/bench.json"
}

# Whole scans from host memory to host memory, with energy and the way of each slice; on all GPUs too, if there are more.
scan() {
    local numbers
    numbers=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd,)
    part "scan" 240 scan.log ./gpu_scan "${small[@]}" --trace "$out/trace"
    part "scan, ROI" 45 scan.log ./gpu_scan "$size/$stride" --roi "${small[@]}"
    for how in "" --in-turn; do
        # shellcheck disable=SC2086 # a word or none
        part "scan, small slices $how" 45 scan.log ./gpu_scan "${small_slices[@]}" --side 96 $how "${small[@]}"
    done
    case $numbers in *,*) part "scan, all GPUs" 150 scan.log ./gpu_scan "${small[@]}" --gpus "$numbers" ;; esac
    ! have "$python" "scan, picture" || [ ! -e "$out/trace/257-8.json" ] ||
        part "scan, picture" 30 scan.log "$python" benches/timeline.py "$out/trace/257-8.json" "$out/timeline.png"
    [ ! -s "$out/bench.json" ] || part "prediction" 30 scan.log "$python" benches/model.py --measured "$out/bench.json"
}

# What bounds each kernel of a slice.
profile() {
    have ncu profile || return
    local work
    work=$(mktemp -d)
    part "profile, files" 60 profile.log "$python" benches/gpu.py "$size/$stride" "${small[@]}" --make "$work"
    if [ -s "$work/model.safetensors" ]; then
        part "profile" 240 profile.log ncu --set full --clock-control none --cache-control none \
            --force-overwrite --export "$out/profile" build/segment --device cuda --model "$work/model.safetensors" \
            --patch-size "$size" --stride "$stride" --quiet "$work/one.nrrd" "$work/mask.nrrd"
        ncu --import "$out/profile.ncu-rep" --page raw --csv >"$out/profile.csv" 2>>"$out/profile.log"
        part "profile, figures" 20 profile.log "$python" benches/ncu.py "$out/profile.csv"
    else
        note profile "SKIPPED: no files"
    fi
    rm -rf "$work"
}

# With a GPU nothing may be skipped for want of one.
if gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.used --format=csv,noheader 2>/dev/null); then
    export PATCHMASK_REQUIRE_CUDA=1
fi
echo "GPU: ${gpu:-none}"
for what in "$@"; do
    case $what in
    tests | sanitizer | bench | scan | profile) "$what" ;;
    all) tests; sanitizer; bench; scan; profile ;;
    *) echo "run.sh [tests|sanitizer|bench|scan|profile|all]..., not $what" >&2 && exit 2 ;;
    esac
done
{ cat revision.txt && printf '%s\n' "${table[@]}"; } | tee "$out/summary.txt"
[ "$failures" = 0 ]
