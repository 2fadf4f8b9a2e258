"""What `make dist` leaves: contents, and for x86-64 programs built against them, and Debian 11's C library.

    python3 tests/install/dist.py      DIST: the folder, else build/dist; MACHINES: those that it is for, x86_64 among them;
                                       standard library only; lintian, apt-get and cmake where there are any"""

import os
import re
import subprocess
import sys
import tarfile
import unittest
from pathlib import Path

import check
import debian
from check import ROOT, SHARED, SONAME, VERSION, run, tree

DIST = ROOT / os.environ.get("DIST", "build/dist")
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
MACHINES = os.environ.get("MACHINES", " ".join(DEBIAN)).split()
SHARED_PACKAGE = SONAME.replace(".so.", "")
DEMO = ROOT / "examples/demo"


def packages(machine):
    return [f"{name}_{VERSION}_{DEBIAN[machine]}.deb" for name in (SHARED_PACKAGE, "libpatchmask-dev", "patchmask")]


def wheel(machine):
    return f"patchmask-{VERSION}-py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}.whl"


def unpack(machine, folder):
    """The tarball, in `folder`."""
    name = f"patchmask-{VERSION}-linux-{machine}"
    with tarfile.open(DIST / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


class Release(check.Checks):
    def check_tarball(self, machine):
        at = unpack(machine, self.folder)
        self.assertEqual(tree(at), check.installed())
        self.check_library(at / "lib")
        self.check_texts(at / "lib", [])
        for file in (at / "bin/segment", at / "lib" / SHARED):
            asked = {int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", run("readelf", "-V", file))}
            self.assertLessEqual(max(asked), 17, file)
            self.assertLess(file.stat().st_size, 4e6, file)
            self.assertIn(machine.replace("_", "-"), run("readelf", "-h", file).lower())

    def check_debian_tree(self, machine):
        """The files of its packages are those of an installation; the folder of its libraries."""
        root = self.folder / machine
        for name in packages(machine):
            run("dpkg-deb", "-x", DIST / name, root)
        usr, lib = root / "usr", f"lib/{machine}-linux-gnu"
        doc = {name for name in tree(usr) if name.startswith("share/doc/")}
        self.assertEqual(tree(usr) - doc, {name for name in check.installed(lib) if not name.startswith("share/doc/")})
        return usr / lib


class Dist(Release):
    def unpack(self):
        return unpack("x86_64", self.folder)

    def test_files(self):
        names = {"SHA256SUMS"}
        for machine in MACHINES:
            names |= {f"patchmask-{VERSION}-linux-{machine}.tar.gz", wheel(machine), *packages(machine)}
            with self.subTest(machine):
                self.check_tarball(machine)
        self.assertEqual({path.name for path in DIST.iterdir()}, names)
        subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=DIST, check=True)

    def test_programs_of_the_tarball(self):
        at = self.unpack()
        self.check_pkg_config(at / "lib")
        self.check_cmake(at, at / "lib")

    def test_debian_packages(self):
        libraries = {machine: self.check_debian_tree(machine) for machine in MACHINES}
        self.check_pkg_config(libraries["x86_64"])
        self.needs("lintian")
        # DEBEMAIL says the address of who releases.
        tags = "--suppress-tags=bogus-mail-host,bogus-mail-host-in-debian-changelog"
        files = [DIST / name for machine in MACHINES for name in packages(machine)]
        print(run("lintian", "--allow-root", "--fail-on=error", tags, *files))

    def test_wheel(self):
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={self.folder}", DIST / wheel("x86_64"))
        library = (self.folder / "patchmask/libpatchmask.so").read_bytes()
        self.assertEqual(library, (self.unpack() / "lib" / SHARED).read_bytes())

    def test_debian_11(self):
        """Its loader and C library run the program, with the mask that this system's build gives."""
        self.needs("apt-get")
        root = debian.unpacked(self.folder, "bullseye", "libc6")
        if root is None:
            self.skipTest("SKIPPED: Debian 11's libc6 cannot be had")
        lib = root / "lib/x86_64-linux-gnu"
        old = [lib / "ld-linux-x86-64.so.2", "--library-path", lib, self.unpack() / "bin/segment"]
        masks = [self.folder / "old.nrrd", self.folder / "new.nrrd"]
        for program, mask in zip((old, [ROOT / "build/segment"]), masks, strict=True):
            run(*program, "--quiet", "--stride", "8", "--model", DEMO / "model.safetensors", DEMO / "ct.nrrd", mask)
        self.assertEqual(masks[0].read_bytes(), masks[1].read_bytes())
        self.assertGreater(masks[0].read_bytes().count(1), 1000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
