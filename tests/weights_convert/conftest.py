"""Which frameworks there are: the tests of one that is not installed are left out, and the summary says so."""

import importlib.util
import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the frameworks on the CPU
os.environ["KERAS_BACKEND"] = "torch"

NEEDS = {
    "test_torch.py": ("torch", "torchvision"),
    "test_keras.py": ("keras", "h5py", "torch"),
    "test_onnx.py": ("onnx", "onnxruntime"),
    "test_page.py": ("torch", "torchvision", "keras", "h5py", "onnx", "onnxruntime"),
}
MISSING = {
    file: missing
    for file, packages in NEEDS.items()
    if (missing := [package for package in packages if importlib.util.find_spec(package) is None])
}
collect_ignore = list(MISSING)


def pytest_terminal_summary(terminalreporter):
    for file, missing in MISSING.items():
        terminalreporter.write_line(f"SKIPPED {file}: not installed: {', '.join(missing)}")
