#!/usr/bin/env bash
# Builds here, and puts into build/gpu all that a machine with a GPU needs to check and measure: no Rust, no network.
#
#     tests/gpu/bundle.sh          then there: build/gpu/run.sh (tests/gpu/README.md)
set -euo pipefail
cd "$(dirname "$0")/../.."
bundle=build/gpu
max_bytes=$((40 << 20))

make all
# What cargo builds with these words, under the name $1.
built() {
    local name=$1
    shift
    cargo "$@" --no-run --message-format=json | python3 -c '
import json, sys
lines = map(json.loads, sys.stdin)
print(*(line["executable"] for line in lines if line.get("executable") and line["target"]["name"] == sys.argv[1]))' "$name"
}
tests=$(built gpu test --release --test gpu)
scan=$(built scan bench --bench scan)
layers=$(built layers bench --bench layers)

rm -rf "$bundle"
mkdir -p "$bundle"/{build,benches,tests/cli,tests/parity,examples/demo}
cp "$tests" "$bundle/gpu_tests"
cp "$scan" "$bundle/gpu_scan"
cp "$layers" "$bundle/cpu_layers"
cp -P build/segment build/libpatchmask.so* "$bundle/build/"
strip "$bundle"/{gpu_tests,gpu_scan,cpu_layers} "$bundle/build/segment" "$bundle"/build/libpatchmask.so
cp benches/{gpu,timeline,exact_plan,ncu,torch_vgg}.py "$bundle/benches/"
cp tests/cli/volume_files.py "$bundle/tests/cli/"
cp tests/parity/synthetic.py "$bundle/tests/parity/"
cp examples/demo/{ct.nrrd,truth.nrrd,model.safetensors} "$bundle/examples/demo/"
cp tests/gpu/run.sh "$bundle/"
{ git rev-parse HEAD; git status --short; } >"$bundle/revision.txt"

# What the programs ask of the other machine.
for file in "$bundle"/{gpu_tests,gpu_scan,cpu_layers} "$bundle/build/segment" "$bundle/build/libpatchmask.so"; do
    libraries=$(objdump -p "$file" | awk '$1 == "NEEDED" { print $2 }' | xargs)
    glibc=$(objdump -T "$file" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
    echo "$file: $glibc; $libraries"
    for library in $libraries; do
        case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-x86-64.so.2 | libpatchmask.so.*) ;;
        *) echo "$file needs $library: not on every machine" >&2 && exit 1 ;;
        esac
    done
done
bytes=$(du -sb "$bundle" | cut -f 1)
echo "$bundle: $((bytes >> 20)) MiB"
[ "$bytes" -le "$max_bytes" ] || { echo "more than $((max_bytes >> 20)) MiB" >&2 && exit 1; }
