"""W&B's logs in, tables and figures out; reads what runs left behind and needs no torch.

For notebooks::

    import analysis

    logs = analysis.load(["runs", "me/project"])
    logs.runs, logs.history  # pandas
    tables = analysis.compare(logs, analysis.Layout(methods=["kd", "aftkd"], compare="kd"))
    tables  # which a notebook shows; tables.render("latex") is one of the formats of the command
    analysis.select(logs.runs).cells  # which runs share a cell, for figures of one's own
    analysis.save(logs, "logs.parquet")
    analysis.figure(logs, "gain", methods=["kd", "aftkd", "none"])  # a matplotlib Figure

The fields of `Layout` are the keys of the command `analysis.table`, whose `help` explains them; settings of
`figure` beyond the kind are those of `analysis.plot`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import benchmarks  # noqa: F401, which sees to Ctrl-C while a command is imported

if TYPE_CHECKING:
    from analysis.logs import Logs, load
    from analysis.parquet import save
    from analysis.plot import figure
    from analysis.selection import Selection, select
    from analysis.settings import Layout
    from analysis.tables import Tables, compare

# Imported when first asked for: pandas, scipy and wandb take seconds that a command's help should not.
_MODULES = {
    "Layout": "analysis.settings",
    "Logs": "analysis.logs",
    "Selection": "analysis.selection",
    "Tables": "analysis.tables",
    "compare": "analysis.tables",
    "figure": "analysis.plot",
    "load": "analysis.logs",
    "save": "analysis.parquet",
    "select": "analysis.selection",
}

__all__ = ["Layout", "Logs", "Selection", "Tables", "compare", "figure", "load", "save", "select"]


def __dir__() -> list[str]:
    """With what is imported when first asked for, for completion and `help`; which would tell of these two."""
    return sorted({*globals(), *__all__} - {"__dir__", "__getattr__"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'analysis' has no attribute '{name}'")
