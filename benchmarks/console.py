"""The console that commands print to, and the tables that they print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_OF_FILES = 120


def make_console() -> Console:
    """As wide as the terminal, or wide enough for every table where the output goes elsewhere."""
    return _console(None, None if sys.stdout.isatty() else WIDTH_OF_FILES)


def make_table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """A table in the look of all commands, to be filled; further columns may have settings of their own.

    Args:
        columns: of words.
        numbers: columns behind them.
    """
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def note(console: Console, what: str) -> None:
    """Say what whoever reads results should know."""
    console.print(f"note: {what}", style="yellow")


def warn(console: Console, what: str) -> None:
    """Say what may be wrong, and what was done about it."""
    console.print(f"warning: {what}", style="yellow")


@contextmanager
def logged(path: Path) -> Iterator[Console]:
    """A console whose output is added to a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        yield _console(file, WIDTH_OF_FILES)


def _console(file: TextIO | None, width: int | None) -> Console:
    # Labels and paths are the user's: brackets in them are no markup.
    return Console(file=file, soft_wrap=True, highlight=False, markup=False, width=width)
