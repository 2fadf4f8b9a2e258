"""What `make dist MACHINES=aarch64` leaves, under qemu: C tests against the library of the tarball; `segment`, whose outputs have
the bits of this machine's; the wheel, in Debian's Python.

    DIST=FOLDER python3 tests/aarch64/run.py      needs qemu-aarch64, aarch64-linux-gnu-gcc with a C library, and build/segment"""

import json
import os
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "install"), str(HERE.parent / "golden")]
import debian  # noqa: E402
import dist  # noqa: E402
from check import ROOT, SHARED, run  # noqa: E402
from runs import runs  # noqa: E402

MACHINE = "aarch64"
C_LIBRARY = "/usr/aarch64-linux-gnu"
# Those that emulation leaves quick enough; qemu fails where a child of a program with threads starts some of its own.
C_TESTS = "header layout struct_sizes arguments models hooks outputs segmenting small_stack process_state cancel".split()


def emulated(root, *command):
    return ["qemu-aarch64", "-L", root, *command]


class Aarch64(dist.Release):
    def test_files(self):
        self.check_tarball(MACHINE)
        self.check_debian_tree(MACHINE)

    def test_c(self):
        at = dist.unpack(MACHINE, self.folder)
        volume = self.folder / "volume.raw"
        volume.write_bytes(bytes(16 * 16 * 2))
        parts = ["tests/c/tiny_model.c", "tests/c/segmentation.c"]
        sources = {name: [f"tests/c/{name}.c", *parts] for name in C_TESTS} | {"minimal": ["examples/c/minimal.c"]}
        for name, files in sources.items():
            with self.subTest(name):
                program, began = self.folder / name, time.monotonic()
                library = [f"-I{at}/include", f"-L{at}/lib", "-lpatchmask", f"-Wl,-rpath,{at}/lib", "-lm", "-lpthread"]
                run("aarch64-linux-gnu-gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", *files, "-o", program, *library)
                words = ["examples/demo/model.safetensors", volume, "16", "16", "1"] if name == "minimal" else []
                slow = {"PATCHMASK_SLOW": "1"} if name in ("cancel", "process_state") else {}
                run(*emulated(C_LIBRARY, program, *words), **slow)
                print(f"ok {name}, {time.monotonic() - began:.0f} s")

    def segment(self, program, name, words):
        """The outputs of a run, as bytes, and its engine."""
        outputs = {output: self.folder / f"{name}-{output}.nrrd" for output in ("mask", "probability", "logits")}
        report = self.folder / f"{name}.json"
        options = ["--quiet", "--device", "cpu", "--report", report]
        for output in ("probability", "logits"):
            options += [f"--{output}", outputs[output]]
        run(*program, *options, *words, outputs["mask"])
        return {output: path.read_bytes() for output, path in outputs.items()}, json.loads(report.read_text())["engine"]

    def test_bits(self):
        """The golden cases, and four slices of the demo."""
        cases = runs(self.folder / "ct.nrrd")
        here = [ROOT / "build/segment"]
        there = emulated(C_LIBRARY, dist.unpack(MACHINE, self.folder) / "bin/segment")
        for name, words in cases.items():
            with self.subTest(name):
                (want, _), (have, engine) = self.segment(here, "here", words), self.segment(there, "there", words)
                self.assertRegex(engine, r"cpu \(aarch64")
                for output in want:
                    self.assertTrue(want[output] == have[output], f"{output} has other bits than on this machine")
        self.assertGreater(len(cases), 5)

    def test_wheel(self):
        """pip takes it for this platform, and Debian's Python imports it."""
        root = debian.unpacked(self.folder, "bookworm", "python3-minimal", "libpython3-stdlib", "libstdc++6", architecture="arm64")
        if root is None:
            self.skipTest("SKIPPED: Debian's Python for arm64 cannot be had")
        packages = self.folder / "packages"
        platforms = ["--platform", "manylinux2014_aarch64", "--platform", "manylinux_2_28_aarch64"]
        target = [f"--target={packages}", *platforms, "--python-version=3.11", "--only-binary=:all:"]
        run(sys.executable, "-m", "pip", "install", "--quiet", *target, dist.DIST / dist.wheel(MACHINE))
        library = (packages / "patchmask/libpatchmask.so").read_bytes()
        self.assertEqual(library, (dist.unpack(MACHINE, self.folder) / "lib" / SHARED).read_bytes())
        done = run(*emulated(root, root / "usr/bin/python3.11", HERE / "use_package.py"), PYTHONPATH=str(packages))
        self.assertRegex(done, r"cpu \(aarch64.*[1-9]\d* voxels")


if __name__ == "__main__":
    unittest.main(verbosity=2)
