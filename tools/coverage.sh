#!/usr/bin/env bash
# coverage.sh: which lines of src/weights and src/ffi run in the Rust tests, the C tests or the inputs of the fuzz targets, those
# in build/fuzz too. Prints the lines that do not, and fails where a folder has less than 90 % of them.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(rustc --print target-libdir)/../bin
[ -x "$tools/llvm-cov" ] || rustup component add llvm-tools || true
[ -x "$tools/llvm-cov" ] || { echo "SKIPPED coverage: the Rust toolchain has no llvm-tools" && exit 0; }
raw=$PWD/build/coverage out=target/coverage/out
export FOLDER=target/coverage/tests # other features of the crates than for the library and the fuzz targets
rm -rf "$raw"
mkdir -p "$raw"
export LLVM_PROFILE_FILE=$raw/%p-%m.profraw

C_TESTS="arguments cancel forking hooks models outputs process_state segmenting small_stack struct_sizes"
make -s $(printf 'build/tests/%s ' $C_TESTS)
tools/sanitized.sh coverage test --quiet --test weights
tools/sanitized.sh coverage test --quiet --lib -- ffi:: weights::
FOLDER=target/coverage tools/sanitized.sh coverage build --quiet --manifest-path fuzz/Cargo.toml -p patchmask -p patchmask-fuzz --lib --bins
ln -sf libpatchmask.so "$out/libpatchmask.so.0.1"
for test in $C_TESTS; do PATCHMASK_SLOW=1 LD_LIBRARY_PATH=$out "build/tests/$test"; done
for target in load segment estimate; do
    find "fuzz/corpus/$target" "build/fuzz/$target" -type f 2>/dev/null | xargs "$out/$target" >"$raw/$target.log" 2>&1
    echo "ok inputs of $target"
done

"$tools/llvm-profdata" merge "$raw"/*.profraw -o "$raw/all"
objects=$(find "$out"/{libpatchmask.so,load,segment,estimate} target/coverage/tests/out/deps/{patchmask,weights}-* -type f -executable)
# shellcheck disable=SC2046
"$tools/llvm-cov" export --format=lcov --instr-profile="$raw/all" $(printf -- '--object %s ' $objects) >"$raw/lines"
# Lines of unit tests, which end a file, do not count.
awk -F '[:,]' -v root="$PWD/" '
    /^SF:/ {
        file = substr($2, length(root) + 1)
        counts = file ~ /^src\/(weights|ffi)\//
        tests = 0
        for (line = 1; counts && (getline text < $2) > 0; line++) if (!tests && text ~ /^#\[cfg\(test\)\]/) tests = line
    }
    counts && /^DA:/ && (!tests || $2 < tests) {
        split(file, path, "/")
        all[path[2]]++
        if ($3 > 0) run[path[2]]++
        else print "   not run: " file ":" $2
    }
    END {
        for (folder in all) {
            printf "src/%s: %d of %d lines, %.1f %%\n", folder, run[folder], all[folder], 100 * run[folder] / all[folder]
            if (10 * run[folder] < 9 * all[folder]) low = 1
        }
        exit low
    }' "$raw/lines"
