"""torchvision, importable beside a torch built without CUDA. All imports of torchvision go through here.

The wheel on the package index is built against CUDA torch. Beside a CPU-only torch its operator library does not
load, and its import fails with "operator torchvision::nms does not exist" when it describes the detection
operators. Declaring their schemas is enough, since no detection operator is used here.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # operators live as long as this does


def torchvision() -> ModuleType:
    """The package torchvision with its module `datasets` loaded."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _declare_operators()
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left behind
    importlib.import_module("torchvision.datasets")
    return importlib.import_module("torchvision")


def _declare_operators() -> None:
    global _library
    if _library is None:
        _library = torch.library.Library("torchvision", "DEF")
        for schema in _MISSING_OPERATORS:
            _library.define(schema)
