"""The console that commands print to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console

WIDTH_OF_FILES = 120


def make_console() -> Console:
    """As wide as the terminal, or wide enough for every table where the output goes elsewhere."""
    return _console(None, None if sys.stdout.isatty() else WIDTH_OF_FILES)


@contextmanager
def logged(path: Path) -> Iterator[Console]:
    """A console whose output is added to a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        yield _console(file, WIDTH_OF_FILES)


def _console(file: TextIO | None, width: int | None) -> Console:
    # Labels and paths are the user's: brackets in them are no markup.
    return Console(file=file, soft_wrap=True, highlight=False, markup=False, width=width)
