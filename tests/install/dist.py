"""What `make dist` leaves in build/dist: contents, programs built against them, and Debian 11's C library.

    python3 tests/install/dist.py      standard library only; lintian, apt-get and cmake where there are any"""

import re
import subprocess
import sys
import tarfile
import unittest
from pathlib import Path

import check
from check import ROOT, SHARED, SONAME, VERSION, run, tree

DIST = ROOT / "build/dist"
NAME = f"patchmask-{VERSION}-linux-x86_64"
SHARED_PACKAGE = SONAME.replace(".so.", "")
PACKAGES = [f"{name}_{VERSION}_amd64.deb" for name in (SHARED_PACKAGE, "libpatchmask-dev", "patchmask")]
WHEEL = f"patchmask-{VERSION}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
DEMO = ROOT / "examples/demo"


class Dist(check.Checks):
    def unpack(self):
        with tarfile.open(DIST / f"{NAME}.tar.gz") as archive:
            archive.extractall(self.folder, filter="data")
        return self.folder / NAME

    def test_files(self):
        self.assertEqual({path.name for path in DIST.iterdir()}, {f"{NAME}.tar.gz", WHEEL, "SHA256SUMS", *PACKAGES})
        subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=DIST, check=True)
        at = self.unpack()
        self.assertEqual(tree(at), check.installed())
        self.check_library(at / "lib")
        self.check_texts(at / "lib", [])
        for file in (at / "bin/segment", at / "lib" / SHARED):
            asked = {int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", run("readelf", "-V", file))}
            self.assertLessEqual(max(asked), 17, file)
            self.assertLess(file.stat().st_size, 4e6, file)

    def test_programs_of_the_tarball(self):
        at = self.unpack()
        self.check_pkg_config(at / "lib")
        self.check_cmake(at, at / "lib")

    def test_debian_packages(self):
        for name in PACKAGES:
            run("dpkg-deb", "-x", DIST / name, self.folder / "root")
        usr = self.folder / "root/usr"
        lib = "lib/x86_64-linux-gnu"
        doc = {name for name in tree(usr) if name.startswith("share/doc/")}
        self.assertEqual(tree(usr) - doc, {name for name in check.installed(lib) if not name.startswith("share/doc/")})
        self.check_pkg_config(usr / lib)
        self.needs("lintian")
        # DEBEMAIL says the address of who releases.
        tags = "--suppress-tags=bogus-mail-host,bogus-mail-host-in-debian-changelog"
        print(run("lintian", "--allow-root", "--fail-on=error", tags, *(DIST / name for name in PACKAGES)))

    def test_wheel(self):
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={self.folder}", DIST / WHEEL)
        library = (self.folder / "patchmask/libpatchmask.so").read_bytes()
        self.assertEqual(library, (self.unpack() / "lib" / SHARED).read_bytes())

    def test_debian_11(self):
        """Its loader and C library run the program, with the mask that this system's build gives."""
        self.needs("apt-get")
        (self.folder / "sources").write_text("deb http://deb.debian.org/debian bullseye main\n")
        (self.folder / "lists/partial").mkdir(parents=True)
        options = {"Dir::Etc::SourceList": "sources", "Dir::State::Lists": "lists", "Dir::Cache": "cache"}
        words = [f"-o{name}={self.folder}/{value}" for name, value in options.items()]
        words += ["-oDir::Etc::SourceParts=/dev/null", "-oDir::State::Status=/dev/null", "-oAPT::Sandbox::User=root"]
        for command in (["update"], ["download", "libc6"]):
            if subprocess.run(["apt-get", "-qq", *words, *command], cwd=self.folder, check=False).returncode != 0:
                self.skipTest("SKIPPED: Debian 11's libc6 cannot be had")
        (package,) = self.folder.glob("libc6_*.deb")
        run("dpkg-deb", "-x", package, self.folder / "debian")
        lib = self.folder / "debian/lib/x86_64-linux-gnu"
        old = [lib / "ld-linux-x86-64.so.2", "--library-path", lib, self.unpack() / "bin/segment"]
        masks = [self.folder / "old.nrrd", self.folder / "new.nrrd"]
        for program, mask in zip((old, [ROOT / "build/segment"]), masks, strict=True):
            run(*program, "--quiet", "--stride", "8", "--model", DEMO / "model.safetensors", DEMO / "ct.nrrd", mask)
        self.assertEqual(masks[0].read_bytes(), masks[1].read_bytes())
        self.assertGreater(masks[0].read_bytes().count(1), 1000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
