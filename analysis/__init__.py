"""W&B's logs in, tables and figures out; reads what runs left behind and needs no torch.

For notebooks::

    import analysis

    logs = analysis.load(["runs"])
    logs.runs, logs.history  # pandas
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.logs import Logs, load

# Imported when first asked for: pandas, scipy and wandb take seconds that a command's help should not.
_MODULES = {"Logs": "analysis.logs", "load": "analysis.logs"}

__all__ = ["Logs", "load"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'analysis' has no attribute '{name}'")
