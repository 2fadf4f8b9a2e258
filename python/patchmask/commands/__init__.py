"""The command `patchmask`. Each subcommand is a module of this package, named in COMMANDS, with

    def register(subparsers): ...     # adds its parser and sets `run`, a function of the parsed arguments

`run` returns the exit status (None: 0). Heavy packages are imported inside `run`: `patchmask --help` needs none.
A failure is one line on stderr: status 1; 2 for wrong usage, values of options included; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import logging
import os
import re
import sys
from typing import Optional, Sequence

from .. import InvalidArgument, __version__

# One name a line. A command whose module is not shipped is left out of the help.
COMMANDS = (
    "segment",
    "batch",
    "view",
    "metrics",
    "convert",
)


class UsageError(Exception):
    """Arguments that do not go together: one line on stderr, exit status 2."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="patchmask", description="Lesion masks from CT volumes.")
    top.add_argument("--version", action="version", version=f"patchmask {__version__}")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        if importlib.util.find_spec(f"{__name__}.{name}") is not None:
            importlib.import_module(f"{__name__}.{name}").register(subparsers)
    return top


def main(words: Optional[Sequence[str]] = None) -> int:
    given = parser().parse_args(joined(sys.argv[1:] if words is None else words))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be of any bytes
    try:
        return given.run(given) or 0
    except (UsageError, InvalidArgument) as wrong:
        return _tell(str(wrong), 2)
    except KeyboardInterrupt:
        return _tell("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere, silently
        return 1
    except ModuleNotFoundError as missing:
        name = (missing.name or "").split(".")[0]
        return _tell(f"the Python package {name} is missing: pip install {name}", 1)
    except Exception as failed:
        if logging.getLogger("patchmask").isEnabledFor(logging.DEBUG):
            raise
        return _tell(f"{failed}" or type(failed).__name__, 1)


def joined(words: Sequence[str]) -> list[str]:
    """`--window -160,240` as `--window=-160,240`: argparse takes a word with a minus for an option."""
    result: list[str] = []
    for word in words:
        if result and re.fullmatch(r"--\w[\w-]*", result[-1]) and re.match(r"-[\d.]", word):
            result[-1] += f"={word}"
        else:
            result.append(word)
    return result


def warn(path: object, notes: Sequence[str]) -> None:
    """What is doubtful about a file but does not stop the command, a line each on stderr."""
    for note in notes:
        _tell(f"{path}: {note}", 0)


def _tell(text: str, status: int) -> int:
    print(f"patchmask: {' '.join(text.split())}", file=sys.stderr)
    return status
