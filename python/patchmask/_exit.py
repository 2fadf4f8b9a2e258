"""Calls that are running when the interpreter ends: cancelled, and waited for.

A daemon thread is ended by the interpreter as soon as it comes back for the interpreter's lock. In the middle of the library's
code, called back to tell of progress, that would abort the process, an application that embeds Python included.
"""

from __future__ import annotations

import atexit
import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

#: Longer than any call takes to hear of a cancel; a progress function that does not return is not waited for any longer.
LONGEST_WAIT_S = 10.0

_changed = threading.Condition()
_running: list[Optional[Callable[[], None]]] = []
_ending = False


@contextmanager
def inside(cancel: Optional[Callable[[], None]] = None) -> Iterator[None]:
    """While the library is at work for this thread; `cancel` makes it return."""
    with _changed:
        if _ending:
            raise RuntimeError("the interpreter is ending: patchmask takes no more calls")
        _running.append(cancel)
    try:
        yield
    finally:
        with _changed:
            _running.remove(cancel)
            _changed.notify_all()


def _end() -> None:
    global _ending
    until = time.monotonic() + LONGEST_WAIT_S
    with _changed:
        _ending = True
        while _running and time.monotonic() < until:
            for cancel in _running:
                if cancel is not None:
                    cancel()
            _changed.wait(0.05)


atexit.register(_end)
