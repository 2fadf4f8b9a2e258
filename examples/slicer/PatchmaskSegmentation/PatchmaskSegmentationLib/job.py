"""patchmask as a process in the background: started, followed and stopped without blocking the caller.

    segment_command(...) --> Job: process --stdout--> thread: the fraction that is done
                                          --stderr--> thread: the line that says what failed
"""

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Optional, Sequence


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
    pixel_mm: float = 0,
    resample: bool = True,
    threshold: float = 0,
) -> list[str]:
    """The command line of the Python package `patchmask`: the one place that knows it. 0: the model's."""
    command = [python, "-m", "patchmask", "segment", str(scan), str(mask), "--slicer-progress", "--quiet"]
    command += ["--model", str(model), "--report", str(report)]
    command += ["--fill", fill, "--device", device]
    for name, value in (("--stride", stride), ("--pixel-mm", pixel_mm), ("--threshold", threshold)):
        if value:
            command += [name, str(value)]
    if not resample:
        command.append("--no-resample")
    if roi is not None:
        command += ["--roi", str(roi)]
    return command


def read_lesion_class(report: Path) -> int:
    """Which class number of the mask is the lesion's, according to the report of the run."""
    return int(json.loads(report.read_text(encoding="utf-8"))["options"]["lesion_class"])


class Job:
    """One run of a command. `state` goes from "running" to "succeeded", "failed" or "cancelled" once; all of it may
    be asked from any thread at any time."""

    GRACE_SECONDS = 2.0  # between asking a process to stop and ending it

    _PROGRESS = re.compile(r"<filter-progress>(\d\.\d+)</filter-progress>")

    def __init__(self, command: Sequence[str]):
        self._fraction: Optional[float] = None
        self._last_error = ""
        self._cancelled = False
        # A session of its own, so that signals reach all of it: PythonSlicer is a launcher, the interpreter its child.
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_output, self._read_errors)]
        for reader in self._readers:
            reader.start()

    @property
    def state(self) -> str:
        if self._process.poll() is None or any(reader.is_alive() for reader in self._readers):
            return "running"
        if self._process.returncode == 0:
            return "succeeded"
        return "cancelled" if self._cancelled else "failed"

    @property
    def fraction(self) -> Optional[float]:
        """How much is done, 0 to 1; None while the process has not said."""
        return 1.0 if self.state == "succeeded" else self._fraction

    @property
    def error(self) -> str:
        """Why it failed: the last line on stderr; "" while it runs or where it did not fail."""
        if self.state != "failed":
            return ""
        return self._last_error or f"exit status {self._process.returncode}"

    def cancel(self) -> None:
        """Asks the process to stop and ends it where it does not; returns at once."""
        if self.state == "running" and not self._cancelled:
            self._cancelled = True
            self._signal(signal.SIGTERM)
            end = threading.Timer(self.GRACE_SECONDS, self._end)
            end.daemon = True
            end.start()

    def wait(self, timeout: Optional[float] = None) -> str:
        """Blocks until the job is over; the state."""
        self._process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return self.state

    def _end(self) -> None:
        if self.state == "running":
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass  # it has just ended

    def _read_output(self) -> None:
        with self._process.stdout as stream:
            for line in stream:
                found = self._PROGRESS.match(line)
                if found:
                    self._fraction = float(found[1])

    def _read_errors(self) -> None:
        with self._process.stderr as stream:
            for line in stream:
                self._last_error = line.strip() or self._last_error
