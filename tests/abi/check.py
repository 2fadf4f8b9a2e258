"""The binary interface that programs are compiled against, compared by libabigail with the committed dump.

    python tests/abi/check.py            compares, and sees that a lost field, function or parameter would be found
    python tests/abi/check.py --renew    writes the dump anew: an entry of CHANGELOG.md says what changed

The header is what is dumped, as functions that do nothing; that the library has the same layout and exports is for tests/c/layout.c
and `make test-exports`. Needs abidw and abidiff (Debian: abigail-tools) and libclang (tools/requirements.txt)."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import abi  # noqa: E402

DUMP = ROOT / "tests/abi/patchmask.abi"
# A change of the header -> what abidiff must name.
BREAKING = {
    "  uint32_t stride;\n": "stride",
    "  uint64_t height;\n": "height",
    "  double slope;\n": "slope",
    "void patchmask_session_free(struct patchmask_session *session);\n": "patchmask_session_free",
}


def run(*command, good=(0,)):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode not in good:
        sys.exit(f"{command[0]}: {done.stdout}{done.stderr}")
    return done


def dump(header, to):
    """The interface of `header` (text) in libabigail's format."""
    with tempfile.TemporaryDirectory() as folder:
        header_file, source, library = (Path(folder) / name for name in ("patchmask.h", "stubs.c", "libpatchmask.so"))
        header_file.write_text(header)
        lines = ['#include "patchmask.h"']
        for function in (c for c in abi.declarations(header_file) if c.kind == abi.CursorKind.FUNCTION_DECL):
            names = ", ".join(f"{a.type.spelling} a{number}" for number, a in enumerate(function.get_arguments()))
            void = function.result_type.kind == abi.TypeKind.VOID
            lines.append(f"{function.result_type.spelling} {function.spelling}({names or 'void'}) {{ {'' if void else 'return 0;'} }}")
        source.write_text("\n".join(lines) + "\n")
        run("cc", "-std=c11", "-g", "-w", "-shared", "-fPIC", "-Wl,-soname,libpatchmask.so", source, "-o", library)
        run("abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", library, "--out-file", to)


def differences(old, new):
    """What abidiff says; empty where nothing changed."""
    done = run("abidiff", "--no-show-locs", old, new, good=range(16))
    if done.returncode & 3:
        sys.exit(f"abidiff: {done.stderr}")
    return done.stdout if done.returncode else ""


def main():
    header = abi.HEADER.read_text()
    if "--renew" in sys.argv:
        dump(header, DUMP)
        return
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "new.abi"
        dump(header, new)
        found = differences(DUMP, new)
        if found:
            sys.exit(f"{found}\nthe interface differs from {DUMP.relative_to(ROOT)}: append only, say so in CHANGELOG.md, then "
                     "python tests/abi/check.py --renew")
        for line, name in BREAKING.items():
            assert line in header, f"the header has no line {line!r}"
            dump(header.replace(line, "", 1), new)
            assert name in differences(DUMP, new), f"abidiff did not see that {name} is gone"
    print(f"ok abi: as dumped; {len(BREAKING)} breaking changes are found")


if __name__ == "__main__":
    main()
