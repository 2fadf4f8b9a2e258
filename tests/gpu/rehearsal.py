"""run.sh on the fake driver, as a Hopper: it passes where everything is right, and FAILS, naming the kernel and the reason, where
one is wrong, traps, never ends or cannot be loaded. Builds what it runs: tests/gpu/bundle.sh.

    FAKE_DRIVER=build/tests/fake_driver python3 tests/gpu/rehearsal.py
"""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVER = Path(os.environ.get("FAKE_DRIVER", ROOT / "build" / "tests" / "fake_driver")).resolve()
FRAMEWORKS = ROOT / "build" / "venv-frameworks" / "bin" / "python"  # numpy and PyTorch, where make test-hosts has been


def run(*what, spoil=""):
    """(exit status, summary.txt) of run.sh."""
    with tempfile.TemporaryDirectory() as out:
        settings = ["sm=90", "optin=232448", *([f"spoil={spoil}"] if spoil else [])]
        python = str(FRAMEWORKS) if FRAMEWORKS.exists() else "python3"
        environment = dict(os.environ, OUT=out, PYTHON=python, PATCHMASK_GPU_SMALL="1", LD_LIBRARY_PATH=str(DRIVER))
        environment["PATCHMASK_FAKE_DRIVER"] = ",".join(settings)
        done = subprocess.run([ROOT / "build" / "gpu" / "run.sh", *what], env=environment, capture_output=True, check=False)
        files = {path.name: path.stat().st_size for path in Path(out).iterdir()}
        assert len(files) <= 8 and max(files.values()) < 16 << 20 and "log.txt.gz" in files, files
        return done.returncode, (Path(out) / "summary.txt").read_text()


class Rehearsal(unittest.TestCase):
    def test_everything_right(self):
        status, summary = run("first", "second")
        print(summary)
        self.assertEqual(status, 0)
        for part in ("every kernel", "convolutions", "agreement with the CPU", "scan", "same bits", "memory and cancel"):
            self.assertRegex(summary, f"(?m)^{part}.* ok ")
        self.assertNotIn("FAILED", summary)

    def test_profile(self):
        """What the profiler looks at: ncu itself needs a GPU."""
        environment = dict(os.environ, LD_LIBRARY_PATH=str(DRIVER))
        subprocess.run([ROOT / "build" / "gpu" / "gpu_scan", "33/16", "--profile", "--small"], env=environment, check=True)

    def fails(self, fault, reason):
        kernel = "conv3_wgmma_128"
        status, summary = run("every_kernel", spoil=f"{kernel}:{fault}")
        print(summary)
        self.assertEqual(status, 1)
        self.assertRegex(summary, "(?m)^every kernel +FAILED")
        self.assertRegex(summary, f"{kernel}.*{reason}")
        self.assertRegex(summary, f"PATCHMASK_WITHOUT={kernel}")
        self.assertRegex(summary, "(?m)^every kernel, without these +ok")
        self.assertRegex(summary, "(?m)^failures +1")

    def test_wrong(self):
        self.fails(1, "left out: gave a wrong result")

    def test_traps(self):
        self.fails(2, r"failed in the self-test: .*CUDA_ERROR_LAUNCH_FAILED \(719\)")

    def test_hangs(self):
        self.fails(3, "does not end")

    def test_unloadable(self):
        self.fails(4, "left out: loading .*is not to be compiled")


if __name__ == "__main__":
    subprocess.run([ROOT / "tests" / "gpu" / "bundle.sh"], check=True, stdout=subprocess.DEVNULL)
    unittest.main(verbosity=2)
