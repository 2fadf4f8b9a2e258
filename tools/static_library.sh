#!/usr/bin/env bash
# static_library.sh ARCHIVE OUT: cargo's static library as one object of which only the functions of the header are seen, and
# those only by what it is linked into. In cargo's own the parts of Rust's standard library, the allocator and
# __cxa_thread_atexit_impl are global: another Rust library or program would use ours, or not be linked.
set -eu
exports=$(dirname "$0")/../tests/c/exports.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# An undefined symbol that is hidden makes the definition so.
{ sed 's/.*/.hidden &/' "$exports" && echo '.section .note.GNU-stack,"",%progbits'; } |
    ${CC:-cc} -c -x assembler - -o "$work/hidden.o"
# Groups are undone: a program's own of the same name would displace them.
# shellcheck disable=SC2046
${LD:-ld} -r --gc-sections --force-group-allocation $(sed 's/^/-u /' "$exports") "$work/hidden.o" "$1" -o "$work/patchmask.o"
# References of what was left out would stay, and no longer be weak.
readelf -sW "$work/patchmask.o" | awk '$7 == "UND" && NF == 8 { print $8 }' >"$work/undefined"
${OBJCOPY:-objcopy} --keep-global-symbols="$exports" --strip-unneeded-symbols="$work/undefined" \
    --remove-section=.llvmbc --remove-section=.llvmcmd "$work/patchmask.o"
${AR:-ar} rcs "$work/new.a" "$work/patchmask.o"
mv "$work/new.a" "$2"
