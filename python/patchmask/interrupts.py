"""Ctrl-C during a call of the library.

Python runs signal handlers between instructions of its own, and during a call those are the instructions of the
progress callback. An exception raised at the very entry of a callback has nobody to catch it: ctypes would print
and forget it, and Ctrl-C with it. So for the time of a call the handlers that Python has are wrapped: what they
raise is kept, the callback sees it and cancels the call, and it is raised again when the library has returned.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Optional


class Interrupts:
    """A context for one call: `pending` is what a handler (of Ctrl-C, of SIGTERM) has raised so far.

    Leaving the context raises it. Does nothing outside the main thread, where Python runs no handlers.
    """

    def __init__(self) -> None:
        self.pending: Optional[BaseException] = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._wrap(handler))
        return self

    def _wrap(self, handler: Any) -> Any:
        def keep(number: int, frame: Optional[FrameType]) -> None:
            try:
                handler(number, frame)
            except BaseException as raised:
                self.pending = raised

        return keep

    def __exit__(
        self, kind: Optional[type[BaseException]], raised: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.pending is not None:
            raise self.pending from None
