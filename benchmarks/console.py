"""The console that commands print to."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH_OF_FILES = 120


def make_console() -> Console:
    """As wide as the terminal, or wide enough for every table where the output goes elsewhere."""
    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    # Labels and paths are the user's: brackets in them are no markup.
    return Console(soft_wrap=True, highlight=False, markup=False, width=width)
