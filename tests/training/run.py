"""Trains on tiny scans on the CPU: layouts, resuming, processes, ImageNet's weights, sweeps, wrong input.

    SEGMENT=build/segment .venv/bin/python tests/training/run.py [-v] [test_sweep ...]
"""

import os
import sys
import unittest
import warnings
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also of the processes that the tests start
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "training")]


def main():
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    modules = named or sorted(path.stem for path in HERE.glob("test_*.py"))
    suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
    warnings.simplefilter("ignore", ResourceWarning)
    done = unittest.TextTestRunner(verbosity=2 if "-v" in sys.argv else 1).run(suite)
    sys.exit(not done.wasSuccessful())


if __name__ == "__main__":
    main()
