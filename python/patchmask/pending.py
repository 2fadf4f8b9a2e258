"""Outputs appear complete or not at all: under temporary names beside their places, then renamed."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path


class Pending:
    """Files that appear together: written under temporary names beside their places, renamed by `commit`.

    Names say which process of which host writes them, so that what a killed one has left can be told and removed.
    """

    def __init__(self) -> None:
        self._temporary: dict[Path, Path] = {}  # final place -> where it is until then

    def place(self, path: Path) -> Path:
        """The temporary name for `path`; made now, so that a folder that cannot be written is known at once."""
        if path not in self._temporary:
            temporary = path.with_name(f".partial-{socket.gethostname()}-{os.getpid()}-{path.name}")
            try:
                temporary.touch()
            except OSError as failed:
                there = path.parent.is_dir()
                reason = failed.strerror if there else f"there is no folder {path.parent}"
                raise OSError(f"{path}: cannot be written: {reason}") from None
            self._temporary[path] = temporary
        return self._temporary[path]

    def text(self, text: str, path: Path) -> None:
        self.place(path).write_text(text, encoding="utf-8")

    def commit(self) -> None:
        """Renames in the order of `place`; the last one is what says that all are there."""
        for path, temporary in self._temporary.items():
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        self._temporary = {}

    def __enter__(self) -> Pending:
        return self

    def __exit__(self, *_: object) -> None:
        for temporary in self._temporary.values():
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path, old_seconds: float = 86400) -> None:
    """Removes what killed processes have left of `path`: those of this host that are gone, and any that are old."""
    start = f".partial-{socket.gethostname()}-"
    for left in path.parent.glob(f".partial-*-{path.name}"):
        writer = left.name.removeprefix(start).split("-", 1)[0] if left.name.startswith(start) else ""
        try:
            dead = writer.isdigit() and not _alive(int(writer))
            if dead or time.time() - left.stat().st_mtime > old_seconds:
                left.unlink()
        except FileNotFoundError:
            pass


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
