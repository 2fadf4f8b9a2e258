#!/usr/bin/env bash
# Lines of the files that git tracks: hand-written code (Rust, CUDA, C, C++, Python, shell) by folder, and the generated PTX.
#
#     tools/sizes.sh
set -euo pipefail
cd "$(dirname "$0")/.."
lines() { git ls-files -z -- "$@" | xargs -0 --no-run-if-empty cat | wc -l; }
extensions=(rs cu cuh h hpp c cc cxx py sh)
total=0
while read -r folder; do
    count=$(lines "${extensions[@]/#/$folder/*.}")
    [ "$count" = 0 ] || printf '%-12s %6d\n' "$folder" "$count"
    total=$((total + count))
done < <(git ls-files | grep / | cut -d/ -f1 | sort -u)
count=$(git ls-files | grep -v / | grep -E "\.($(IFS='|' && echo "${extensions[*]}"))$" | xargs cat | wc -l)
printf '%-12s %6d\n' . "$count" hand-written $((total + count)) PTX "$(lines '*.ptx')"
