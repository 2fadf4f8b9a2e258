"""Compiles kernels/*.cu to the PTX that is committed, kernels/ptx/NAME.compute_80.ptx (or of another virtual architecture,
see VIRTUAL). Needs no GPU, driver or toolkit.

    pip install -r kernels/requirements.txt        the pinned compiler, best in a virtual environment
    python tools/kernels.py                        writes kernels/ptx and prints what each kernel costs
    python tools/kernels.py --check                compares with what is there instead, and writes nothing

`make kernels` and `make test-ptx` do both.

    for every source:  NVRTC -> PTX, without what depends on the machine
                       ptxas -v for every GPU generation that it is for: registers, shared memory, spills
    a kernel that spills, has a stack frame or waits after each wgmma is an error: it would be slow
"""

import argparse
import ctypes
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
PTX = KERNELS / "ptx"
# Virtual architecture -> the GPUs for which its PTX is assembled here. compute_90a runs on sm_90 and on nothing else.
GPUS = {"compute_80": ["sm_80", "sm_86", "sm_89", "sm_90"], "compute_90a": ["sm_90a"]}
# What a source is compiled for, where not for every GPU from sm_80 on.
VIRTUAL = {"conv3_wgmma": "compute_90a"}
# Nothing is fused that the source does not fuse: the intensities have the bits of src/intensity.rs.
OPTIONS = ["--std=c++17", "--fmad=false", f"--include-path={KERNELS}"]


def virtual_of(source):
    return VIRTUAL.get(source.stem, "compute_80")


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
            options = [f"--gpu-architecture={virtual_of(source)}", *OPTIONS]
            array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
            failed = self.library.nvrtcCompileProgram(program, len(options), array)
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


CONSTANT = re.compile(r"\.global \.align \d+ \.u\d+ (\w+) = ")


def lean(ptx):
    """Leaves out the comments at the head, which name the compiler's build, and constants of headers that no code reads: the
    driver would give them device memory."""
    used = Counter(re.findall(r"\w+", ptx))
    unread = lambda line: (constant := CONSTANT.match(line)) and used[constant[1]] == 1
    return "\n".join(line for line in ptx.splitlines() if not line.startswith("//") and not unread(line)).strip() + "\n"


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
    # "Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...", "setmaxnreg ignored to ..."
    if result.returncode != 0 or "serialized" in result.stderr or "ignored" in result.stderr:
        sys.exit(f"ptxas --gpu-name={gpu}: exit status {result.returncode}\n{result.stderr}")
    found = [match.groupdict(default="0") for match in USAGE.finditer(result.stderr)]
    if len(found) != ptx.count(".entry "):
        sys.exit(f"ptxas -v is not understood:\n{result.stderr}")
    return sorted(found, key=lambda usage: usage["kernel"])


def shares_registers(ptx, kernel):
    """Threads of a block of a kernel whose warpgroups hand registers to each other (setmaxnreg); None for others."""
    body = next(part for part in ptx.split(".entry ")[1:] if part.startswith(f"{kernel}("))
    return int(re.search(r"\.maxntid (\d+)", body)[1]) if "setmaxnreg" in body else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    arguments = parser.parse_args()
    nvrtc = Nvrtc()
    problems = []
    if not arguments.check:
        PTX.mkdir(exist_ok=True)
    sources = sorted(KERNELS.glob("*.cu"))
    costs = [f"{'kernel':<22} {'GPU':<6} {'registers':>9} {'frame':>6} {'spilled':>8}"]
    for source in sources:
        ptx = lean(nvrtc.compile(source))
        committed = PTX / f"{source.stem}.{virtual_of(source)}.ptx"
        if not arguments.check:
            committed.write_text(ptx)
        elif not committed.is_file() or committed.read_text() != ptx:
            problems.append(f"{committed.relative_to(ROOT)} is not what {source.name} compiles to")
        for gpu in GPUS[virtual_of(source)]:
            for usage in assemble(ptx, gpu):
                spilled = int(usage["stores"]) + int(usage["loads"])
                costs.append(
                    f"{usage['kernel']:<22} {gpu:<6} {usage['registers']:>9} {usage['frame']:>6} {spilled:>8}"
                )
                if spilled or int(usage["frame"]):
                    problems.append(f"{usage['kernel']} on {gpu}: spills or has a stack frame")
                # They wait for ever for what the block did not begin with.
                threads = shares_registers(ptx, usage["kernel"])
                if threads and int(usage["registers"]) != 65536 // threads // 8 * 8:
                    problems.append(f"{usage['kernel']} on {gpu}: begins with less than all registers")
    names = {f"{source.stem}.{virtual_of(source)}.ptx" for source in sources}
    problems += [f"{file.relative_to(ROOT)} has no source" for file in PTX.glob("*.ptx") if file.name not in names]
    if problems or not arguments.check:
        print("\n".join(costs))
    if problems:
        sys.exit("\n".join(problems))
    if arguments.check:
        print(f"ok PTX of {len(sources)} sources, nothing spills on {', '.join(sum(GPUS.values(), []))}")


if __name__ == "__main__":
    main()
