"""The command `patchmask`. Each subcommand is a module of this package, named in COMMANDS, with

    def register(subparsers): ...     # adds its parser and sets `run`, a function of the parsed arguments

`run` returns the exit status (None: 0). Heavy packages are imported inside `run`: `patchmask --help` needs none.
A failure is one line on stderr: status 1; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import sys
from typing import Optional, Sequence

from .. import __version__

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
    given = parser().parse_args(words)
    try:
        return given.run(given) or 0
    except UsageError as wrong:
        return _tell(str(wrong), 2)
    except KeyboardInterrupt:
        return _tell("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere, silently
        return 1
    except ModuleNotFoundError as missing:
        return _tell(f"the Python package {missing.name} is missing; pip install 'patchmask[view,cluster]' has all", 1)
    except Exception as failed:
        if logging.getLogger("patchmask").isEnabledFor(logging.DEBUG):
            raise
        return _tell(f"{failed}" or type(failed).__name__, 1)


def _tell(text: str, status: int) -> int:
    print(f"patchmask: {' '.join(text.split())}", file=sys.stderr)
    return status
