#!/usr/bin/env bash
# Checks and measures on a machine with an NVIDIA GPU: run.sh [first|second|third|PART]... (default: first second).
# It is part of what tests/gpu/bundle.sh makes; tests/gpu/README.md says what each part is for. Into $OUT, else ./out:
# summary.txt, a line after every part; log.txt.gz; clocks.csv.gz; and what parts leave.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${OUT:-out}" && cd "${OUT:-out}" && pwd)
cd "$here"
python=${PYTHON:-python3}
row=257/8 more_rows=(257/7 65/4) small_rows=(257/16 65/4) small=()
# To try this script on the fake driver.
[ "${PATCHMASK_GPU_SMALL:-}" != 1 ] || row=33/16 more_rows=(32/16 33/16/image) small_rows=(33/16) small=(--small)
max_file_bytes=$((15 << 20))
work=$(mktemp -d)
failures=0
# Without a cache, or with one that is too small, the driver would compile the kernels anew in every process.
export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-${TMPDIR:-/tmp}/patchmask-cuda-cache} CUDA_CACHE_MAXSIZE=$((1 << 30))
export PYTHONUNBUFFERED=1

say() { printf '%-32s %-40s %s\n' "$1" "$2" "${3:-}" | tee -a "$out/summary.txt"; }

# keep FILE NAME: compresses a file into $OUT; one that is still too large stays here.
keep() {
    [ -s "$1" ] || return 0
    gzip -c "$1" >"$work/kept"
    if [ "$(stat -c %s "$work/kept")" -le $max_file_bytes ]; then mv "$work/kept" "$out/$2"; else say "$2" "too large: left out"; fi
}

# part NAME SECONDS COMMAND...: runs it within this limit, and notes at once how it went. Its log: $log.
part() {
    local name=$1 limit=$2 began=$SECONDS status outcome
    shift 2
    # The fake driver is slow.
    [ ${#small[@]} = 0 ] || limit=$((limit * 5))
    log=$work/part.log
    echo "== $name: $*" | tee -a "$work/log.txt"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    cat "$log" >>"$work/log.txt"
    case $status in
    0) outcome=ok && ! grep -q SKIPPED "$log" || outcome="ok, with SKIPPED" ;;
    124 | 137) outcome="FAILED: more than $limit s" ;;
    *) outcome="FAILED: exit status $status" ;;
    esac
    case $outcome in FAILED*) failures=$((failures + 1)) ;; esac
    say "$name" "$outcome" "$((SECONDS - began)) of $limit s"
    keep "$work/log.txt" log.txt.gz
    [ "$status" = 0 ]
}

have() { command -v "$1" >/dev/null || { say "$2" "SKIPPED: no $1" && false; }; }

tests() {
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" ./gpu_tests "$@" --nocapture --test-threads 1
}

# ---------------------------------------------------------------------------------------------- first: 410 s

# A kernel that the library leaves out, or that does not end, is a failure; the rest goes on without it.
every_kernel() {
    tests "every kernel" 40 every_kernel traps:: && return
    grep -E 'left out|start again' "$log" | sort -u | sed 's/^/    /' | tee -a "$out/summary.txt"
    local wrong
    wrong=$(grep -oE 'the kernel [a-z0-9_]+ is left out|PATCHMASK_WITHOUT=[a-z0-9_]+' "$log" |
        sed -E 's/the kernel ([a-z0-9_]+) .*/\1/; s/.*=//' | sort -u | paste -sd,)
    [ -n "$wrong" ] || return
    export PATCHMASK_WITHOUT=$wrong
    say "from here on" "PATCHMASK_WITHOUT=$wrong"
    tests "every kernel, without these" 30 every_kernel
}
convolutions() { tests convolutions 60 convolutions::; }
agreement() { tests "agreement with the CPU" 70 widths:: parity:: random:: overflow::; }
scan() { part "scan $row" 30 ./gpu_scan "$row" "${small[@]}"; }
bench() {
    if "$python" -c 'import numpy, torch' 2>/dev/null || [ -n "$gpu" ]; then
        part "bench $row" 80 "$python" benches/gpu.py "$row" "${small[@]}" --json "$out/bench.json"
    else
        say bench "SKIPPED: no numpy and PyTorch"
    fi
}
repeatability() { tests "same bits" 40 repeatability:: sharing::; }
memory() { tests "memory and cancel" 40 memory:: cancelling::; }
demo() {
    [ -n "$gpu" ] || { say demo "SKIPPED: no GPU" && return; }
    local device
    for device in cuda cpu; do
        part "demo on $device" 10 build/segment --device $device --model examples/demo/model.safetensors \
            --truth examples/demo/truth.nrrd --stride 4 --fill linear examples/demo/ct.nrrd "$work/$device.nrrd"
    done
    [ ! -s "$work/cuda.nrrd" ] || [ ! -s "$work/cpu.nrrd" ] ||
        say "demo, voxels that differ" "$(cmp -l "$work/cuda.nrrd" "$work/cpu.nrrd" | wc -l)"
}
first() { every_kernel; convolutions; agreement; scan; bench; repeatability; memory; demo; }

# --------------------------------------------------------------------------------------------- second: 180 s

# What bounds each kernel of one slice, without the self-test and the first slice.
profile() {
    have ncu profile && have "$python" profile || return
    local collect
    mapfile -t collect < <("$python" benches/ncu.py --collect)
    part "profile $row" 95 ncu --profile-from-start off --clock-control none --cache-control none "${collect[@]}" \
        --force-overwrite --export "$work/profile" ./gpu_scan "$row" --profile "${small[@]}" || return
    keep "$work/profile.ncu-rep" profile.ncu-rep.gz
    ncu --import "$work/profile.ncu-rep" --page raw --csv >"$work/profile.csv" 2>>"$work/log.txt"
    keep "$work/profile.csv" profile.csv.gz
    part "profile, figures" 15 "$python" benches/ncu.py "$work/profile.csv" "$row"
}
sanitize() { # NAME SECONDS TOOL...
    local name=$1 limit=$2
    shift 2
    have compute-sanitizer "$name" || return
    part "$name" "$limit" compute-sanitizer --report-api-errors no --error-exitcode 9 --tool "$@" \
        ./gpu_tests every_kernel --nocapture --test-threads 1
}
memcheck() { sanitize memcheck 70 memcheck; }
second() { profile; memcheck; }

# ---------------------------------------------------------------------------------------------- third: 420 s

scans() {
    part "scan, more" 90 ./gpu_scan "${more_rows[@]}" "${small[@]}" --trace "$work/trace"
    part "scan, ROI" 30 ./gpu_scan "$row" --roi "${small[@]}"
    part "scan, small slices" 20 ./gpu_scan "${small_rows[@]}" --side 96 "${small[@]}"
    part "scan, small slices in turn" 20 ./gpu_scan "${small_rows[@]}" --side 96 --in-turn "${small[@]}"
    local trace=$work/trace/${more_rows[0]//\//-}.json
    ! have "$python" "scan, picture" || [ ! -e "$trace" ] ||
        part "scan, picture" 20 "$python" benches/timeline.py "$trace" "$out/timeline.png"
}
# racecheck and synccheck give false alarms on bulk copies with mbarriers: wgmma's part only informs.
races() {
    PATCHMASK_WITHOUT=conv3_wgmma sanitize "racecheck without wgmma" 60 racecheck
    PATCHMASK_WITHOUT=conv3_wgmma sanitize "synccheck without wgmma" 60 synccheck
    sanitize initcheck 60 initcheck
    local before=$failures
    sanitize "racecheck with wgmma, informs" 60 racecheck
    failures=$before
}
third() { scans; races; }

# ------------------------------------------------------------------------------------------------ cpu: 265 s

cpu() {
    local threads limits=([16]=25 [8]=30 [4]=40 [2]=60 [1]=110)
    for threads in 16 8 4 2 1; do
        part "CPU engine, $threads threads" "${limits[threads]}" ./cpu_layers "$row" $threads
    done
}

# With a GPU nothing may be skipped for want of one.
if gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.used --format=csv,noheader 2>/dev/null); then
    export PATCHMASK_REQUIRE_CUDA=1
    nvidia-smi --format=csv,nounits --loop-ms=250 --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_throttle_reasons.active \
        >"$work/clocks.csv" 2>/dev/null &
    clocks=$!
fi
finish() {
    [ -z "${clocks:-}" ] || kill "$clocks" 2>/dev/null
    keep "$work/clocks.csv" clocks.csv.gz
    rm -rf "$work"
}
trap finish EXIT
[ $# -gt 0 ] || set -- first second
{ cat revision.txt && echo "GPU: ${gpu:-none}; $*"; } | tee -a "$out/summary.txt"
for what in "$@"; do
    case $what in
    first | second | third | every_kernel | convolutions | agreement | scan | bench | repeatability | memory | demo | \
        profile | memcheck | scans | races | cpu) "$what" ;;
    *) echo "run.sh [first|second|third|PART]..., not $what" >&2 && exit 2 ;;
    esac
done
say "failures" "$failures"
[ "$failures" = 0 ]
