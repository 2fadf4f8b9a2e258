"""Compiles kernels/*.cu to the PTX that is committed, kernels/ptx/NAME.compute_80.ptx (or of another virtual
architecture, see VIRTUAL). Needs no GPU, driver or toolkit.

    pip install -r kernels/requirements.txt        the pinned compiler, best in a virtual environment
    python tools/kernels.py                        writes kernels/ptx and prints what each kernel costs: `make kernels`
    python tools/kernels.py --check                compares with what is there, and writes nothing: `make test-ptx`

    for every source:  NVRTC -> PTX, without what depends on the machine
                       ptxas -v for every GPU generation that it is for: registers, shared memory, spills
    a kernel that spills, has a stack frame or waits after each wgmma is an error: it would be slow
"""

import ctypes
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
PTX = KERNELS / "ptx"
# Virtual architecture -> the GPUs for which its PTX is assembled here. compute_90a runs on sm_90 and on nothing else.
GPUS = {"compute_80": ["sm_80", "sm_86", "sm_89", "sm_90"], "compute_90a": ["sm_90a"]}
# Sources that are compiled for another architecture than compute_80.
VIRTUAL = {"conv3_wgmma": "compute_90a"}
# Nothing is fused that the source does not fuse: the intensities have the bits of src/intensity.rs.
OPTIONS = ["--std=c++17", "--fmad=false", f"--include-path={KERNELS}"]


def wheel(path):
    """A file that an nvidia-* wheel unpacked."""
    found = sorted((Path(sysconfig.get_paths()["purelib"]) / "nvidia").glob(path))
    return found[0] if found else sys.exit(f"nvidia/{path}: not there; pip install -r kernels/requirements.txt")


class Nvrtc:
    """NVIDIA's run-time compiler, through ctypes."""

    def __init__(self):
        ctypes.CDLL(str(wheel("cuda_nvrtc/lib/libnvrtc-builtins.so*")), ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(wheel("cuda_nvrtc/lib/libnvrtc.so*")))
        self.program = ctypes.c_void_p()

    def compile(self, source, virtual):
        """PTX of a source file."""
        program = ctypes.byref(self.program)
        created = self.library.nvrtcCreateProgram(program, source.read_bytes(), source.name.encode(), 0, None, None)
        if created != 0:
            sys.exit(f"{source}: nvrtcCreateProgram returned {created}")
        options = [option.encode() for option in (f"--gpu-architecture={virtual}", *OPTIONS)]
        array = (ctypes.c_char_p * len(options))(*options)
        failed = self.library.nvrtcCompileProgram(self.program, len(options), array)
        log = self.text("ProgramLog")
        if failed or log.strip():
            sys.exit(f"{source}: {log}")
        ptx = self.text("PTX")
        self.library.nvrtcDestroyProgram(program)
        return lean(ptx)

    def text(self, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(self.program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(self.program, buffer)
        return buffer.value.decode()


CONSTANT = re.compile(r"\.global \.align \d+ \.u\d+ (\w+) = ")


def lean(ptx):
    """Leaves out the comments at the head, which name the compiler's build, and constants of headers that no code
    reads: the driver would give them device memory."""
    used = Counter(re.findall(r"\w+", ptx))
    unread = lambda line: (constant := CONSTANT.match(line)) and used[constant[1]] == 1
    return "\n".join(line for line in ptx.splitlines() if not line.startswith("//") and not unread(line)).strip() + "\n"


USAGE = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
    r"Used (\d+) registers",
    re.DOTALL,
)


def assemble(ptx, gpu):
    """(kernel, bytes of its stack frame, bytes spilled, registers) of each kernel of a PTX text, as ptxas says."""
    command = [wheel("cuda_nvcc/bin/ptxas"), "-v", f"--gpu-name={gpu}", "-o", "/dev/null", "/dev/stdin"]
    result = subprocess.run(command, input=ptx, capture_output=True, text=True, check=False)
    # "Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...", "setmaxnreg ignored to ..."
    if result.returncode != 0 or "serialized" in result.stderr or "ignored" in result.stderr:
        sys.exit(f"ptxas --gpu-name={gpu}: exit status {result.returncode}\n{result.stderr}")
    found = USAGE.findall(result.stderr)
    if len(found) != ptx.count(".entry "):
        sys.exit(f"ptxas -v is not understood:\n{result.stderr}")
    return sorted(
        (kernel, int(frame), int(stores) + int(loads), int(used)) for kernel, frame, stores, loads, used in found
    )


def shares_registers(ptx, kernel):
    """Threads of a block of a kernel whose warpgroups hand registers to each other (setmaxnreg); None for others."""
    body = next(part for part in ptx.split(".entry ")[1:] if part.startswith(f"{kernel}("))
    return int(re.search(r"\.maxntid (\d+)", body)[1]) if "setmaxnreg" in body else None


def main():
    check = sys.argv[1:] == ["--check"]
    nvrtc, problems, stale = Nvrtc(), [], set(PTX.glob("*.ptx"))
    PTX.mkdir(exist_ok=True)
    costs = [f"{'kernel':<22} {'GPU':<6} {'registers':>9} {'frame':>6} {'spilled':>8}"]
    for source in sorted(KERNELS.glob("*.cu")):
        virtual = VIRTUAL.get(source.stem, "compute_80")
        ptx, committed = nvrtc.compile(source, virtual), PTX / f"{source.stem}.{virtual}.ptx"
        stale.discard(committed)
        if not check:
            committed.write_text(ptx)
        elif not committed.is_file() or committed.read_text() != ptx:
            problems.append(f"{committed.relative_to(ROOT)} is not what {source.name} compiles to")
        for gpu in GPUS[virtual]:
            for kernel, frame, spilled, registers in assemble(ptx, gpu):
                costs.append(f"{kernel:<22} {gpu:<6} {registers:>9} {frame:>6} {spilled:>8}")
                if spilled or frame:
                    problems.append(f"{kernel} on {gpu}: spills or has a stack frame")
                # They wait for ever for what the block did not begin with.
                threads = shares_registers(ptx, kernel)
                if threads and registers != 65536 // threads // 8 * 8:
                    problems.append(f"{kernel} on {gpu}: begins with less than all registers")
    problems += [f"{file.relative_to(ROOT)} has no source" for file in stale]
    if problems or not check:
        print("\n".join(costs))
    if problems:
        sys.exit("\n".join(problems))
    if check:
        print(f"ok the committed PTX; nothing spills on {', '.join(sum(GPUS.values(), []))}")


if __name__ == "__main__":
    main()
