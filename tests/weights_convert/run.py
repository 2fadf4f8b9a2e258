"""Runs the tests of conversion whose framework is installed, and says SKIPPED for the others.

    SEGMENT=build/segment .venv/bin/python tests/weights_convert/run.py [-v]
"""

import importlib.util
import logging
import os
import sys
import unittest
import warnings
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the frameworks on the CPU
sys.path.insert(0, str(Path(__file__).parent))

NEEDS = {
    "test_torch": ("torch", "torchvision"),
    "test_keras": ("keras", "h5py", "torch"),
    "test_onnx": ("onnx", "onnxruntime"),
    "test_page": ("torch", "torchvision", "keras", "h5py", "onnx", "onnxruntime"),
}


def main():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # Keras calls .h5 a legacy format at each save
    suite = unittest.TestSuite()
    for module, packages in NEEDS.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            print(f"SKIPPED {module}: not installed: {', '.join(missing)}")
        else:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromName(module))
    done = unittest.TextTestRunner(verbosity=2 if "-v" in sys.argv else 1).run(suite)
    for test, why in done.skipped:
        print(f"{test.id()}: {why}")
    sys.exit(not done.wasSuccessful())


if __name__ == "__main__":
    main()
