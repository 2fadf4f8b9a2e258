#!/usr/bin/env bash
# Gathers in build/gpu all that a machine with a GPU needs, which needs neither Rust nor a network then:
#
#     tests/gpu/bundle.sh          here
#     build/gpu/run.sh all         there
set -euo pipefail
cd "$(dirname "$0")/../.."
make -s all
rm -rf build/gpu
mkdir -p build/gpu/build build/gpu/benches build/gpu/tests/golden build/gpu/examples/demo
# cargo names the test program last.
program=$(cargo test --release --test gpu --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\/gpu-[^"]*\)".*/\1/p' | tail -n 1)
cp "$program" build/gpu/gpu_tests
cp -a build/segment build/libpatchmask.so* build/gpu/build/
cp benches/gpu.py build/gpu/benches/
cp tests/golden/raw_nrrd.py build/gpu/tests/golden/
cp examples/demo/{ct.nrrd,truth.nrrd,model.safetensors} build/gpu/examples/demo/
cp tests/gpu/run.sh build/gpu/
du -sh build/gpu
