"""The wheel's differences from a plain one: the shared library inside and, where tools/niivue.sh has fetched it, niivue;
the platform in its name.

The library is build/libpatchmask.so of this checkout (run `make` first), or what PATCHMASK_LIBRARY names. It needs
nothing but the C library and libgcc_s, so that the oldest glibc whose symbols it asks for, and its processor, say where the wheel runs
(PEP 600). The package is plain Python over ctypes: one wheel serves every Python 3.
"""

import os
import re
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MACHINES = {62: "x86_64", 183: "aarch64"}  # of the library's ELF header
NAMES = {"darwin": "libpatchmask.dylib", "win32": "patchmask.dll"}


def platform_tag(library):
    if not sys.platform.startswith("linux"):
        return re.sub(r"[.-]", "_", sysconfig.get_platform())
    data = library.read_bytes()
    machine = MACHINES.get(int.from_bytes(data[18:20], "little"))
    if data[:4] != b"\x7fELF" or machine is None:
        raise ValueError(f"{library}: must be a shared library of Linux for {' or '.join(MACHINES.values())}")
    asked = [int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?:\.\d+)?(?=\0)", data)]
    oldest = max(asked, default=17)
    older_name = f".manylinux2014_{machine}" if oldest <= 17 else ""
    return f"manylinux_2_{max(oldest, 17)}_{machine}{older_name}"


class LibraryInside(BuildHookInterface):
    def initialize(self, version, build_data):
        name = NAMES.get(sys.platform, "libpatchmask.so")
        top = Path(self.root).resolve().parent
        default = top / "build" / name
        library = Path(os.environ.get("PATCHMASK_LIBRARY") or default).resolve()
        if not library.is_file():
            raise FileNotFoundError(f"{library}: not there; run make at the top of the repository first")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(library)}"
        if version != "editable":  # which finds it in build/
            build_data["force_include"][str(library)] = f"patchmask/{name}"
        for file in (top / "build/niivue").glob("niivue.*"):
            build_data["force_include"][str(file)] = f"patchmask/pictures/{file.name}"
        for notice in ("LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY-NOTICES.txt"):
            build_data["force_include"][str(top / notice)] = f"patchmask/licenses/{notice}"
