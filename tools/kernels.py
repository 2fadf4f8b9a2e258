"""Compiles kernels/*.cu to the PTX that is committed, kernels/ptx/NAME.compute_80.ptx. Needs no GPU, driver or toolkit.

    pip install -r kernels/requirements.txt        the pinned compiler, best in a virtual environment
    python tools/kernels.py                        writes kernels/ptx and prints what each kernel costs
    python tools/kernels.py --check                compares with what is there instead, and writes nothing

`make kernels` and `make test-ptx` do both.

    for every source:  NVRTC -> PTX, without what depends on the machine
                       ptxas -v for every GPU generation: registers, shared memory, spills
    a kernel that spills or has a stack frame is an error: it would be slow
"""

import argparse
import ctypes
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
PTX = KERNELS / "ptx"
VIRTUAL = "compute_80"
GPUS = ["sm_80", "sm_86", "sm_89", "sm_90"]
# Nothing is fused that the source does not fuse: the intensities have the bits of src/intensity.rs.
OPTIONS = [f"--gpu-architecture={VIRTUAL}", "--std=c++17", "--fmad=false", f"--include-path={KERNELS}"]


def wheel(name):
    """The folder that an nvidia-* wheel unpacked."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / name
    if not folder.is_dir():
        sys.exit(f"{folder}: not there; pip install -r kernels/requirements.txt")
    return folder


class Nvrtc:
    """NVIDIA's run-time compiler, through ctypes."""

    def __init__(self):
        libraries = wheel("cuda_nvrtc") / "lib"
        for file in libraries.glob("libnvrtc-builtins.so*"):
            ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(next(libraries.glob("libnvrtc.so*"))))

    def compile(self, source):
        """PTX of a source file."""
        program = ctypes.c_void_p()
        created = self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None
        )
        if created != 0:
            sys.exit(f"{source}: nvrtcCreateProgram returned {created}")
        try:
            options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
            failed = self.library.nvrtcCompileProgram(program, len(OPTIONS), options)
            log = self._text(program, "ProgramLog")
            if failed or log.strip():
                sys.exit(f"{source}: {log}")
            return self._text(program, "PTX")
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.value.decode()


def without_machine(ptx):
    """Leaves out the comments at the head, which name the compiler's build."""
    return "\n".join(line for line in ptx.splitlines() if not line.startswith("//")).strip() + "\n"


USAGE = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)'.*?"
    r"(?P<frame>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


def assemble(ptx, gpu):
    """What ptxas says about each kernel of a PTX file."""
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [wheel("cuda_nvcc") / "bin" / "ptxas", "-v", f"--gpu-name={gpu}", file.name, "-o", "/dev/null"]
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stderr)
    found = [match.groupdict(default="0") for match in USAGE.finditer(result.stderr)]
    if len(found) != ptx.count(".entry "):
        sys.exit(f"ptxas -v is not understood:\n{result.stderr}")
    return sorted(found, key=lambda usage: usage["kernel"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    arguments = parser.parse_args()
    nvrtc = Nvrtc()
    problems = []
    if not arguments.check:
        PTX.mkdir(exist_ok=True)
    sources = sorted(KERNELS.glob("*.cu"))
    costs = [f"{'kernel':<14} {'GPU':<6} {'registers':>9} {'frame':>6} {'spilled':>8}"]
    for source in sources:
        ptx = without_machine(nvrtc.compile(source))
        committed = PTX / f"{source.stem}.{VIRTUAL}.ptx"
        if not arguments.check:
            committed.write_text(ptx)
        elif not committed.is_file() or committed.read_text() != ptx:
            problems.append(f"{committed.relative_to(ROOT)} is not what {source.name} compiles to")
        for gpu in GPUS:
            for usage in assemble(ptx, gpu):
                spilled = int(usage["stores"]) + int(usage["loads"])
                costs.append(
                    f"{usage['kernel']:<14} {gpu:<6} {usage['registers']:>9} {usage['frame']:>6} {spilled:>8}"
                )
                if spilled or int(usage["frame"]):
                    problems.append(f"{usage['kernel']} on {gpu}: spills or has a stack frame")
    names = {f"{source.stem}.{VIRTUAL}.ptx" for source in sources}
    problems += [f"{file.relative_to(ROOT)} has no source" for file in PTX.glob("*.ptx") if file.name not in names]
    if problems or not arguments.check:
        print("\n".join(costs))
    if problems:
        sys.exit("\n".join(problems))
    if arguments.check:
        kernels = (len(costs) - 1) // len(GPUS)
        print(f"ok PTX of {kernels} kernels, nothing spills on {', '.join(GPUS)}")


if __name__ == "__main__":
    main()
