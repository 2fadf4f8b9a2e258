"""What `make windows` leaves, under Wine: exports; C tests; `segment`, whose outputs have the bits of Linux's and whose contract
is that of tests/cli.

    python3 tests/windows/run.py      needs WINE, a wine64; x86_64-w64-mingw32-gcc; build/windows and build/segment"""

import os
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build/windows"
WINE = os.environ.get("WINE", "/usr/lib/wine/wine64")
GNU = "x86_64-w64-mingw32-"
PROGRAM = BUILT / "segment"  # as Linux starts segment.exe
os.environ |= {"SEGMENT": str(PROGRAM), "WINEPREFIX": str(BUILT / "prefix"), "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8"}
os.environ |= {"WINEDLLOVERRIDES": "mscoree,mshtml="}  # neither asks to be downloaded
os.environ.pop("DISPLAY", None)

sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("cli", "install", "golden")]
import segment_cli  # noqa: E402
from check import run  # noqa: E402
from runs import runs  # noqa: E402

C_TESTS = "header layout struct_sizes arguments models outputs segmenting repeating".split()
# Of the contract, what needs nothing of Linux's.
CONTRACT = (
    "Results.test_grid_is_carried_on_letter_by_letter Results.test_logits_and_probability Results.test_roi_evaluates_only_inside "
    "Results.test_threshold Reports.test_schema Truth.test_measures Files.test_failure_keeps_what_was_there "
    "Files.test_only_the_outputs_appear Files.test_long_name SlicerModule.test_description"
).split()


def wine_server(action):
    nothing = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([Path(WINE).with_name("wineserver64"), action], timeout=60, check=False, **nothing)
    if action == "-p":
        subprocess.run([WINE, "wineboot", "--init"], timeout=120, check=True, **nothing)


def start():
    """Wine's services start now, without the pipes of the tests, which they would hold open, and stay until the end."""
    run(f"{GNU}gcc", "-shared", "tests/windows/bcryptprimitives.c", "-o", BUILT / "bcryptprimitives.dll", "-ladvapi32")
    PROGRAM.write_text(f'#!/bin/sh\nexec "{WINE}" "{BUILT}/segment.exe" "$@"\n')
    PROGRAM.chmod(0o755)
    Path(os.environ["WINEPREFIX"]).mkdir(exist_ok=True)
    wine_server("-p")


def wine(program, *words):
    done = subprocess.run([WINE, program, *words], cwd=ROOT, capture_output=True, timeout=120, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{program}: exit status {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode()


class Library(unittest.TestCase):
    def test_exports_and_imports(self):
        head = run(f"{GNU}objdump", "-p", BUILT / "patchmask.dll")
        names = re.findall(r"^\t\[ *\d+\](?: \+base\[ *\d+\] *[0-9a-f]+)? (\w+)$", head.partition("[Ordinal/Name Pointer]")[2], re.M)
        self.assertEqual(sorted(names), (ROOT / "tests/c/exports.txt").read_text().split())
        libraries = {name.lower() for name in re.findall(r"DLL Name: (\S+)", head)}
        system = "kernel32 ntdll msvcrt userenv ws2_32 bcryptprimitives api-ms-win-core-synch-l1-2-0".split()
        self.assertLessEqual(libraries, {f"{name}.dll" for name in system})

    def test_c(self):
        parts = ["tests/c/tiny_model.c", "tests/c/segmentation.c"]
        sources = {name: [f"tests/c/{name}.c", *parts] for name in C_TESTS} | {"minimal": ["examples/c/minimal.c"]}
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-D__USE_MINGW_ANSI_STDIO=1", "-Iinclude"]
        for name, files in sources.items():
            with self.subTest(name):
                program, began = BUILT / f"{name}.exe", time.monotonic()
                run(f"{GNU}gcc", *flags, *files, "-o", program, f"-L{BUILT}", "-lpatchmask")
                words = ["examples/demo/model.safetensors"] if name == "minimal" else []
                self.assertRegex(wine(program, *words), "ok |voxels are lesion")
                print(f"ok {name}, {time.monotonic() - began:.0f} s")


class Segment(segment_cli.SegmentCase):
    def outputs(self, program, name, words):
        names = [f"{name}-{output}.nrrd" for output in ("mask", "probability", "logits")]
        options = ["--quiet", "--device", "cpu", "--probability", names[1], "--logits", names[2], *words, names[0]]
        done = subprocess.run([program, *options], cwd=self.folder, capture_output=True, timeout=120, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return [Path(self.path(name)).read_bytes() for name in names]

    def test_bits(self):
        """The golden cases, and four slices of the demo, whose file has a name beyond Latin-1; a second run replaces the first's."""
        cases = runs(self.path("Lärm 測.nrrd"))
        for case, words in cases.items():
            with self.subTest(case):
                want = self.outputs(ROOT / "build/segment", "linux", words)
                self.assertTrue(self.outputs(PROGRAM, "windows", words) == want, "other bits than on Linux")
        self.assertGreater(len(cases), 5)

    def test_one_file_under_two_names(self):
        """Windows does not tell upper from lower case, nor / from \\."""
        for paths in (("input.nrrd", ".\\input.nrrd"), ("input.nrrd", f"Z:{self.folder}/input.nrrd")):
            self.refuse(2, paths=paths, says="is an input and an output")
        self.refuse(2, "--probability", ".\\MASK.nrrd", says="is the name of two outputs")


class Interrupt(segment_cli.Interrupts):
    def test_ctrl_c(self):
        """Wine makes Ctrl-C of a SIGINT."""
        process = subprocess.Popen(self.command(*segment_cli.Files.EVERYTHING), cwd=self.folder, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        self.wait_for_work(process)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        error = process.communicate(timeout=30)[1]
        self.assertLess(time.monotonic() - sent, 2)
        self.assertEqual((process.returncode, error), (1, b"segment: interrupted\r\n"))
        self.assertEqual(set(os.listdir(self.folder)), self.inputs)


def load_tests(loader, _tests, _pattern):
    own = [loader.loadTestsFromTestCase(case) for case in (Library, Segment)]
    return unittest.TestSuite([*own, Interrupt("test_ctrl_c"), loader.loadTestsFromNames(CONTRACT, segment_cli)])


if __name__ == "__main__":
    start()
    try:
        unittest.main(verbosity=2)
    finally:
        wine_server("-k")
