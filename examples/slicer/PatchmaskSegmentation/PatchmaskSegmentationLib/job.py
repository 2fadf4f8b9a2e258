"""patchmask as a process in the background: started, followed and stopped without blocking the caller.

    segment_command(...) --> Job: process --stdout--> thread: progress tags, summary
                                          --stderr--> thread: the line that says what failed
"""

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Mapping, Optional, Sequence

PROGRESS_FLAG = "--slicer-progress"


def segment_command(
    python: str,
    scan: Path,
    mask: Path,
    report: Path,
    model: Path,
    stride: int = 0,
    fill: str = "nearest",
    device: str = "auto",
    roi: Optional[Path] = None,
    progress: bool = False,
) -> list[str]:
    """The command line of the Python package `patchmask`: the one place that knows it. Stride 0: the model's."""
    command = [python, "-m", "patchmask", "segment", str(scan), str(mask)]
    command += ["--model", str(model), "--report", str(report)]
    command += ["--fill", fill, "--device", device]
    if stride:
        command += ["--stride", str(stride)]
    if roi is not None:
        command += ["--roi", str(roi)]
    if progress:
        command += [PROGRESS_FLAG]
    return command


def read_lesion_class(report: Path) -> int:
    """Which class number of the mask is the lesion's, according to the report of the run."""
    return int(json.loads(report.read_text(encoding="utf-8"))["options"]["lesion_class"])


def check_package(python: str, env: Optional[Mapping[str, str]] = None) -> bool:
    """Whether the package of this interpreter prints progress tags. Raises RuntimeError where there is no package."""
    try:
        done = subprocess.run(
            [python, "-m", "patchmask", "segment", "--help"], capture_output=True, text=True, env=env, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise RuntimeError(f"{python}: {failed}") from failed
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"{python} cannot run the Python package patchmask: {reason}")
    return PROGRESS_FLAG in done.stdout


class Job:
    """One run of a command. `state` goes from "running" to "succeeded", "failed" or "cancelled" once; all of it may
    be asked from any thread at any time."""

    GRACE_SECONDS = 2.0  # between asking a process to stop and ending it

    _TAG = re.compile(r"</?filter-[a-z-]+>")
    _PROGRESS = re.compile(r"<filter-progress>([^<]*)</filter-progress>")

    def __init__(self, command: Sequence[str], env: Optional[Mapping[str, str]] = None):
        self._fraction: Optional[float] = None
        self._output: list[str] = []
        self._errors: list[str] = []
        self._cancelled = False
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=env,
        )
        self._threads = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def state(self) -> str:
        if self._process.poll() is None or any(thread.is_alive() for thread in self._threads):
            return "running"
        if self._process.returncode == 0:
            return "succeeded"
        return "cancelled" if self._cancelled else "failed"

    @property
    def fraction(self) -> Optional[float]:
        """How much is done, 0 to 1; None while the process has not said."""
        return 1.0 if self.state == "succeeded" else self._fraction

    @property
    def output(self) -> str:
        """What the process printed, without progress tags."""
        return "\n".join(self._output)

    @property
    def error(self) -> str:
        """Why it failed: the last line on stderr; "" while it runs or where it succeeded."""
        if self.state != "failed":
            return ""
        return self._errors[-1] if self._errors else f"exit status {self._process.returncode}"

    def cancel(self) -> None:
        """Asks the process to stop and ends it where it does not; returns at once."""
        if self._process.poll() is None:
            self._cancelled = True
            self._process.terminate()
            threading.Thread(target=self._end, daemon=True).start()

    def wait(self, timeout: Optional[float] = None) -> str:
        """Blocks until the job is over; the state."""
        self._process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return self.state

    def _end(self) -> None:
        try:
            self._process.wait(self.GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read_output(self) -> None:
        with self._process.stdout as stream:
            for line in stream:
                found = self._PROGRESS.search(line)
                if found:
                    try:
                        self._fraction = min(max(float(found[1]), 0.0), 1.0)
                    except ValueError:
                        pass
                elif not self._TAG.search(line) and line.strip():
                    self._output.append(line.rstrip())

    def _read_errors(self) -> None:
        with self._process.stderr as stream:
            for line in stream:
                if line.strip():
                    self._errors.append(line.strip())
