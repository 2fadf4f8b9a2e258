"""The interpreter ends while daemon threads are segmenting: the process ends quietly, whatever the moment."""

import subprocess
import sys

import pytest
from conftest import MODEL

PROGRAM = """
import sys, threading, time
import numpy as np
import patchmask

moment, told = float(sys.argv[1]), sys.argv[2] == "told"

def segment():
    volume = np.zeros((60, 256, 256), np.int16)
    with patchmask.Session(patchmask.Model(sys.argv[3]), stride=1, device="cpu", threads=2) as session:
        started.set()
        session.segment(volume, progress=(lambda fraction, stage: None) if told else None)

started = threading.Event()
threading.Thread(target=segment, daemon=True).start()
started.wait()
time.sleep(moment)
"""


@pytest.mark.parametrize("told", ["told", "silent"])
def test_daemon_threads_at_exit(told):
    for number in range(20):
        moment = 0.03 * number
        command = [sys.executable, "-c", PROGRAM, str(moment), told, str(MODEL)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"after {moment} s: {done.returncode} {done.stderr}"
        assert "rethrown" not in done.stderr and "Fatal" not in done.stderr, done.stderr
